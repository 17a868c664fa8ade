from pathlib import Path

import pytest
import yaml

from hpa_bench.errors import UserError
from hpa_bench.spec import make_spec


def test_settings_reach_the_method_and_the_suite() -> None:
    spec = make_spec("tiny", "hpa:p_min=2", settings=["p_max=20", "training.learning_rate=1e-4", "lora.rank=4"])

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
        make_spec(**arguments)

    assert "\n" not in str(caught.value)


def test_a_suite_file_is_read_with_its_own_paths(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "model": "./model", "tasks": ["tiny_ad"]}))

    assert make_spec(str(path), "seqft").suite.model_path() == str(tmp_path / "model")


def test_how_the_same_steps_are_taken_makes_no_other_run(tmp_path: Path) -> None:
    usual = make_spec("tiny", "seqft")
    settings = ["training.gradient_checkpointing=true", "training.save_steps=7", "training.workers=2"]
    thrifty = make_spec("tiny", "seqft", settings=settings)

    assert thrifty.suite.training.gradient_checkpointing and thrifty.identity() == usual.identity()
    assert thrifty.default_folder(tmp_path) == usual.default_folder(tmp_path)


def test_paths_of_the_command_line_start_where_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("suites", "model", "tasks"):
        (tmp_path / name).mkdir()
    suite = tmp_path / "suites" / "mine.yaml"
    suite.write_text(yaml.safe_dump({"name": "mine", "model": "org/model", "tasks": ["tiny_ad"]}))
    monkeypatch.chdir(tmp_path)

    settings = ["model=./model", "include_paths=[tasks]", "data_folders={ucit: UCIT}", "unaligned_model=org/other"]
    found = make_spec(str(suite), "seqft", settings=settings).suite

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
        make_spec(str(path), "seqft")

    assert "\n" not in str(caught.value)


def test_the_order_can_be_given_by_number_or_name() -> None:
    tasks = make_spec("tiny").suite.tasks

    assert make_spec("tiny", order="2,1,3,4,5,6").suite.tasks == [tasks[1], tasks[0], *tasks[2:]]
    assert make_spec("tiny", order=",".join(reversed(tasks))).suite.tasks == tasks[::-1]


def test_the_folder_depends_on_every_setting_and_on_nothing_else() -> None:
    def folder(*arguments: object, **options: object) -> Path:
        return make_spec(*arguments, **options).default_folder(Path("runs"))  # type: ignore[arg-type]

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

    assert make_spec("tiny", "hpa", settings=settings, needs=False).suite.calibration.safety_set is None
    with pytest.raises(UserError, match="needs safety calibration samples"):
        make_spec("tiny", "hpa", settings=settings)
