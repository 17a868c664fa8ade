"""Runs know what they were made with: model files and plugins that change, folders that hold somebody else's files."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpa_bench import run
from hpa_bench.cli import app
from hpa_bench.errors import UserError
from hpa_bench.results.run_folder import RunFolder, find_runs
from tests.support.suites import write_suite

pytestmark = pytest.mark.faults

PLUGIN = '''
from hpa_bench import Method

class Changing(Method):
    """A method whose source changes."""

    name = "changing"
'''


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    return write_suite(tmp_path, tasks=["colours"])


def test_a_finished_run_is_not_taken_for_that_of_a_changed_plugin(suite: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "changing.py"
    plugin.write_text(PLUGIN)
    out = tmp_path / "runs" / "run"
    made = run(str(suite), "changing", plugins=[plugin], out=out)
    assert set(made.manifest.plugins) == {"changing.py"}
    run(str(suite), "changing", plugins=[plugin], out=out)
    plugin.write_text(PLUGIN + "# Another version.\n")

    with pytest.raises(
        UserError, match=r"the source of its plugin 'changing.py' has changed since: .* --again"
    ) as caught:
        run(str(suite), "changing", plugins=[plugin], out=out)
    assert "\n" not in str(caught.value)
    again = run(str(suite), "changing", plugins=[plugin], out=out, again=True)

    assert again.manifest.plugins != RunFolder(tmp_path / "runs" / "run.aside-1").manifest.plugins
    assert [found.path for found in find_runs([tmp_path / "runs"])] == [out], "what is aside is not reported"


def test_compare_says_so_too_and_makes_it_again_where_asked(suite: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "changing.py"
    plugin.write_text(PLUGIN)
    command = ["compare", "--suite", str(suite), "--methods", "changing", "--seeds", "0", "--plugin", str(plugin)]
    command += ["--runs", str(tmp_path / "runs"), "--device", "cpu"]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    plugin.write_text(PLUGIN + "# Another version.\n")

    refused = CliRunner().invoke(app, command)
    assert isinstance(refused.exception, UserError) and "has changed since" in str(refused.exception)
    again = CliRunner().invoke(app, [*command, "--again"])
    assert again.exit_code == 0 and "1 runs, 0 finished before" in again.output
    assert len(list((tmp_path / "runs").rglob("seed0.aside-1"))) == 1


def test_a_run_does_not_go_on_from_other_model_files(suite: Path, tmp_path: Path) -> None:
    made = run(str(suite), "seqft", out=tmp_path / "run")
    (made.stage(1).path / "DONE").unlink()
    weights = tmp_path / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))

    with pytest.raises(UserError, match="the files of its model have changed since: run it with --again"):
        run(str(suite), "seqft", out=made.path)


def test_what_is_not_the_runs_is_left_alone(suite: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.partial").write_text("precious")
    with pytest.raises(UserError, match=r"is not empty and holds no manifest.json \(it has 'thesis.partial'\)"):
        run(str(suite), "zero_shot", out=mine)
    assert (mine / "thesis.partial").read_text() == "precious"

    made = run(str(suite), "zero_shot", out=tmp_path / "run")
    (made.path / "notes.txt").write_text("precious")
    with pytest.raises(UserError, match=r"holds 'notes.txt', which no run writes, so it is not removed"):
        run(str(suite), "zero_shot", out=made.path, resume=False)
    assert len(made.finished_stages()) == 1

    foreign = Path(shutil.copytree(made.path, tmp_path / "foreign"))
    (foreign / "manifest.json").write_text('{"name": "a web app"}')
    with pytest.raises(UserError, match="is no manifest of hpa-bench"):
        run(str(suite), "zero_shot", out=foreign, resume=False)
    assert (foreign / "stage0").exists()
