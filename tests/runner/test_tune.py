"""What is planned before the first trial: every method's share of the budget, on validation rows."""

from pathlib import Path

import pytest

from hpa_bench.errors import UserError
from hpa_bench.runner.design import trial_seeds
from hpa_bench.runner.tune import plan
from hpa_bench.spec import RunOptions, make_spec


def test_every_method_has_the_same_budget_and_the_defaults_go_first(tmp_path: Path) -> None:
    found = plan(RunOptions("tiny", settings=["training.epochs=1"]), ["l2", "seqft", "derpp"], 4, tmp_path)

    assert {name: len(trials) for name, trials in found.trials.items()} == {"l2": 4, "derpp": 4}
    assert found.untuned == {"seqft": "it declares no strength to tune"}
    specs = list(found.wanted.values())
    assert [(spec.method.name, spec.seed) for spec in specs[:3]] == [
        ("l2", trial_seeds(4)[0]),
        ("derpp", trial_seeds(4)[0]),
        ("l2", trial_seeds(4)[1]),
    ]
    assert len(specs) == 8 and all(folder.is_relative_to(tmp_path / "trials") for folder in found.wanted)
    assert {(spec.suite.evaluation.split, spec.suite.training.epochs) for spec in specs} == {("validation", 1.0)}
    assert specs[0].config == make_spec(RunOptions("tiny", "l2")).config != specs[2].config


def test_a_variant_is_tuned_as_it_is_named(tmp_path: Path) -> None:
    found = plan(RunOptions("tiny"), ["random_columns:match=norm"], 3, tmp_path)

    assert list(found.trials) == ["random_columns:match=norm"]
    assert {spec.config.match for spec in found.wanted.values()} == {"norm"}


def test_a_file_of_another_budget_is_not_added_to(tmp_path: Path) -> None:
    first = plan(RunOptions("tiny"), ["l2"], 4, tmp_path)
    assert first.file == tmp_path / "tiny.json" and first.earlier() is None
    first.head().write(first.file)

    same = plan(RunOptions("tiny"), ["ewc"], 4, tmp_path)
    assert same.earlier() == first.head()
    for other, key in (
        (plan(RunOptions("tiny"), ["ewc"], 5, tmp_path), "trials"),
        (plan(RunOptions("tiny", settings=["training.epochs=1"]), ["ewc"], 4, tmp_path), "suite_config"),
    ):
        with pytest.raises(UserError, match=f"has other {key} than this call: use the same, or another --out"):
            other.earlier()
