"""What is refused or told before any time is spent on training."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hpa_bench.data.samples import Sample
from hpa_bench.errors import UserError
from hpa_bench.plugins import load_plugins
from hpa_bench.runner.inputs import RunData
from hpa_bench.runner.setup import Base, _check_engine, _unknown_words
from hpa_bench.spec import RunOptions, make_spec
from tests.support.models import word_tokenizer

ALONE = """
from hpa_bench import Engine

class Alone(Engine):
    name = "all_alone"

    def generate(self, requests, on_progress=None):
        raise AssertionError
"""


def warnings(tokenizer: Any, **answers: list[str]) -> list[str]:
    training = {
        task: [Sample(f"{task}/{index}", task, "what is this ?", answer, []) for index, answer in enumerate(given)]
        for task, given in answers.items()
    }
    base = Base(None, tokenizer, cast(Any, None), cast(Any, None), None)
    return _unknown_words(base, cast(RunData, SimpleNamespace(training=training)))


def test_answers_with_unknown_words_are_told_by_task() -> None:
    assert warnings(word_tokenizer(), known=["red", "a green house"], none=[]) == []
    assert warnings(word_tokenizer(), known=["red"], odd=["red", "a zebra", "a zebra", "zebra"]) == [
        "2 of 3 different training answers of 'odd' hold words that the model's tokenizer reads as <unk>, such as"
        " 'a zebra': they cannot be learned."
    ]


def test_a_tokenizer_that_knows_every_word_warns_of_nothing() -> None:
    tokenizer = word_tokenizer()
    tokenizer.unk_token = None

    assert warnings(tokenizer, odd=["zebra"]) == []


@pytest.fixture
def alone(tmp_path: Path) -> str:
    """The name of a stranger's engine."""
    path = tmp_path / "alone.py"
    path.write_text(ALONE)
    load_plugins([path])
    return "all_alone"


def test_an_engine_of_one_process_is_refused_in_several(alone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec(RunOptions("tiny", "seqft", engine=alone))
    _check_engine(spec, "cpu")

    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"^evaluation\.engine=all_alone generates in one process only and 2 were"):
        _check_engine(spec, "cpu")


@pytest.mark.parametrize("engine", ["auto", "hf"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_hugging_faces_engine_is_that_of_several(engine: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")

    _check_engine(make_spec(RunOptions("tiny", "seqft", engine=engine)), device)
