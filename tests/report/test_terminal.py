"""The table on the terminal: its numbers, its reasons, and names as they are."""

import io

import pytest
from rich.console import Console

from hpa_bench.cli.console import make_console
from hpa_bench.report import terminal_table
from hpa_bench.results.runs import read_runs
from tests.support.reports import KEY, ODD, several
from tests.support.run_folders import write_run


@pytest.mark.slow
def test_terminal_table(tmp_path):
    runs = several(tmp_path)
    stopped = write_run(tmp_path, "ewc", finished=1)
    (stopped.path / "FAILED").write_text("out of memory")
    console = Console(width=120, record=True, file=io.StringIO())

    console.print(terminal_table(read_runs([*runs, stopped])))

    text = console.export_text()
    for expected in ("AP", "BWT", "MASR", "DASR", "Over-refusal", "hpa: accuracy after each stage", "0 aligned"):
        assert expected in text
    assert "ewc, seed 0: missing: stopped after stage 1 of 3: out of memory" in text
    assert "nan" not in text.lower()


def test_the_terminal_shows_odd_names_as_they_are(odd_runs):
    console = make_console()
    console.file = io.StringIO()
    console.print(terminal_table(odd_runs))
    console.print(f"Run: {ODD}")

    said = console.file.getvalue()
    assert "\x1b" not in said and KEY not in said
    assert said.count("=1+1 ␛[2J[/red] [bold] :smile: <b>[redacted]") >= 3
