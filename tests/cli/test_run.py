"""`hpa-bench run --spec`: the same run as by options, from anywhere."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpa_bench.cli import app
from hpa_bench.errors import UserError
from hpa_bench.method import methods
from hpa_bench.plugins import load_plugins
from hpa_bench.results.run_folder import MANIFEST
from hpa_bench.spec import RunOptions, make_spec
from tests.support.suites import write_suite

PLUGIN = '''
from pathlib import Path

from hpa_bench import Method, MethodConfig


class LocatedConfig(MethodConfig):
    """Hyper-parameters of Located."""

    note: str


class Located(Method):
    """Reads a file that only it knows of, where the run was planned."""

    name = "located"
    Config = LocatedConfig

    def adapt(self, before, after, ctx):
        Path(self.config.note).read_text()
        return ()
'''


def contents(folder: Path) -> dict[str, bytes]:
    files = [
        path
        for pattern in ("scores.json", "responses/*", "judgements/*/*")
        for path in folder.glob(f"stage*/{pattern}")
    ]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.slow
def test_a_spec_makes_the_run_that_the_options_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write_suite(Path("suite"))
    Path("located.py").write_text(PLUGIN)
    Path("note.txt").write_text("here")
    settings = ["training.limit=6", "evaluation.limit=3", "note=note.txt"]
    arguments = ["--suite", "suite/small.yaml", "--method", "located", "--seed", "1", "--plugin", "located.py"]
    arguments += [part for setting in settings for part in ("--set", setting)]
    with methods.scratch():
        said = CliRunner().invoke(app, ["run", *arguments, "--out", "said", "--device", "cpu"])
        options = RunOptions("suite/small.yaml", "located", 1, settings, plugins=[Path("located.py")])
        load_plugins(options.plugins)
        text = make_spec(options).to_json()
    monkeypatch.chdir(tmp_path / "elsewhere")
    read = CliRunner().invoke(
        app, ["run", "--spec", "-", "--out", "read", "--device", "cpu", "--no-report"], input=text
    )

    assert (said.exit_code, read.exit_code) == (0, 0), said.output + read.output
    assert len(contents(tmp_path / "here" / "said")) > 10
    assert contents(tmp_path / "elsewhere" / "read") == contents(tmp_path / "here" / "said")
    first, second = (
        json.loads((tmp_path / folder / MANIFEST).read_text()) | {"started": ""}
        for folder in ("here/said", "elsewhere/read")
    )
    assert json.dumps(first) == json.dumps(second)
    assert Path.cwd() == tmp_path / "elsewhere"


@pytest.mark.parametrize("option", [["--method", "hpa"], ["--seed", "0"], ["-m", "hpa"], ["--set", "p_max=3"]])
def test_a_spec_says_all(option: list[str]) -> None:
    with pytest.raises(UserError, match=r"^--\w+ cannot stand beside --spec, which says all of the run"):
        CliRunner().invoke(app, ["run", "--spec", "run.json", *option], catch_exceptions=False)
