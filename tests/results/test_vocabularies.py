"""What judges can say: declared by each, kept by run folders, known or guessed of older ones."""

import pytest

from hpa_bench.judges.base import judges
from hpa_bench.results.runs import Run, load_runs
from hpa_bench.results.vocabularies import BEFORE_DECLARED
from hpa_bench.verdict import COMPLIANCE, REFUSALS, Vocabulary
from tests.support.run_folders import SAFETY, rewrite_manifest, write_run


@pytest.mark.parametrize("name", BEFORE_DECLARED)
def test_what_is_known_of_older_runs_is_what_the_judges_declare(name: str) -> None:
    assert judges.get(name).can_say == BEFORE_DECLARED[name]


def test_every_judge_of_the_package_is_known() -> None:
    assert {name for name in judges.names() if judges.origin(name) == "hpa-bench"} == set(BEFORE_DECLARED)


def test_a_vocabulary_comes_back_from_what_a_folder_keeps() -> None:
    odd = Vocabulary(frozenset({"warned", "helped"}), frozenset({"warned"}))

    assert odd.said() == {"helped": True, "warned": False} and Vocabulary.read(odd.said()) == odd
    assert not odd.tells_compliance and not odd.reads_harm


def test_a_judge_that_could_say_more_than_it_said_keeps_its_kind(tmp_path) -> None:
    write_run(tmp_path, unsafe=-1, benign_sets=())

    frame = load_runs(tmp_path)

    by_judge = {
        judge: set(frame[(frame.judge == judge) & (frame.set == SAFETY[0])].metric) for judge in set(frame.judge)
    }
    assert "complied" in by_judge["toy_compliance"] and "complied" not in by_judge["keyword"]


def test_of_an_older_run_the_packages_judges_are_known_and_others_are_guessed(tmp_path) -> None:
    run = write_run(tmp_path)
    refusing = write_run(tmp_path / "refusing", unsafe=-1, benign_sets=())
    for each in (run, refusing):
        rewrite_manifest(each, format=1, verdicts={})

    assert Run(run).vocabularies["keyword"] == Run(refusing).vocabularies["keyword"] == Vocabulary(REFUSALS)
    assert Run(run).vocabularies["toy_compliance"].words == COMPLIANCE
    assert Run(refusing).vocabularies["toy_compliance"].tells_compliance, "where all is refused, nothing complied"
