"""A stage's files joined by sample id."""

from pathlib import Path
from typing import Any

import pytest

from hpa_bench.errors import UserError
from hpa_bench.files import write_jsonl
from hpa_bench.results.run_folder import StageFolder
from hpa_bench.results.stage_data import read_stage
from tests.support.run_folders import toy_manifest

MANIFEST = toy_manifest(safety_sets=["harm"], benign_sets=["fine"], judges=["keyword"])


def response(name: str, score: float | None = None, text: str = "a cat", **about: str) -> dict[str, Any]:
    return {"id": name, "prompt": "what ?", "target": "", "response": text, "score": score, **about}


def write(folder: Path, **sets: list[dict[str, Any]]) -> StageFolder:
    """A stage of three good sets, some of them replaced."""
    stage = StageFolder(folder / "stage0")
    good = {"ad": [response("b", 0.5), response("a", 1.0)], "harm": [response("y"), response("x")]}
    for name, rows in {**good, "fine": [response("z")], **sets}.items():
        write_jsonl(stage.path / "responses" / f"{name}.jsonl", rows)
    return stage


def refused(stage: StageFolder) -> str:
    with pytest.raises(UserError) as caught:
        read_stage(stage, MANIFEST, 0)
    return str(caught.value)


def test_samples_are_sorted_by_id_and_joined(tmp_path: Path) -> None:
    stage = write(tmp_path)
    stage.write_judgements("keyword", "harm", {"y": "complied", "extra": "refused", "x": "refused"})

    data = read_stage(stage, MANIFEST, 0)

    assert data.ids == {"ad": ["a", "b"], "harm": ["x", "y"], "fine": ["z"]}
    assert {name: scores.tolist() for name, scores in data.scores.items()} == {"ad": [1.0, 0.5]}
    assert data.verdicts == {("keyword", "harm"): ["refused", "complied"]}
    assert data.categories == {} and data.clusters == {}


def test_a_judge_that_was_added_later_is_read_too(tmp_path: Path) -> None:
    stage = write(tmp_path)
    stage.write_judgements("later", "fine", {"z": "refused"})

    assert read_stage(stage, MANIFEST, 0).verdicts == {("later", "fine"): ["refused"]}


def test_a_set_that_a_judge_gave_a_reason_for_is_absent(tmp_path: Path) -> None:
    stage = write(tmp_path)
    stage.write_missing_judgement("keyword", "harm", "The endpoint is away.")

    assert read_stage(stage, MANIFEST, 0).verdicts == {}


def test_incoherent_responses_are_found_in_the_text(tmp_path: Path) -> None:
    rows = [response("c", text="no " * 40), response("b", text=" "), response("a"), response("d", text="?!")]

    data = read_stage(write(tmp_path, harm=rows), MANIFEST, 0)

    assert data.incoherent == {"harm": [False, True, True, True], "fine": [False]}


def test_categories_and_clusters_of_some_samples(tmp_path: Path) -> None:
    rows = [response("d", cluster="q"), response("a", cluster="q", category="fraud"), response("c"), response("b")]

    data = read_stage(write(tmp_path, harm=rows), MANIFEST, 0)

    assert data.categories == {"harm": ["fraud", "none", "none", "none"]}
    first, second, third, fourth = data.clusters["harm"]
    assert first == fourth and len({first, second, third}) == 3


def test_a_cluster_is_the_same_in_two_sets(tmp_path: Path) -> None:
    harm = [response("a", cluster="rob the bank"), response("b", cluster="hack the dog")]

    data = read_stage(write(tmp_path, harm=harm, fine=[response("c", cluster="rob the bank")]), MANIFEST, 0)

    assert data.clusters["harm"].tolist() == [1, 0] and data.clusters["fine"].tolist() == [1]


def test_an_id_that_stands_twice_is_refused(tmp_path: Path) -> None:
    message = refused(write(tmp_path, harm=[response("x"), response("y"), response("x")]))

    assert message == f"{tmp_path}/stage0/responses/harm.jsonl has two responses with the id 'x'."


def test_a_task_without_a_score_is_refused(tmp_path: Path) -> None:
    message = refused(write(tmp_path, ad=[response("a", 1.0), response("b")]))

    assert message == f"{tmp_path}/stage0/responses/ad.jsonl has no score for the id 'b'."


def test_a_set_without_responses_is_refused(tmp_path: Path) -> None:
    assert refused(write(tmp_path, fine=[])) == f"{tmp_path}/stage0/responses/fine.jsonl holds no responses."


def test_a_response_that_a_judge_left_out_is_refused(tmp_path: Path) -> None:
    stage = write(tmp_path)
    stage.write_judgements("keyword", "harm", {"x": "refused"})

    assert refused(stage) == f"{stage.path}/judgements/keyword/harm.jsonl has no verdict for 'y'."
