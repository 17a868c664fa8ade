"""The overlap of kept columns with those of the largest update, as the report shows it."""

import pytest

from hpa_bench.report.columns import overlap_columns
from hpa_bench.report.overlap import keeping, overlap_figure, overlap_table
from tests.support.reports import Visible, condition_of, report_of, setting, table
from tests.support.run_folders import write_run, write_updates


def kept(root):
    runs = {}
    for method, common in (("hpa", (3, 1)), ("random_columns", (1, 0)), ("magnitude_columns", (4, 4)), ("seqft", ())):
        for seed in (0, 1):
            runs[method, seed] = write_run(root, method, seed)
            write_updates(runs[method, seed], common=common)
    return list(runs.values())


@pytest.mark.slow
def test_every_block_has_a_row_and_every_method_that_keeps_columns_but_one_a_column(tmp_path):
    condition = condition_of(kept(tmp_path))

    found = overlap_table(condition)

    assert found["methods"] == ["hpa", "random_columns"]
    assert [group.label for group in keeping(condition)] == found["methods"]
    assert [name for name, _ in found["rows"]] == ["all blocks", "block 0", "block 1"]
    texts = [[(cell["text"], chance["text"]) for cell, chance in cells] for _, cells in found["rows"]]
    assert texts == [
        [("50.0", "20.0"), ("12.5", "20.0")],
        [("75.0", "20.0"), ("25.0", "20.0")],
        [("25.0", "20.0"), ("0.0", "20.0")],
    ]
    assert overlap_figure(condition) is not None


def test_blocks_stand_in_the_models_order(tmp_path):
    run = write_run(tmp_path)
    write_updates(run, common=[1] * 12)

    assert [series.set for series in overlap_columns(condition_of([run]))][1:] == [f"block {i}" for i in range(12)]


@pytest.mark.slow
def test_the_tables_have_every_linear_layer_of_every_setting(tmp_path):
    page = report_of([*kept(tmp_path / "runs"), setting(tmp_path / "runs", 0, p_max=30.0)], tmp_path / "report")

    rows = table(page, "overlap")

    assert {row["method"] for row in rows} == {"hpa", "random_columns", "magnitude_columns"}
    (row,) = [r for r in rows if (r["method"], r["block"], r["metric"]) == ("hpa", "1", "column_overlap")]
    assert (row["set"], row["layer"], row["value"], row["seeds"]) == ("layers.1.q_proj", "q_proj", "25.0", "2")
    assert {row["value"] for row in rows if row["metric"] == "chance_overlap"} == {"20.0"}
    bare = report_of([write_run(tmp_path / "bare", "seqft")], tmp_path / "without")
    assert not (bare.parent / "tables" / "overlap.csv").exists()


def test_where_nobody_keeps_columns_there_is_nothing(tmp_path):
    run = write_run(tmp_path, "seqft")
    write_updates(run)
    condition = condition_of([run])

    assert overlap_table(condition) is None and overlap_figure(condition) is None


@pytest.mark.slow
def test_the_page_has_what_edits_leave(tmp_path):
    runs = [
        *kept(tmp_path / "runs"),
        write_run(tmp_path / "runs", "zero_shot", stages=[]),
        write_run(tmp_path / "runs", "l2"),
    ]
    page = report_of(runs, tmp_path / "report")

    text = Visible(page).text
    assert "Which columns are kept" in text and "32 calibration samples a stage" in text and "nan" not in text.lower()
    assert (page.parent / "figures" / "column-overlap.svg").exists()
    rows = {(row["method"], row["metric"], row["set"]): row for row in table(page, "results")}
    assert rows["hpa", "update_kept", "all"]["value"] == "80.0" and rows["hpa", "update_kl", "all"]["value"] == "0.1"
    assert rows["hpa", "column_overlap", "block 0"]["value"] == "75.0"
    assert rows["hpa", "chance_overlap", "all"]["value"] == "20.0"
    assert rows["l2", "update_kl", "all"]["missing"] == "missing: not measured"
    assert rows["zero_shot", "update_kl", "all"]["missing"].startswith("undefined: no stage trains one task")
    by_stage = [row for row in table(page, "stages") if (row["method"], row["metric"]) == ("hpa", "update_kept")]
    assert [(row["stage"], row["set"]) for row in by_stage] == [
        ("1", "toy_ad"),
        ("2", "toy_digits"),
        ("3", "toy_caption"),
    ]
    main = (page.parent / "tables" / "main.md").read_text()
    assert "Update kept | KL of the edit, nats | MFT ↑" in main and "| 0.100 [0.100, 0.100] |" in main
