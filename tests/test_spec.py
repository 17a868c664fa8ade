import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from hpa_bench.api import read_spec
from hpa_bench.errors import UserError
from hpa_bench.method import Method, methods
from hpa_bench.runner.manifest import planned_manifest
from hpa_bench.spec import RunOptions, RunSpec, check_spec, make_spec
from hpa_bench.suite import bundled_suites

OF_METHODS = {
    "ewc": ["anchor_safety=true", "strength=1e3"],
    "hpa": ["p_max=20", "orthogonal=false"],
    "random_columns": ["match=norm"],
    "replay": ["ratio=0.5", "per_task=3"],
    "safe_delta": ["s=1000", "reference=init"],
    "sppft": ["layers=[1, 2]"],
}
OF_SUITES = [
    "training.epochs=1",
    "training.epochs=2.5",
    "training.weight_decay=0",
    "training.learning_rate=1e-4",
    "training.limit=8",
    "lora={rank: 3, alpha: 6}",
    "decoder.layers=self_attn.[qkvo]_proj",
    "cpu_threads=2",
    "judges=[keyword, 'openai:model=a:base_url=http://localhost:8000/v1']",
    "evaluation.engines={vllm: {tensor_parallel_size: 2}}",
    "rules={caption: coin}",
    "data_folders={ucit: ./UCIT}",
    "model=org/model",
    "description=ü and „quotes“",
]
"""Settings of which each spec of the round trip takes some."""


def test_settings_reach_the_method_and_the_suite() -> None:
    spec = make_spec(
        RunOptions("tiny", "hpa:p_min=2", settings=["p_max=20", "training.learning_rate=1e-4", "lora.rank=4"])
    )

    assert (spec.config.p_max, spec.config.p_min) == (20.0, 2.0)
    assert (spec.suite.training.learning_rate, spec.suite.lora.rank) == (1e-4, 4)
    assert spec.changed == {"p_min": 2, "p_max": 20, "training.learning_rate": 1e-4, "lora.rank": 4}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"suite": "tiney"}, r"Unknown suite 'tiney' .*Did you mean 'tiny'\?"),
        ({"suite": "mine.yaml"}, "No suite file mine.yaml"),
        ({"method": "hpaa"}, r"Unknown method 'hpaa'\. Did you mean 'hpa'\?"),
        ({"settings": ["p_maxx=3"]}, r"Unknown key 'p_maxx' in --set .*Did you mean 'p_max'\?"),
        (
            {"settings": ["training.lerning_rate=3"]},
            r"Unknown key 'training.lerning_rate' .*'training.learning_rate'\?",
        ),
        ({"settings": ["p_max=lots"]}, "Bad value for p_max of method 'hpa': Input should be a valid number"),
        ({"settings": ["p_max=101"]}, "Bad value for p_max of method 'hpa': .*less than or equal to 100"),
        ({"settings": ["p_max"]}, "expected key=value"),
        ({"method": "hpa:p_maxx=3"}, r"Unknown key 'p_maxx' of method 'hpa'\. Did you mean 'p_max'\?"),
        ({"order": "1,2"}, "not an order of the suite's 6 tasks"),
        ({"order": "tiny_add,2,3,4,5,6"}, r"Unknown task 'tiny_add' in --order\. Did you mean 'tiny_ad'\?"),
        ({"settings": ["tasks=[tiny_add]"]}, r"Unknown task 'tiny_add' \(neither in .*Did you mean 'tiny_ad'\?"),
        ({"settings": ["safety_data=tiny_safe"]}, r"Unknown task 'tiny_safe' \(neither in"),
        ({"harmful_ratio": 10.0}, "not a share: expected 0 to 1"),
        ({"settings": ["judges=[keywords]"]}, r"Unknown judge 'keywords'\. Did you mean 'keyword'\?"),
        ({"settings": ["evaluation.engine=vlm"]}, "Unknown engine 'vlm'"),
        ({"settings": ["calibration.safety_set=null"]}, "Method 'hpa' needs safety calibration samples"),
        ({"settings": ["rules=strickt"]}, r"Unknown rules 'strickt' in suite 'tiny'\. Did you mean 'strict'\?"),
        ({"settings": ["rules.captoin=strict"]}, r"Unknown kind of answer 'captoin' .*Did you mean 'caption'\?"),
        ({"settings": ["model=null"]}, r"Suite 'tiny' names no model: give one by --set model=PATH"),
        ({"settings": ["model=./nowhere"]}, r"The model folder \S+/nowhere of suite 'tiny' does not exist"),
    ],
)
def test_bad_input_is_one_sentence(arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make_spec(RunOptions(**arguments))

    assert "\n" not in str(caught.value)


def test_a_suite_file_is_read_with_its_own_paths(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "model": "./model", "tasks": ["tiny_ad"]}))

    assert make_spec(RunOptions(str(path), "seqft")).suite.model_path() == str(tmp_path / "model")


