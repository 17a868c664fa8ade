"""What a condition's part of the page holds: no column twice, and every stage of a matrix."""

import pytest

from hpa_bench.report.page.parts import part_of
from tests.support.reports import condition_of
from tests.support.run_folders import TASKS, write_run


@pytest.fixture(scope="module")
def part(tmp_path_factory):
    root = tmp_path_factory.mktemp("part")
    runs = [write_run(root / "runs", name, finished=2 if name == "ewc" else None) for name in ("seqft", "hpa", "ewc")]
    return part_of(condition_of(runs), "part", False)


def columns(table):
    return [(head["of"], head["kind"], head["judge"], head["title"]) for head in table["head"]]


@pytest.mark.slow
def test_no_table_repeats_a_column_of_another(part):
    listed = [part["main"], part["continual"], *part["safety"].values(), *part["sets"].values()]
    found = [column for table in listed for column in columns(table) if column[2] or column[1] != "safety"]

    assert len(found) == len(set(found)) > 20
    assert not [title for *_, title in columns(part["continual"]) if title in ("AP", "MFN", "BWT (T−1)")]


@pytest.mark.slow
def test_a_matrix_has_every_stage_and_says_what_is_missing(part):
    *_, whole, cut = sorted(part["matrices"], key=lambda matrix: matrix["label"] == "ewc")

    assert [stage["label"] for stage in whole["rows"]] == ["0 aligned", "1 ad", "2 digits", "3 caption"]
    assert [task for task, _ in whole["tasks"]] == TASKS
    for stage in whole["rows"]:
        assert [cell["trained"] for cell in stage["cells"]] == [task == f"toy_{stage['label'][2:]}" for task in TASKS]
    assert {cell["text"] for cell in cut["rows"][-1]["cells"]} == {"missing"}
    assert "stopped after stage 2 of 3" in cut["rows"][-1]["cells"][0]["about"]
