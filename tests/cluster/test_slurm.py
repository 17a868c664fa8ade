"""Runs of a real Slurm: requeued, at their time limit, cancelled, short of memory, and what Slurm refuses."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpa_bench.results.run_folder import FAILED
from tests.support import slurm_cluster
from tests.support.clusters import Compared, attempts, hangs, numbers, stalling, wait

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables by which Slurm's tools find the cluster."""
    if reason := slurm_cluster.lacking():
        pytest.skip(f"Slurm: {reason}. Nothing of launcher 'slurm' was tried on a cluster.")
    with slurm_cluster.slurm(tmp_path_factory.mktemp("slurm")) as config, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(config))
        yield {"SLURM_CONF": str(config)}


def ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def running() -> list[str]:
    return ask("squeue", "--me", "--array", "--noheader", "--states=running", "--format=%i").split()


def job_of(run: Path) -> str:
    """The one job that runs: the tests let one hang at a time."""
    wait(lambda: len(running()) == 1, f"one job, that of {run}")
    return running()[0]


def test_requeued_a_run_goes_on(
    slurm: dict[str, str], suite: Path, tmp_path: Path, unbroken: dict[int, dict[str, object]]
) -> None:
    plugin = stalling(tmp_path, 1)
    made = Compared(suite, tmp_path / "runs", "0-1", ["slurm"], slurm, ["--plugin", str(plugin)])
    hangs(plugin, 1)
    run = made.run(1)
    ask("scontrol", "requeue", job_of(run))
    code, printed = made.end()

    assert code == 0, printed
    assert {seed: numbers(made.run(seed)) for seed in (0, 1)} == unbroken
    assert len(attempts(run)) == 2 and len(attempts(made.run(0))) == 1


def test_at_its_time_limit_a_run_goes_on_in_the_next_job(
    slurm: dict[str, str], suite: Path, tmp_path: Path, unbroken: dict[int, dict[str, object]]
) -> None:
    plugin = stalling(tmp_path, 1)
    launch = ["slurm", "time=3m", "warning=60"]
    made = Compared(suite, tmp_path / "runs", "1", launch, slurm, ["--plugin", str(plugin)])
    code, printed = made.end()

    assert code == 0, printed
    assert numbers(made.run(1)) == unbroken[1]
    assert len(attempts(made.run(1))) == 2


def test_a_run_that_never_fits_its_time_is_given_up(slurm: dict[str, str], suite: Path, tmp_path: Path) -> None:
    plugin = stalling(tmp_path, 1)
    launch = ["slurm", "time=1m", "warning=45", "continuations=0"]
    code, printed = Compared(suite, tmp_path / "runs", "1", launch, slurm, ["--plugin", str(plugin)]).end()

    assert code == 1
    assert "not finished after 1 jobs of 1m in Slurm" in printed and "raise launch.time" in printed


def test_cancelled_a_run_is_missing_until_the_same_command_makes_it(
    slurm: dict[str, str], suite: Path, tmp_path: Path, unbroken: dict[int, dict[str, object]]
) -> None:
    plugin = stalling(tmp_path, 1)
    made = Compared(suite, tmp_path / "runs", "1", ["slurm"], slurm, ["--plugin", str(plugin)])
    hangs(plugin, 1)
    run = made.run(1)
    ask("scancel", job_of(run))
    code, printed = made.end()
    assert code == 1 and "cancelled in Slurm (job " in printed
    assert (run / FAILED).read_text().startswith("cancelled in Slurm")

    code, printed = Compared(suite, tmp_path / "runs", "1", ["slurm"], slurm, ["--plugin", str(plugin)]).end()
    assert code == 0, printed
    assert numbers(run) == unbroken[1] and not (run / FAILED).exists()


def test_stopped_compare_leaves_no_job(slurm: dict[str, str], suite: Path, tmp_path: Path) -> None:
    plugin = stalling(tmp_path, 1)
    made = Compared(suite, tmp_path / "runs", "1", ["slurm"], slurm, ["--plugin", str(plugin)])
    hangs(plugin, 1)
    made.process.send_signal(2)
    made.end()

    assert running() == []


def test_a_run_that_takes_too_much_memory_says_so(slurm: dict[str, str], suite: Path, tmp_path: Path) -> None:
    made = Compared(suite, tmp_path / "runs", "1", ["slurm", "memory=150M"], slurm)
    code, printed = made.end()

    assert code == 1
    assert "was ended for its memory: raise launch.memory" in printed


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("partition=mian", "Unknown partition 'mian' of launcher 'slurm'. Did you mean 'main'? Available: main."),
        ("memory=900G", "Slurm takes no such job ("),
        ("cpus=99", "No node of Slurm's has the 99 cores of launch.cpus: "),
        ("sbatch={no-such-option: 1}", "Slurm takes no such job ("),
        ("time=soon", "'soon' is no time limit, such as 12h"),
    ],
)
def test_what_slurm_has_not_is_refused_before_anything_starts(
    setting: str, message: str, slurm: dict[str, str], suite: Path, tmp_path: Path
) -> None:
    code, printed = Compared(suite, tmp_path / "runs", "0", ["slurm", setting], slurm).end()

    assert code == 2 and message in printed
    assert not list(tmp_path.glob("runs/small/*/seed0/manifest.json")), "nothing is begun"


def test_no_controller(suite: Path, tmp_path: Path, slurm: dict[str, str]) -> None:
    config = tmp_path / "slurm.conf"
    text = Path(slurm["SLURM_CONF"]).read_text()
    port = next(line for line in text.splitlines() if line.startswith("SlurmctldPort"))
    config.write_text(text.replace(port, f"SlurmctldPort={slurm_cluster.free_port()}"))
    code, printed = Compared(suite, tmp_path / "runs", "0", ["slurm"], {"SLURM_CONF": str(config)}).end()

    assert code == 2 and "Slurm cannot be reached (" in printed


def test_a_full_queue_is_waited_for(
    slurm: dict[str, str], suite: Path, tmp_path: Path, unbroken: dict[int, dict[str, object]]
) -> None:
    held = [ask("sbatch", "--hold", "--parsable", "--output=/dev/null", "--wrap=true").strip() for _ in range(5)]
    made = Compared(suite, tmp_path / "runs", "0-1", ["slurm"], slurm)
    # sbatch itself tries for two minutes.
    wait(lambda: "Slurm's queue is full: " in made.printed(), "a full queue")
    ask("scancel", *held)
    code, printed = made.end()

    assert code == 0, printed
    assert {seed: numbers(made.run(seed)) for seed in (0, 1)} == unbroken


def test_a_node_of_other_versions_is_refused_or_recorded(slurm: dict[str, str], suite: Path, tmp_path: Path) -> None:
    other = tmp_path / "site" / "peft-99.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: peft\nVersion: 99.0\n")
    lines = f"lines=['export PYTHONPATH={other.parent}']"
    code, printed = Compared(suite, tmp_path / "runs", "0", ["slurm", lines], slurm).end()
    assert code == 1
    assert "other versions are installed there, peft 99.0 instead of" in printed and "(on node " in printed

    made = Compared(suite, tmp_path / "runs", "0", ["slurm", lines, "versions=any"], slurm)
    assert made.end()[0] == 0
    assert '"peft": "99.0"' in (made.run(0) / "manifest.json").read_text()
