"""What is printed is shown as it is, and cannot steer a terminal."""

import io

import pytest
from rich.table import Table
from rich.text import Text

from hpa_bench.cli.console import LOG_WIDTH, make_console


def test_brackets_and_colons_stand_in_names(capsys: pytest.CaptureFixture[str]) -> None:
    make_console().print("[red]seed[/red] :smile: runs/[0]")

    assert capsys.readouterr().out == "[red]seed[/red] :smile: runs/[0]\n"


def test_what_acts_on_a_terminal_is_shown_instead_also_in_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    console = make_console()
    console.print("a\x1b[2Jb")
    table = Table("set")
    table.add_row(Text("c\x1b[31md"))
    console.print(table)

    out = capsys.readouterr().out
    assert "a␛[2Jb" in out and "c␛[31m" in out
    assert "\x1b" not in out


def test_a_key_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    make_console().print("failed with sk-proj-0123456789abcdef")

    assert capsys.readouterr().out == "failed with [redacted]\n"


def test_a_log_is_wider_than_a_terminal_of_unknown_width(capsys: pytest.CaptureFixture[str]) -> None:
    console = make_console()
    row = "word " * 40
    console.print(row)

    assert console.width == LOG_WIDTH
    assert capsys.readouterr().out.count("\n") == 1, "a sentence is one line, however long"


def test_a_terminal_gets_its_own_sequences_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    console = make_console()
    console.file = file = io.StringIO()
    console.print("a \x1b[2J b", style="bold", highlight=False)

    assert file.getvalue() == "\x1b[1ma ␛[2J b\x1b[0m\n"
