"""What leaves in a report and on the terminal, where names hold formulas, escape sequences and markup."""

import csv
import io

import pytest

from hpa_bench.cli.console import make_console
from hpa_bench.redact import csv_cell
from hpa_bench.report import terminal_table, write_report
from hpa_bench.results.runs import read_runs
from tests.support.run_folders import write_run

KEY = "sk-proj-abcdef0123456789"
ODD = f"=1+1 \x1b[2J[/red] [bold] :smile: <b>{KEY}"


@pytest.mark.parametrize("text", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", " =1", "\t=1", "-x", "＝1"])
def test_no_cell_is_a_formula(text):
    assert csv_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", [-3.2, 5, None, "-3.2", "+4", "-1e-05", "-.5", "-12.5%", "-", "–", "hpa", "a=b", ""])
def test_numbers_and_words_are_cells_as_they_are(value):
    assert csv_cell(value) == value


@pytest.fixture
def runs(tmp_path):
    odd = write_run(tmp_path, finished=1, manifest={"suite": ODD, "git_commit": ODD[:10]})
    (odd.path / "FAILED").write_text(ODD)
    return read_runs([odd])


def test_a_report_of_odd_names_acts_nowhere(runs, tmp_path):
    page = write_report(runs, tmp_path / "report")

    for path in [page, *page.parent.glob("tables/*")]:
        text = path.read_text(encoding="utf-8")
        assert "\x1b" not in text and KEY not in text, path
    assert "=1+1 ␛[2J[/red] [bold] :smile: &lt;b&gt;[redacted]" in page.read_text(encoding="utf-8")
    for path in page.parent.glob("tables/*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.reader(file):
                assert not [cell for cell in row if cell[:1] in ("=", "@")], path


def test_the_terminal_shows_odd_names_as_they_are(runs):
    console = make_console()
    console.file = io.StringIO()
    console.print(terminal_table(runs))
    console.print(f"Run: {ODD}")

    said = console.file.getvalue()
    assert "\x1b" not in said and KEY not in said
    assert said.count("=1+1 ␛[2J[/red] [bold] :smile: <b>[redacted]") >= 3


def test_a_terminal_gets_its_own_sequences_and_no_others(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    console = make_console()
    console.file = io.StringIO()
    console.print("a \x1b[2J b", style="bold", highlight=False)

    assert console.file.getvalue() == "\x1b[1ma ␛[2J b\x1b[0m\n"
