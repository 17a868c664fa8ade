"""Disk space: counted before training, and a disk that fills up under a run. Small file systems are real ones."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hpa_bench import run
from hpa_bench.errors import UserError
from hpa_bench.machine.disk import check_space, peak_bytes
from hpa_bench.runner.events import Adapting, Event, Generating, Observer, TrainStep
from tests.support.suites import write_suite


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts file systems of so many bytes."""
    mounted: list[Path] = []

    def mount(size: int) -> Path:
        path = tmp_path / f"disk{len(mounted)}"
        path.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        mounted.append(path)
        return path

    if os.getuid():
        pytest.skip("only root mounts file systems")
    yield mount
    for path in mounted:
        subprocess.run(["umount", str(path)], check=True)


class Peak(Observer):
    """Notes the most that a run's weights, adapters and trainer checkpoints ever take."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bytes = 0

    def observe(self, event: Event) -> None:
        kinds = ("weights", "adapter", "trainer.partial")
        files = [file for kind in kinds for file in self.folder.glob(f"stage*/{kind}/**/*")]
        self.bytes = max(self.bytes, sum(file.stat().st_size for file in files if file.is_file()))


@pytest.mark.slow
def test_a_run_takes_about_what_was_counted(tmp_path: Path) -> None:
    training = {"learning_rate": 1e-3, "batch_size": 4, "epochs": 1, "save_steps": 1}
    suite = write_suite(tmp_path, training=training, lora={"rank": 16, "alpha": 16})
    watch = Peak(tmp_path / "run")
    done = run(str(suite), "seqft", out=tmp_path / "run", observers=[watch])
    checkpoint = (tmp_path / "model" / "model.safetensors").stat().st_size

    counted = peak_bytes(checkpoint, done.stage(1).cost["trainable_parameters"], stages=2)
    assert 0.5 * counted < watch.bytes < counted + 400_000, "a tokenizer and a Trainer's own notes come on top"


def test_only_what_a_run_writes_counts() -> None:
    assert peak_bytes(10**9, 0, stages=0) == 0
    assert peak_bytes(10**9, 0, stages=1) == 10**9
    assert peak_bytes(10**9, 0, stages=6) == 2 * 10**9
    assert peak_bytes(10**9, 10**6, stages=6, mergeable=False) == 28 * 10**6
    # LLaVA 1.5 7B in 16 bits with LoRA of rank 16.
    assert peak_bytes(14_127_000_000, 40_000_000, stages=6) == 2 * 14_127_000_000 + 20 * 40_000_000


def test_more_than_is_free_is_one_sentence(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize

    with pytest.raises(
        UserError, match=r"This run needs [\d.]+ GB of disk space .* has [\d.]+ GB free: .* --out"
    ) as it:
        check_space(tmp_path, 2 * free + 10**9)

    assert "\n" not in str(it.value) and str(tmp_path) in str(it.value)
    check_space(tmp_path, free // 2)


def test_what_an_earlier_attempt_left_counts_as_there(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    left = tmp_path / "weights" / "model.safetensors"
    left.parent.mkdir()
    with left.open("wb") as file:
        file.truncate(free)

    check_space(tmp_path, free + free // 2, [left.parent])


def test_a_run_on_a_small_disk_is_refused_before_it_trains(tmp_path: Path, small_disk: Callable[[int], Path]) -> None:
    suite = write_suite(tmp_path)
    out = small_disk(300_000) / "run"

    with pytest.raises(UserError, match=rf"needs [\d.]+ MB of disk space .* file system of {out} has 0\.\d MB free"):
        run(str(suite), "seqft", out=out)

    assert not list(out.glob("stage*"))


class Filler(Observer):
    """Fills the disk up, but for some bytes, at the first event of a kind in stage 1."""

    def __init__(self, disk: Path, at: type[Event], leave: int) -> None:
        self.disk, self.at, self.leave = disk, at, leave

    def observe(self, event: Event) -> None:
        full = self.disk / "full"
        if isinstance(event, self.at) and event.stage == 1 and not full.exists():  # type: ignore[attr-defined]
            free = os.statvfs(self.disk).f_bavail * os.statvfs(self.disk).f_frsize
            full.write_bytes(bytes(free - self.leave))


@pytest.mark.faults
@pytest.mark.parametrize(("at", "leave"), [(TrainStep, 0), (Adapting, 200_000), (Generating, 0)])
def test_a_disk_that_fills_up_loses_nothing(
    at: type[Event], leave: int, tmp_path: Path, small_disk: Callable[[int], Path]
) -> None:
    training = {"learning_rate": 1e-3, "batch_size": 4, "epochs": 1, "save_steps": 2}
    suite = write_suite(tmp_path, tasks=["colours"], training=training)
    unbroken = run(str(suite), "seqft", out=tmp_path / "unbroken")
    disk = small_disk(40_000_000)

    with pytest.raises(UserError, match=r"The disk of .* is full: free some space; the same command goes on"):
        run(str(suite), "seqft", out=disk / "run", observers=[Filler(disk, at, leave)])
    assert not [path for path in (disk / "run").rglob("*.partial") if path.name != "trainer.partial"]
    assert (disk / "run" / "stage1" / "weights").exists() == (at is Generating)
    (disk / "full").unlink()
    finished = run(str(suite), "seqft", out=disk / "run")

    assert len(finished.finished_stages()) == 2 and not (disk / "run" / "FAILED").exists()
    ours, theirs = (load_file(done.stage(1).weights / "model.safetensors") for done in (finished, unbroken))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert finished.stage(1).responses("colours") == unbroken.stage(1).responses("colours")
