"""What a suite refuses before anything is loaded."""

import re
from pathlib import Path

import pytest

from hpa_bench.cli.describe import keys_of
from hpa_bench.config import read_yaml
from hpa_bench.errors import UserError
from hpa_bench.spec import RunOptions, make_spec
from hpa_bench.suite import Suite, make_suite

PAGE = Path(__file__).parents[1] / "docs" / "suites.md"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["tasks=[tiny_ad,tiny_fin,tiny_ad]"], "'tiny_ad' stands twice among tasks"),
        (["tasks=[tiny_ad,tiny_unsafe_image]"], "'tiny_unsafe_image' stands among tasks and among safety_sets"),
        (["benign_sets=[tiny_unsafe_image]"], "'tiny_unsafe_image' stands among safety_sets and among benign_sets"),
        (["p_min=20"], r"p_min \(20\) is above p_max \(15\)"),
    ],
)
def test_sets_and_rates_that_contradict_each_other_are_one_sentence(settings: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        make_spec(RunOptions("tiny", "hpa", settings=settings))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("training.learning_rate=.nan", "training.learning_rate in suite 'tiny': Input should be a finite number"),
        ("training.epochs=.inf", "training.epochs"),
        ("training.batch_size=1000000000", r"less than or equal to 65536 \(got 1000000000\)"),
        ("training.scheduler=cosin", "'cosine'"),
        ("training.weight_decay=-1", "greater than or equal to 0"),
        ("lora.rank=0", "lora.rank"),
        ("lora.dropout=1", "less than 1"),
        ("name=../elsewhere", "name"),
        ("safety_sets=[../../set]", "safety_sets.0"),
        ("cpu_threads=0", "cpu_threads"),
    ],
)
def test_impossible_values_are_one_sentence(setting: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        make_spec(RunOptions(method="seqft", settings=[setting]))
    assert "\n" not in str(caught.value)


LAYERS = (f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10))
BOMB = "\n".join(["a0: &a0 [x, x]", *LAYERS, "tasks: *a9"])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"name: caf\xe9\n", r"not UTF-8 text \(byte 9\): save it as UTF-8"),
        (b"[" * 20_000, "more than 50 brackets are open"),
        (b"name: [\n", "not valid YAML"),
        (b"- a list\n", "not a YAML mapping"),
        (f"name: bomb\nmodel: null\n{BOMB}\n".encode(), "Unknown key 'a0'|Bad value for tasks"),
        (b"name: x\nmodel: null\ntasks: [2001-02-30]\n", "not valid YAML"),
        (b"", "not a YAML mapping"),
    ],
)
def test_a_broken_suite_file_is_one_sentence_at_once(content: bytes, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "suite.yaml"
    file.write_bytes(content)

    with pytest.raises(UserError, match=sentence) as caught:
        make_spec(RunOptions(suite=str(file), method="seqft"))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 2000


def test_the_page_of_suites_has_every_key_as_the_code_has_it() -> None:
    pytest.importorskip("mkdocs")
    from scripts.docs_pages import table

    found = PAGE.read_text(encoding="utf-8").partition("## Every key")[2]

    assert table(list(keys_of(Suite))) in found, "put what scripts/docs_pages.py's table(keys_of(Suite)) returns there"
    named = set(re.findall(r"`([a-z_]+(?:\.[a-z_]+)?)`", found.partition("Keys make a run:")[2].partition("What `")[0]))
    assert len(named) >= 15 and named <= {key.name for key in keys_of(Suite)}


@pytest.mark.parametrize("suite", ["cvit", "smolora", "ucit", "mllm-dcl"])
def test_suites_whose_projects_train_the_projector_train_it(suite: str) -> None:
    training = make_spec(RunOptions(suite, "seqft"), model=False).suite.training

    assert training.also == {"multi_modal_projector": 2e-5}


def test_the_example_of_the_page_of_suites_is_one(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8").partition("```yaml\n")[2].partition("```")[0]

    suite = make_suite(read_yaml(text), tmp_path, "in the example")

    assert suite.tasks == ["invoices", "floor_plans"] and suite.training.also == {"multi_modal_projector": 2e-5}
