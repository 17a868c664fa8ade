"""The file of tuned settings: written and read back, its front, what is refused, and names with chosen settings."""

import json
from pathlib import Path

import pytest

from hpa_bench.config import split_settings
from hpa_bench.errors import UserError
from hpa_bench.results.tuned import objective, read_tuned
from tests.support.tuned import method, trial, tuned


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    said = tuned(l2=method(trial(50, 40), trial(60, 10, s=1e-05), s=1e-05))
    said.write(tmp_path / "new" / "toy.json")

    assert read_tuned(tmp_path / "new" / "toy.json") == said


def test_chosen_settings_follow_the_defaults() -> None:
    said = tuned(l2=method(s=1e-05), ewc=method(), hpa=method(p_max=30.0, selection="full"))

    names = said.with_chosen(["l2", "ewc", "hpa", "seqft", "l2:s=3"])

    assert names == ["l2", "l2:s=1e-05", "ewc", "hpa", 'hpa:p_max=30.0:selection="full"', "seqft", "l2:s=3"]
    assert split_settings(names[4]) == ("hpa", {"p_max": 30.0, "selection": "full"})
    assert split_settings(names[1]) == ("l2", {"s": 1e-05})


def test_the_objective_leaves_out_what_a_suite_has_not() -> None:
    assert objective({"ap": 70.0, "masr": 20.0, "over_refusal": 5.0, "bwt": -9.0}) == 45.0
    assert objective({"ap": 70.0}) == 70.0


def test_the_front_holds_what_no_other_beats() -> None:
    trials = [trial(50, 20), trial(60, 30), trial(55, 30), trial(60, 31), trial(40, 20), trial(70, 90)]

    assert method(*trials).front() == [trials[0], trials[1], trials[5]]
    assert method(trials[0], trial(50, 20, s=2)).front() == [trials[0], trial(50, 20, s=2)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read .*expected the file that hpa-bench tune wrote"),
        ("[]", "no file of tuned settings of format 1"),
        ('{"format": 9}', "no file of tuned settings of format 1"),
        ('{"format": 1, "suite": "tiny"}', "The key 'suite_settings' in .* is missing"),
    ],
)
def test_another_file_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "toy.json").write_text(text)
    with pytest.raises(UserError, match=message):
        read_tuned(tmp_path / "toy.json")


def test_the_file_has_what_a_reader_needs(tmp_path: Path) -> None:
    tuned(l2=method(trial(50, 40))).write(tmp_path / "toy.json")

    assert {"suite", "trials", "seeds", "objective", "split", "methods"} <= set(
        json.loads((tmp_path / "toy.json").read_text())
    )