def test_how_the_same_steps_are_taken_makes_no_other_run(tmp_path: Path) -> None:
    usual = make_spec(RunOptions("tiny", "seqft"))
    settings = ["training.gradient_checkpointing=true", "training.save_steps=7", "training.workers=2"]
    thrifty = make_spec(RunOptions("tiny", "seqft", settings=settings))

    assert thrifty.suite.training.gradient_checkpointing and thrifty.identity() == usual.identity()
    assert thrifty.default_folder(tmp_path) == usual.default_folder(tmp_path)


def test_paths_of_the_command_line_start_where_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("suites", "model", "tasks"):
        (tmp_path / name).mkdir()
    suite = tmp_path / "suites" / "mine.yaml"
    suite.write_text(yaml.safe_dump({"name": "mine", "model": "org/model", "tasks": ["tiny_ad"]}))
    monkeypatch.chdir(tmp_path)

    settings = ["model=./model", "include_paths=[tasks]", "data_folders={ucit: UCIT}", "unaligned_model=org/other"]
    found = make_spec(RunOptions(str(suite), "seqft", settings=settings)).suite

    assert found.model_path() == str(tmp_path / "model")
    assert found.task_folders()[-1] == tmp_path / "tasks"
    assert found.task_metadata() == {"data_folders": {"ucit": str(tmp_path / "UCIT")}}
    assert found.model_path(found.unaligned_model) == "org/other"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: mine\ntasks: [tiny_ad]\n", "The key 'model' in suite .*mine.yaml'? is missing"),
        ("name: mine\nmodel: a/b\ntasks: [a]\nsafety: [b]\n", r"Unknown key 'safety' .*Did you mean 'safety_sets'\?"),
        ("name: [\n", "is not valid YAML"),
        ("- a\n", "is not a YAML mapping"),
    ],
)
def test_a_bad_suite_file_is_one_sentence(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)

    with pytest.raises(UserError, match=message) as caught:
        make_spec(RunOptions(str(path), "seqft"))

    assert "\n" not in str(caught.value)


def test_the_order_can_be_given_by_number_or_name() -> None:
    tasks = make_spec(RunOptions("tiny")).suite.tasks

    assert make_spec(RunOptions("tiny", order="2,1,3,4,5,6")).suite.tasks == [tasks[1], tasks[0], *tasks[2:]]
    assert make_spec(RunOptions("tiny", order=",".join(reversed(tasks)))).suite.tasks == tasks[::-1]


def test_the_order_takes_the_names_that_tables_show() -> None:
    tasks = make_spec(RunOptions("tiny")).suite.tasks
    order = "fin, ad,tiny_imagenet,flickr30k,5,textvqa"

    assert make_spec(RunOptions("tiny", order=order)).suite.tasks == [tasks[3], tasks[0], *tasks[1:3], *tasks[4:]]
    with pytest.raises(UserError, match=r"Unknown task 'fim' in --order\. Did you mean 'fin'\?"):
        make_spec(RunOptions("tiny", order="fim,1,2,3,5,6"))
    with pytest.raises(UserError, match="not an order of the suite's 6 tasks: name each once"):
        make_spec(RunOptions("tiny", order="ad,tiny_ad,2,3,5,6"))


