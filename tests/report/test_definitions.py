"""The paper's numbers, held to one another."""

import pytest

from hpa_bench.report.definitions import PAPER, PAPER_HEADER


def test_each_change_in_safety_is_from_the_aligned_model():
    rows = [dict(zip(PAPER_HEADER, row, strict=True)) for row in PAPER]
    aligned = rows[0]["MASR"]

    assert rows[0]["Method"] == "zero-shot (aligned)" and rows[0]["DASR"] is None
    for row in rows[1:]:
        assert row["DASR"] == pytest.approx(row["MASR"] - aligned, abs=0.011), row  # Each is rounded by itself.


def test_the_papers_rows():
    said = {row[:2]: row[2:] for row in PAPER}

    assert len(said) == len(PAPER)
    assert said["original", "SeqFT"] == (65.68, -25.62, 42.56, 39.70)
    assert said["original", "HPA"] == (75.73, -4.87, 4.75, 1.89)
    assert said["0.1% harmful", "HPA"] == (76.62, -3.88, 7.22, 4.36)
