"""`hpa-bench list`."""

from importlib.metadata import entry_points
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpa_bench.cli import app
from hpa_bench.suite import bundled_suites


def listed(*arguments: str) -> dict[str, str]:
    """What is said of each name."""
    result = CliRunner().invoke(app, ["list", *arguments])
    assert result.exit_code == 0, result.output
    return {name: text.strip() for name, _, text in (line.partition(" ") for line in result.output.splitlines())}


@pytest.mark.parametrize("kind", ["methods", "judges", "engines"])
def test_every_registered_name_is_listed_in_order_with_a_sentence(kind: str) -> None:
    found = listed(kind)

    names = {point.name for point in entry_points(group=f"hpa_bench.{kind}")}
    assert names <= found.keys() and list(found) == sorted(found)
    assert all(found[name].endswith(".") and "BROKEN" not in found[name] for name in names)


def test_methods_are_what_is_listed_by_default() -> None:
    assert listed() == listed("methods")


def test_every_bundled_suite_is_listed_with_its_description() -> None:
    found = listed("suites")

    assert list(found) == list(bundled_suites())
    assert found["tiny"].startswith("Six rendered tasks and a LLaVA")


def test_a_broken_plugin_is_listed_beside_the_rest(tmp_path: Path) -> None:
    broken, missing = tmp_path / "broken.py", tmp_path / "missing.py"
    broken.write_text("raise RuntimeError('half \\x1b[31m way')\n")

    found = listed("methods", "--plugin", str(broken), "--plugin", str(missing))

    assert found["broken.py"].startswith("BROKEN: ") and "RuntimeError: half" in found["broken.py"]
    assert "\x1b" not in found["broken.py"]
    assert found["missing.py"].startswith("BROKEN: ") and str(missing) in found["missing.py"]
    assert found.keys() - {"broken.py", "missing.py"} == listed("methods").keys()


def test_what_cannot_be_listed_names_what_can() -> None:
    result = CliRunner().invoke(app, ["list", "tasks"])

    assert result.exit_code == 2
    assert all(kind in result.output for kind in ("methods", "suites", "judges", "engines"))
