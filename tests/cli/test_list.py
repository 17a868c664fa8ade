"""`hpa-bench list`."""

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpa_bench.cli import app
from hpa_bench.data.task_files import task_files
from hpa_bench.errors import UserError
from hpa_bench.suite import bundled_suites, package_task_folders
from tests.support.suites import write_suite


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


def test_every_task_of_the_package_is_listed_with_its_metric_and_its_suites() -> None:
    tasks, safety = listed("tasks"), listed("safety-sets")

    assert tasks["tiny_ad"] == "The tiny suite: driving scenes. Metric: acc. In: tiny."
    assert tasks["ucit_vizwiz"].endswith("Metric: coco_caption. In: ucit.")
    assert safety["tiny_unsafe_image"] == (
        "The tiny suite: a harmful request about a hazard in the image. By judges. In: tiny."
    )
    assert tasks.keys() | safety.keys() == task_files(package_task_folders()).keys()
    assert not tasks.keys() & safety.keys()


def test_the_folders_of_a_suite_are_looked_through_too(tmp_path: Path) -> None:
    suite = str(write_suite(tmp_path))
    tasks, safety = listed("tasks", "--suite", suite), listed("safety-sets", "--suite", suite)

    assert tasks["colours"] == "Metric: right. In: small." and tasks["tints"] == "Metric: right."
    assert safety["harm"] == "By judges. In: small." and "harm" not in tasks
    assert "tiny_ad" in tasks and "colours" not in listed("tasks")


def test_sets_are_listed_without_what_a_run_needs() -> None:
    script = """
import sys
from hpa_bench.cli.list import list_
for kind in ("tasks", "safety-sets"):
    list_(kind, "", "", [])
assert not {"torch", "transformers", "lm_eval", "numpy", "pandas"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["metods"],
            "Unknown kind 'metods' of what can be listed. Did you mean 'methods'? Available: engines, ",
        ),
        (["task"], None),
        (["method", "hpaa"], "Unknown method 'hpaa'. Did you mean 'hpa'?"),
        (["suite", "tinny"], "Unknown suite 'tinny' (or give the path of a .yaml file). Did you mean 'tiny'?"),
        (["task", "tiny_ad"], "Of tasks, single ones are not described: leave out 'tiny_ad'."),
        (["methods", "--suite", "tiny"], "--suite changes nothing about methods: leave it out."),
    ],
)
def test_what_cannot_be_listed_names_what_can(arguments: list[str], sentence: str | None) -> None:
    result = CliRunner().invoke(app, ["list", *arguments])

    if sentence is None:
        assert result.exit_code == 0
    else:
        assert isinstance(result.exception, UserError) and str(result.exception).startswith(sentence)