def test_the_folder_depends_on_every_setting_and_on_nothing_else() -> None:
    def folder(*arguments: object, **options: object) -> Path:
        return make_spec(RunOptions(*arguments, **options)).default_folder(Path("runs"))  # type: ignore[arg-type]

    plain = folder("tiny", "hpa", 0)
    assert plain == folder("tiny", "hpa", 0, settings=["p_max=15"])
    assert plain.parts[:2] == ("runs", "tiny") and plain.name == "seed0"
    assert folder("tiny", "hpa", 1).parent == plain.parent
    others = [
        folder("tiny", "hpa:p_max=20"),
        folder("tiny", "hpa", settings=["training.epochs=7"]),
        folder("tiny", "hpa", order="2,1,3,4,5,6"),
        folder("tiny", "hpa", harmful_ratio=0.05),
    ]
    assert len({plain, *others}) == 5


def test_needs_can_be_left_to_the_run() -> None:
    settings = ["calibration.safety_set=null"]

    assert make_spec(RunOptions("tiny", "hpa", settings=settings), needs=False).suite.calibration.safety_set is None
    with pytest.raises(UserError, match="needs safety calibration samples"):
        make_spec(RunOptions("tiny", "hpa", settings=settings))


def drawn(suite: str, method: str) -> RunSpec:
    """Return a spec with settings that depend on the names alone."""
    draw = Random(f"{suite} {method}")
    settings = draw.sample(OF_SUITES, draw.randrange(len(OF_SUITES)))
    settings += draw.sample(OF_METHODS.get(method, []), draw.randrange(len(OF_METHODS.get(method, [])) + 1))
    count = len(yaml.safe_load((Path("hpa_bench") / "suites" / f"{suite}.yaml").read_text())["tasks"])
    order = ",".join(map(str, draw.sample(range(1, count + 1), count))) if draw.random() < 0.5 else None
    ratio = draw.choice([0, 0.05, 1]) if suite == "tiny" else 0
    options = RunOptions(suite, method, draw.randrange(9), settings, order, ratio, data_root="downloads")
    return make_spec(options, needs=False, model=False)


@pytest.mark.parametrize("suite", bundled_suites())
def test_a_spec_is_read_back_bit_for_bit(suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[1])
    specs = [drawn(suite, method) for method in methods.names()]
    written = [spec.to_json() for spec in specs]
    folders = [spec.default_folder(tmp_path) for spec in specs]
    manifests = [planned_manifest(spec, spec.stages).model_dump_json() for spec in specs]
    monkeypatch.chdir(tmp_path)

    for spec, text, folder, manifest in zip(specs, written, folders, manifests, strict=True):
        read = RunSpec.from_json(text)
        assert read == spec
        assert json.dumps(read.identity()) == json.dumps(spec.identity())
        assert (read.default_folder(tmp_path), read.to_json()) == (folder, text)
        assert planned_manifest(read, read.stages).model_dump_json() == manifest
        assert (read.needs, read.suite.task_metadata()) == (spec.needs, spec.suite.task_metadata())


def test_a_spec_pins_the_defaults_of_its_day() -> None:
    text = make_spec(RunOptions("ucit", "ewc"), model=False).to_json()
    later = text.replace('"weight_decay": 0.0', '"weight_decay": 0.5').replace('"gamma": 1.0', '"gamma": 0.5')
    read = RunSpec.from_json(later)

    assert (read.suite.training.weight_decay, read.config.gamma) == (0.5, 0.5)  # type: ignore[attr-defined]


def test_a_suite_file_keeps_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("model", "tasks", "elsewhere"):
        (tmp_path / name).mkdir()
    suite = {"name": "mine", "model": "./model", "tasks": ["tiny_ad"], "include_paths": ["./tasks"]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(suite))
    monkeypatch.chdir(tmp_path)
    text = make_spec(RunOptions("mine.yaml", "seqft")).to_json()
    monkeypatch.chdir(tmp_path / "elsewhere")
    read = RunSpec.from_json(text)

    assert read.suite.model_path() == str(tmp_path / "model")
    assert read.suite.task_folders()[-1] == tmp_path / "tasks"
    assert read.cwd == tmp_path


def test_what_comes_with_the_package_is_found_where_it_is_installed() -> None:
    assert json.loads(make_spec(RunOptions("tiny", "seqft")).to_json())["suite_folder"] is None


def test_a_method_is_made_once_to_ask_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    method = methods.get("hpa")
    monkeypatch.setattr(method, "__init__", lambda self, config: made.append(setattr(self, "config", config)))
    spec = make_spec(RunOptions("tiny", "hpa"))

    assert spec.needs and spec.needs == spec.needs and len(spec.stages) == 6
    assert len(made) == 1


