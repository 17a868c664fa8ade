"""The Markdown tables: costs, marks, and cells that hold a table's own signs."""

import csv
import io
import re

import pytest
from rich.console import Console

from hpa_bench.report import terminal_table, write_report
from hpa_bench.report.conditions import conditions
from hpa_bench.report.markdown import main_table
from hpa_bench.results.runs import read_runs
from tests.support.reports import AP, Visible, condition_of
from tests.support.run_folders import write_run


@pytest.mark.slow
def test_costs_stand_in_tables(page):
    text = Visible(page).text

    assert "Total, s train, s evaluate, s adapt, s Peak memory State Trained parameters" in text
    assert "41.1 24.3 59% 13.2 32% 3.6 9% 667.6 MiB 12.0 KiB 120,000" in text
    main = (page.parent / "tables" / "main.md").read_text()
    assert "| 24.3 | 3.6 | 667.6 MiB | 12.0 KiB | 120,000 |" in main


@pytest.mark.slow
def test_marks_reach_every_form_of_the_main_table(tmp_path):
    runs = read_runs([write_run(tmp_path, f"m{i}", forget=0.2 * i, unsafe=0.1 + 0.3 * i, n=300) for i in range(4)])
    page = write_report(runs, tmp_path / "report")
    console = Console(width=200, file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print(terminal_table(runs))
    (condition,) = conditions(runs)
    best, second = (f"{condition.main[i].final(AP).value:.1f}" for i in (0, 1))

    assert f"<b>{best}</b>" in page.read_text() and f"<u>{second}</u>" in page.read_text()
    lines = (page.parent / "tables" / "main.md").read_text().splitlines()
    assert lines[2].startswith(f"| `m0` | 1 | **{best}** [") and lines[3].startswith(
        f"| `m1` | 1 | <ins>{second}</ins> ["
    )
    assert f"\x1b[1m{best}\x1b[0m" in console.file.getvalue() and f"\x1b[4m{second}\x1b[0m" in console.file.getvalue()
    with (page.parent / "tables" / "results.csv").open() as file:
        marks = {row["method"]: row["mark"] for row in csv.DictReader(file) if row["metric"] == "ap"}
    assert marks == {"m0": "best", "m1": "second", "m2": "", "m3": ""}


def test_a_bar_in_a_label_stays_in_its_cell(tmp_path):
    runs = [write_run(tmp_path, "hpa", config={"a": word}, changed={"a": word}) for word in ("x|y", "z")]

    lines = main_table(condition_of(runs)).splitlines()

    assert lines[2].startswith(r"| `hpa (a=x\|y)` | 1 | ")
    cells = [len(re.findall(r"(?<!\\)\|", line)) for line in lines[:4]]
    assert cells[0] > 10 and len(set(cells)) == 1
