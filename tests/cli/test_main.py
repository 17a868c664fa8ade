"""The command line as a whole: its version, and how it ends when it is stopped."""

import subprocess
import sys
from importlib.metadata import version

import pytest

from hpa_bench import cli


def test_the_version_is_said_and_nothing_else() -> None:
    done = subprocess.run([sys.executable, "-m", "hpa_bench", "--version"], capture_output=True, text=True, check=True)

    assert (done.stdout, done.stderr) == (f"hpa-bench {version('hpa-bench')}\n", "")


def test_a_command_ends_without_a_look_for_garbage() -> None:
    script = "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count() > 0)); import hpa_bench.cli as cli"

    done = subprocess.run(
        [sys.executable, "-c", f"{script}; cli.main()", "--version"], capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines()[1:] == ["True"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--seed", "1"], "stopped; the same command goes on"),
        (["--from-stage", "2"], "stopped; the same command without --from-stage goes on"),
        (["--from-stage=2"], "stopped; the same command without --from-stage goes on"),
        (["--no-resume"], "stopped; the same command without --no-resume goes on"),
    ],
)
def test_who_stops_a_command_hears_how_it_goes_on(
    arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", stopped)
    monkeypatch.setattr(sys, "argv", ["hpa-bench", "run", *arguments])

    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code == 130 and capsys.readouterr().err == f"{sentence}\n"
