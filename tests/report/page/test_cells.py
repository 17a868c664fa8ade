"""Cells and headings as the page's templates take them."""

from hpa_bench.report.page import cells
from hpa_bench.results.measures import ALL, Cell, Series
from hpa_bench.results.update import update_series


def test_a_heading_says_whose_samples_stand_behind_its_numbers():
    head = cells.head(Series("toy_ad", "task", "", "accuracy"))

    assert (head["of"], head["kind"], head["judge"], head["better"]) == ("toy_ad", "task", "", "↑")


def test_a_cell_has_the_digits_of_its_metric():
    cell = Cell(0.1234, 0, 0.1, 0.2, seeds=2)

    assert cells.shown(cell, update_series("update_kl"))["text"] == "0.123"
    assert cells.shown(cell, Series(ALL, "task", "", "ap"))["text"] == "0.1"


def test_a_label_becomes_part_of_a_files_name():
    assert cells.slug("hpa (p_max=5.0)") == "hpa-p-max-5-0"
