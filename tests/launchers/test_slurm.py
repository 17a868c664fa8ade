"""What of launcher `slurm` needs no cluster; tests/cluster has a real one."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from hpa_bench.errors import UserError
from hpa_bench.launchers.base import make_launcher
from hpa_bench.launchers.slurm import minutes


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
