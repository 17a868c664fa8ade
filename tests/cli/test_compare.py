"""Real processes: what is missing is run, a failing method does not stop the others, and the report is written."""

import html
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpa_bench.cli import app
from hpa_bench.errors import UserError
from hpa_bench.method import methods
from hpa_bench.results.runs import load_runs
from tests.support.suites import write_suite

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


NEEDY = '''
from hpa_bench import Method


class Needy(Method):
    """Needs what the suite has not."""

    name = "needy"
    needs = frozenset({"safety_calibration"})
'''
KILLED = '''
import os
import signal

from hpa_bench import Method


class Killed(Method):
    """Ends as a process does for which there is no memory."""

    name = "killed"

    def adapt(self, before, after, ctx):
        os.kill(os.getpid(), signal.SIGKILL)
'''


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_method_that_cannot_start_is_a_row_with_the_reason_until_it_can(tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "suite")
    plugin = tmp_path / "needy.py"
    plugin.write_text(NEEDY)
    arguments = [
        "compare",
        "--suite",
        str(suite),
        "--methods",
        "needy,zero_shot",
        "--seeds",
        "0",
        "--plugin",
        str(plugin),
    ]
    arguments += ["--runs", str(tmp_path / "runs"), "--set", "calibration.safety_set=null"]
    with methods.scratch():
        result = CliRunner().invoke(app, arguments)

    why = "no stage finished: Method 'needy' needs safety calibration samples"
    assert result.exit_code == 1
    assert result.output.count("Method 'needy' needs safety calibration samples") == 3  # As it fails, table, end.
    tables = tmp_path / "runs" / "small" / "report" / "tables"
    assert why in (tables / "results.csv").read_text()
    assert why in html.unescape((tables / "main.md").read_text())
    assert why in html.unescape((tables.parent / "report.html").read_text())

    again = CliRunner().invoke(app, ["report", str(tmp_path / "runs" / "small"), "--out", str(tmp_path / "later")])
    assert again.exit_code == 0
    assert why in html.unescape((tmp_path / "later" / "report.html").read_text())

    plugin.write_text(NEEDY.replace('{"safety_calibration"}', "()"))
    fixed = CliRunner().invoke(app, arguments)
    assert fixed.exit_code == 0, fixed.output
    assert "needy" in set(load_runs(tmp_path / "runs").query("metric == 'ap'")["method"])


@pytest.mark.slow
def test_a_run_that_is_killed_says_by_which_signal(tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "suite")
    plugin = tmp_path / "killed.py"
    plugin.write_text(KILLED)
    arguments = ["compare", "--suite", str(suite), "--methods", "killed", "--seeds", "0", "--plugin", str(plugin)]
    result = CliRunner().invoke(app, [*arguments, "--runs", str(tmp_path / "runs")])

    assert result.exit_code == 1
    assert "killed, seed 0: missing: stopped after stage 0 of 2: ended by signal 9" in result.output


@pytest.mark.slow
def test_every_order_is_run_with_every_share_of_harmful_data(tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "suite")
    arguments = ["compare", "--suite", str(suite), "--methods", "zero_shot", "--seeds", "0"]
    arguments += ["--order", "1,2", "--order", "2,1", "--harmful-ratio", "0", "--harmful-ratio", "0.5"]
    result = CliRunner().invoke(app, [*arguments, "--runs", str(tmp_path / "runs")])

    assert result.exit_code == 0, result.output
    frame = load_runs(tmp_path / "runs")
    found = {*zip(frame["order"], frame["harmful_ratio"], strict=True)}
    assert found == {(order, ratio) for order in ("colours,shades", "shades,colours") for ratio in (0.0, 0.5)}
    page = (tmp_path / "runs" / "small" / "report" / "report.html").read_text()
    found_json = re.findall(r'<script type="application/json" id="[^"]*part-data">(.*?)</script>', page)
    parts = [json.loads(text)["title"] for text in found_json]
    first, second = "order colours, shades", "order shades, colours"
    assert parts == [
        f"small version 1; {data}; {order}"
        for order in (first, second)
        for data in ("original data", "50% harmful data")
    ]


@pytest.mark.slow
def test_noise_runs_are_made_at_the_first_seed_of_every_method_that_trains(tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "suite")
    arguments = ["compare", "--suite", str(suite), "--methods", "seqft,zero_shot", "--seeds", "1,2", "--noise", "2"]
    arguments += ["--runs", str(tmp_path / "runs"), "--jobs", "2"]
    result = CliRunner().invoke(app, arguments)

    assert result.exit_code == 0, result.output
    frame = load_runs(tmp_path / "runs").query("metric == 'ap'")
    made = sorted(zip(frame["method"], frame["seed"], frame["noise"], strict=True))
    seqft = [("seqft", 1, 0), ("seqft", 1, 1), ("seqft", 1, 2), ("seqft", 2, 0)]
    assert made == [*seqft, ("zero_shot", 1, 0), ("zero_shot", 2, 0)]
    assert "noise floor, sd and range" in result.output
    assert "6 runs, 6 finished before." in CliRunner().invoke(app, arguments).output


LAUNCHER = '''
from typing import ClassVar

from hpa_bench import Job, LauncherConfig
from hpa_bench.launchers.local import Local, LocalConfig


class NotingConfig(LocalConfig):
    """Options of Noting."""

    file: str


class Noting(Local):
    """Notes which runs it was handed."""

    name: ClassVar[str] = "noting"
    Config: ClassVar[type[LauncherConfig]] = NotingConfig

    def room(self, device: str) -> None:
        return None

    def submit(self, job: Job):
        with open(self.config.file, "a") as file:
            print(job.spec.method.name, job.spec.seed, job.spec.suite.lora.rank, job.device, job.threads, file=file)
        return super().submit(job)
'''


@pytest.mark.slow
def test_a_strangers_launcher_is_handed_the_specs_of_what_is_missing(tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "suite")
    plugin, notes = tmp_path / "noting.py", tmp_path / "notes"
    plugin.write_text(LAUNCHER)
    arguments = ["compare", "--suite", str(suite), "--methods", "zero_shot", "--seeds", "0", "--set", "lora.rank=3"]
    arguments += ["--plugin", str(plugin), "--launcher", f"noting:file={notes}", "--runs", str(tmp_path / "runs")]
    result = CliRunner().invoke(app, [*arguments, "--device", "cpu"])
    again = CliRunner().invoke(app, [*arguments, "--device", "cpu"])

    assert (result.exit_code, again.exit_code) == (0, 0), result.output + again.output
    assert "1 runs, 1 finished before." in again.output
    assert notes.read_text() == "zero_shot 0 3 cpu None\n"


def test_a_setting_that_is_nobodys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Unknown key 'p_maxx' in --set\. Did you mean 'p_max'\?"):
        CliRunner().invoke(app, ["compare", "--methods", "hpa,seqft", "--set", "p_maxx=3"], catch_exceptions=False)
