"""Real processes: what is missing is run, a failing method does not stop the others, and the report is written."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpa_bench.cli import app
from hpa_bench.cli.compare import _seeds
from hpa_bench.errors import UserError
from hpa_bench.registry import Registry, methods
from hpa_bench.results import load_runs
from tests.suites import write_suite

FAILING = '''
from hpa_bench import Method


class Failing(Method):
    """Fails in its second stage."""

    name = "failing"

    def adapt(self, before, after, ctx):
        if ctx.stage == 2:
            raise RuntimeError("no equation today")
        return ()
'''


@pytest.fixture(autouse=True)
def no_plugin_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "_plugins", {})


def test_compare_goes_on_past_a_method_that_fails(tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "suite")
    plugin = tmp_path / "failing.py"
    plugin.write_text(FAILING)
    arguments = ["compare", "--suite", str(suite), "--methods", "failing,seqft,zero_shot", "--seeds", "0"]
    arguments += ["--plugin", str(plugin), "--runs", str(tmp_path / "runs"), "--set", "lora.rank=3", "--jobs", "2"]
    result = CliRunner().invoke(app, arguments)

    assert result.exit_code == 1
    assert "RuntimeError: no equation today" in result.output
    page = (tmp_path / "runs" / "small" / "report" / "report.html").read_text()
    assert "missing: stopped after stage 1 of 2: RuntimeError: no equation today" in page
    frame = load_runs(tmp_path / "runs")
    assert set(frame.loc[frame["metric"] == "ap", "method"]) == {"seqft", "zero_shot"}

    again = CliRunner().invoke(app, [*arguments[:4], "seqft,zero_shot", *arguments[5:]])
    assert again.exit_code == 0
    assert "2 runs, 2 finished before." in again.output


def test_a_setting_that_is_nobodys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Unknown key 'p_maxx' in --set\. Did you mean 'p_max'\?"):
        CliRunner().invoke(app, ["compare", "--methods", "hpa,seqft", "--set", "p_maxx=3"], catch_exceptions=False)


@pytest.mark.parametrize(("text", "seeds"), [("0-2", [0, 1, 2]), ("4", [4]), ("0,2-3,0", [0, 2, 3])])
def test_seeds(text: str, seeds: list[int]) -> None:
    assert _seeds(text) == seeds


@pytest.mark.parametrize("text", ["a", "0-", "1..3"])
def test_bad_seeds_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="not a list of seeds"):
        _seeds(text)


def test_registries_do_not_share_plugins() -> None:
    assert Registry("method", "hpa_bench.methods", "hpa_bench.method:Method")._plugins == {}