def test_a_share_is_the_same_as_a_whole_number(tmp_path: Path) -> None:
    whole, share = (make_spec(RunOptions("tiny", "seqft", harmful_ratio=ratio)) for ratio in (1, 1.0))

    assert whole.default_folder(tmp_path) == share.default_folder(tmp_path)


def test_a_setting_of_another_method_is_passed_over() -> None:
    settings = ["p_max=20", "lora.rank=4"]
    spec = make_spec(RunOptions("tiny", "seqft", settings=settings), beside=["hpa:p_min=2", "seqft"])

    assert spec.changed == {"lora.rank": 4}
    with pytest.raises(UserError, match=r"Unknown key 'p_maxx' in --set\. Did you mean 'p_max'\?"):
        make_spec(RunOptions("tiny", "seqft", settings=["p_maxx=20"]), beside=["hpa", "seqft"])
    with pytest.raises(UserError, match=r"Unknown key 'p_max' in --set \(method 'seqft', suite 'tiny'\)"):
        make_spec(RunOptions("tiny", "seqft", settings=settings))


def changed(**values: Any) -> str:
    return json.dumps(json.loads(make_spec(RunOptions("tiny", "hpa")).to_json()) | values)


def without(key: str) -> str:
    written = json.loads(make_spec(RunOptions("tiny", "hpa")).to_json())
    return json.dumps({name: value for name, value in written.items() if name != key})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: make_spec(RunOptions("tiny")).to_json()[:300], r"bad\.json is not valid JSON \(.*whole"),
        (lambda: "[1]", r"bad\.json is not a JSON object"),
        (lambda: changed(format=2), r"bad\.json has the format 2, and this version of hpa-bench reads 1"),
        (lambda: without("format"), r"bad\.json has the format None"),
        (lambda: changed(sede=1), r"Unknown key 'sede' in \S+bad\.json\. Did you mean 'seed'\?"),
        (lambda: without("seed"), r"The key 'seed' in \S+bad\.json is missing"),
        (lambda: changed(seed="one"), r"Bad value for seed in \S+bad\.json"),
        (lambda: changed(method="hpaa"), r"Unknown method 'hpaa'.*Did you mean 'hpa'\?"),
        (lambda: changed(config={"p_maxx": 1}), r"Unknown key 'p_maxx' of method 'hpa' in \S+bad\.json"),
        (lambda: changed(config={"p_max": 101}), r"Bad value for p_max of method 'hpa' in \S+bad\.json"),
        (lambda: changed(suite={"name": "a"}), r"The key 'model' in the suite of \S+bad\.json is missing"),
        (lambda: changed(plugins=["/nowhere/mine.py"]), r"No plugin file /nowhere/mine\.py"),
        (lambda: changed(cwd="/nowhere"), r"planned in /nowhere, which does not exist here"),
        (lambda: changed(harmful_ratio=3), r"--harmful-ratio 3\.0 is not a share"),
    ],
)
def test_a_bad_spec_file_is_one_sentence(content: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text(content())

    with pytest.raises(UserError, match=message) as caught:
        read_spec(str(tmp_path / "bad.json"))
    assert "\n" not in str(caught.value)


def test_a_spec_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--spec \S+/none\.json cannot be read"):
        read_spec(str(tmp_path / "none.json"))
    (tmp_path / "image.json").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(UserError, match=r"--spec \S+/image\.json cannot be read"):
        read_spec(str(tmp_path / "image.json"))


def test_processes_cannot_share_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")

    with pytest.raises(UserError, match="2 processes cannot share standard input"):
        read_spec("-")


def test_a_method_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    class Mine(Method):
        name = "mine"
        kind = "weigths"  # type: ignore[assignment]

    spec = replace(make_spec(RunOptions("tiny", "seqft")), method=Mine)

    with pytest.raises(UserError, match=r"Unknown kind 'weigths' of method 'mine'\. Did you mean 'weights'\?"):
        check_spec(spec)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(UserError, match="--seed -1 is no seed: expected 0 or more"):
        make_spec(RunOptions(seed=-1))
