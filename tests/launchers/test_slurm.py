"""What of launcher `slurm` needs no cluster; tests/cluster has a real one."""

import shutil
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpa_bench.errors import UserError
from hpa_bench.launchers.base import make_launcher
from hpa_bench.launchers.slurm import _Queued, minutes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90),
        ("90m", 90),
        ("12h", 720),
        ("1d12h", 2160),
        ("2h30m", 150),
        ("12:00:00", 720),
        ("1-12:00:00", 2160),
        ("0:30", 30),
    ],
)
def test_time_limits(text: str, expected: int) -> None:
    assert minutes(text) == expected


@pytest.mark.parametrize("text", ["soon", "12 h", "-1h", "1.5h"])
def test_no_time_limit(text: str) -> None:
    with pytest.raises(UserError, match=r"is no time limit, such as 12h, 1d12h, 90m or 1-12:00:00"):
        make_launcher("slurm", time=text)


def test_a_job_has_a_minute_at_least() -> None:
    with pytest.raises(UserError, match="a job has a minute at least"):
        make_launcher("slurm", time="0m")


def test_options_that_it_has_not() -> None:
    with pytest.raises(UserError, match=r"Unknown key 'partitoin' of launcher 'slurm'\. Did you mean 'partition'\?"):
        make_launcher("slurm:partitoin=gpu")


def test_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpa_bench.launchers.slurm.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"not installed: run `pip install 'hpa-bench\[slurm\]'`"):
        make_launcher("slurm").check("cpu")


def test_no_slurm_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpa_bench.launchers.slurm.find_spec", lambda name: find_spec("json"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("sbatch") is None
    with pytest.raises(UserError, match="finds no sbatch here: start hpa-bench on a machine of the cluster"):
        make_launcher("slurm").check("cpu")


def test_it_has_a_queue_of_its_own() -> None:
    assert make_launcher("slurm").room("cpu") is None


def test_how_a_job_ended_is_told_though_slurm_knows_it_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"LOOK_SECONDS": 0.0, "SETTLE_SECONDS": 0.2}.items():
        monkeypatch.setattr(f"hpa_bench.launchers.slurm.{name}", seconds)
    tool, told = tmp_path / "squeue", tmp_path / "told"
    tool.write_text(f"#!/bin/sh\nexec /bin/cat {told}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    files = {name: tmp_path / name for name in ("result_pickle", "stderr", "stdout")}
    queued = _Queued(SimpleNamespace(job_id="5", paths=SimpleNamespace(folder=tmp_path, **files)))
    launcher = make_launcher("slurm")

    told.write_text("5|CANCELLED\n")
    assert launcher.poll(queued) is None
    told.write_text("6|RUNNING\n")
    time.sleep(0.3)
    assert launcher.poll(queued) == "cancelled in Slurm (job 5)"
