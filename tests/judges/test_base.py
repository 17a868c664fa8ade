"""What all judges share: how they are named, configured and stored."""

import pytest

from hpa_bench.config import split_settings
from hpa_bench.errors import UserError
from hpa_bench.judges.base import Judge, JudgeConfig, file_name, make_judge
from hpa_bench.verdict import REFUSALS


class Options(JudgeConfig):
    model: str = "small"
    strict: bool = False
    seconds: float = 3


class Picky(Judge):
    name = "picky"
    can_say = REFUSALS
    Config = Options
    incidental = frozenset({"seconds"})

    def verdicts(self, rows):
        return ["refused" for _ in rows]


def label(**options):
    return Picky(Options(**options)).label


@pytest.mark.parametrize(
    ("text", "name", "settings"),
    [
        ("keyword", "keyword", {}),
        (
            "openai:base_url=http://localhost:8000/v1:model=llama3:8b:retries=2",
            "openai",
            {"base_url": "http://localhost:8000/v1", "model": "llama3:8b", "retries": 2},
        ),
        (
            "openai:base_url=http://[::1]:80/v1:body={a: 1}",
            "openai",
            {"base_url": "http://[::1]:80/v1", "body": {"a": 1}},
        ),
        ("hpa:p_max=20:p_min=5", "hpa", {"p_max": 20, "p_min": 5}),
    ],
)
def test_a_value_may_hold_colons(text, name, settings):
    assert split_settings(text) == (name, settings)


def test_the_label_is_the_name_and_what_makes_another_judge():
    assert label() == label(model="small") == label(seconds=9) == "picky"
    assert label(model="large", strict=True) == "picky-model=large-strict=true"


def test_labels_are_file_names_and_tell_configurations_apart():
    models = ["a/b", "c/b", "b", "b c", "b_c", "~/models/b/", "x" * 60, "x" * 61, ".."]
    labels = [label(model=model) for model in models]

    assert len(set(labels)) == len(models)
    assert all("/" not in each and len(each) < 80 and file_name(each.partition("=")[2]) for each in labels)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("keywrod", r"Unknown judge 'keywrod'\. Did you mean 'keyword'\?"),
        ("keyword:strict=true", "Unknown key 'strict' of judge 'keyword'"),
        (
            "openai:modle=gpt-4o",
            r"The key 'model' of judge 'openai' is missing: it has no default|Did you mean 'model'\?",
        ),
        ("openai:model=m:base_url=http://me:secret@host/v1", "without user and password"),
        ("openai:model=m:concurrency=0", "Bad value for concurrency of judge 'openai'"),
        ("openai:model", "expected key=value"),
        ("llama_guard:model=./nowhere", r"finds no model folder './nowhere'"),
        ("llama_guard:model=org/guard:engine=hg", r"Unknown engine 'hg'\. Did you mean 'hf'\?"),
        ("vlguard:source=./nowhere.py", r"cannot read nowhere\.py \(No such file or directory\)"),
    ],
)
def test_bad_input_is_one_sentence(text, message):
    with pytest.raises(UserError, match=message) as caught:
        make_judge(text)

    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


def test_the_public_endpoint_needs_a_key(monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(UserError, match="finds no API key: set the environment variable MY_KEY"):
        make_judge("openai:model=m:api_key_env=MY_KEY")
    monkeypatch.setenv("MY_KEY", "sk-1")

    assert make_judge("openai:model=m:api_key_env=MY_KEY").label == "openai-model=m"
