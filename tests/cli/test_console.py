"""The console: a terminal's own sequences pass, others are shown."""

import io

from hpa_bench.cli.console import make_console


def test_a_terminal_gets_its_own_sequences_and_no_others(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    console = make_console()
    console.file = io.StringIO()
    console.print("a \x1b[2J b", style="bold", highlight=False)

    assert console.file.getvalue() == "\x1b[1ma ␛[2J b\x1b[0m\n"
