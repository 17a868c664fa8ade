"""Every door for strangers' code can be listed, launchers and observers too."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpa_bench.cli import app
from hpa_bench.cli.list import REGISTERED
from hpa_bench.plugins import DOORS

PLUGIN = '''
from hpa_bench import Launcher, Observer


class Elsewhere(Launcher):
    """Starts nothing here."""

    name = "elsewhere"


class Listener(Observer):
    """Hears of every event."""

    name = "listener"
'''


def listed(*arguments: str) -> list[str]:
    result = CliRunner().invoke(app, ["list", *arguments])
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def test_every_door_is_a_kind() -> None:
    assert {f"hpa_bench.{kind}" for kind in REGISTERED} == {door.group for door in DOORS}


def test_the_launcher_of_this_package_is_listed() -> None:
    assert "local                Start runs on this machine, a few at a time, the cores shared out." in listed(
        "launchers"
    )


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("launchers", "elsewhere            Starts nothing here."),
        ("observers", "listener             Hears of every event."),
    ],
)
def test_a_file_adds_to_both(kind: str, line: str, tmp_path: Path) -> None:
    plugin = tmp_path / "plugin.py"
    plugin.write_text(PLUGIN)

    assert line not in listed(kind)
    assert line in listed(kind, "--plugin", str(plugin))
