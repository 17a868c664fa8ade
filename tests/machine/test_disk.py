"""Disk space: counted before training, and a disk that fills up under a run. File systems and limits are real ones."""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hpa_bench import run
from hpa_bench.cli import main
from hpa_bench.errors import UserError
from hpa_bench.machine.disk import check_space, largest_file, make_writable, peak_bytes, refusal
from hpa_bench.runner.adapt import Watch, adapt
from hpa_bench.runner.events import Adapting, Event, Generating, Observer, TrainStep
from tests.support.adaptations import adaptation, write_models
from tests.support.run_folders import write_run
from tests.support.suites import write_suite


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts file systems of so many bytes, with further options."""
    mounted: list[Path] = []

    def mount(size: int, *further: str) -> Path:
        path = tmp_path / f"disk{len(mounted)}"
        path.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", ",".join((f"size={size}", *further)), "tmpfs", str(path)],
            capture_output=True,
            text=True,
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


@pytest.fixture
def file_limit() -> Iterator[Callable[[int], None]]:
    """Sets how large a file of this process may become, as `ulimit -f` does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_the_largest_file_is_of_the_checkpoint_or_of_the_optimizer() -> None:
    assert largest_file([5 * 10**9, 3 * 10**9], 10**6, stages=6) == 5 * 10**9
    assert largest_file([5 * 10**9], 10**6, stages=6, mergeable=False) == 8 * 10**6
    assert largest_file([10], 10**6, stages=1) == 8 * 10**6
    assert largest_file([5 * 10**9], 10**6, stages=0) == 0


def test_a_run_whose_files_may_not_become_so_large_is_refused_before_it_trains(
    tmp_path: Path, file_limit: Callable[[int], None]
) -> None:
    suite = write_suite(tmp_path)
    largest = (tmp_path / "model" / "model.safetensors").stat().st_size
    file_limit(largest - 1)

    with pytest.raises(
        UserError, match=r"This run writes files of 0\.\d MB to .* may write 0\.\d MB to a file: raise the limit"
    ):
        run(str(suite), "seqft", out=tmp_path / "run")

    assert not list((tmp_path / "run").glob("stage*"))


class Limiter(Observer):
    """Sets how large files may become at the first event of a kind in stage 1."""

    def __init__(self, at: type[Event], limit: Callable[[int], None]) -> None:
        self.at, self.limit = at, limit

    def observe(self, event: Event) -> None:
        if isinstance(event, self.at) and event.stage == 1:  # type: ignore[attr-defined]
            self.limit(1000)


@pytest.mark.faults
@pytest.mark.parametrize("at", [TrainStep, Adapting, Generating])
def test_a_limit_of_file_sizes_loses_nothing(
    at: type[Event], tmp_path: Path, file_limit: Callable[[int], None]
) -> None:
    training = {"learning_rate": 1e-3, "batch_size": 4, "epochs": 1, "save_steps": 2}
    suite = write_suite(tmp_path, tasks=["colours"], training=training)
    out = tmp_path / "run"

    with pytest.raises(
        UserError, match=r"A file in .* may not become larger than 0\.0 MB \(see ulimit -f\): raise the"
    ):
        run(str(suite), "seqft", out=out, observers=[Limiter(at, file_limit)])
    assert not [path for path in out.rglob("*.partial") if path.name != "trainer.partial"]
    file_limit(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    finished = run(str(suite), "seqft", out=out)

    assert len(finished.finished_stages()) == 2 and not (out / "FAILED").exists()


def test_a_manifest_that_cannot_be_written_is_one_sentence(tmp_path: Path, file_limit: Callable[[int], None]) -> None:
    suite = write_suite(tmp_path)
    file_limit(100)

    with pytest.raises(UserError, match=r"A file in .* may not become larger"):
        run(str(suite), "zero_shot", out=tmp_path / "run")


def nowhere(kind: str, folder: Path, small_disk: Callable[..., Path]) -> tuple[Path, str]:
    """Return a folder that cannot be made or written, and what is said of it."""
    if kind == "below a file":
        (folder / "file").write_text("mine")
        place = folder / "file" / "below" / "run"
        return place, f"{place} cannot be made, since {folder / 'file'} is a file: choose another folder."
    if kind == "proc":
        place = Path("/proc/hpa-bench/run")
        return (
            place,
            f"{place} cannot be made (No such file or directory): choose a folder that this user may write to.",
        )
    if kind == "too long a name":
        place = folder / ("x" * 300)
        return place, f"{place} cannot be made (File name too long): choose a folder that this user may write to."
    place = small_disk(10**6, "ro")
    return place, f"{place} cannot be written (Read-only file system): choose a folder that this user may write to."


PLACES = ("below a file", "proc", "too long a name", "read-only")


@pytest.mark.parametrize("kind", PLACES)
def test_a_place_that_takes_no_run_is_one_sentence_before_anything_is_loaded(
    kind: str, tmp_path: Path, small_disk: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, sentence = nowhere(kind, tmp_path, small_disk)
    # Whoever gets further finds no model.
    suite = write_suite(tmp_path / "suite")
    (tmp_path / "suite" / "model" / "config.json").unlink()

    with pytest.raises(UserError) as caught:
        run(str(suite), "seqft", out=place)

    assert str(caught.value) == sentence


@pytest.mark.parametrize("verb", ["compare --runs", "compare --out", "new-method", "report"])
@pytest.mark.parametrize("kind", PLACES)
def test_so_is_it_for_other_verbs(
    kind: str,
    verb: str,
    tmp_path: Path,
    small_disk: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place, sentence = nowhere(kind, tmp_path, small_disk)
    runs = ["--runs", str(tmp_path / "runs")]
    compare = ["compare", "--methods", "seqft", "--seeds", "0"]
    if verb == "report":
        write_run(tmp_path / "runs")
    command = {
        "compare --runs": [*compare, "--runs", str(place)],
        "compare --out": [*compare, *runs, "--out", str(place)],
        "new-method": ["new-method", "half_there", "--out", str(place)],
        "report": ["report", str(tmp_path / "runs"), "--out", str(place)],
    }[verb]
    monkeypatch.setattr(sys, "argv", ["hpa-bench", *command])

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 2 and capsys.readouterr().err == f"Error: {sentence}\n"
    assert not list(tmp_path.rglob("*.log")), "nothing was started"


def test_what_can_be_written_stays_empty(tmp_path: Path) -> None:
    make_writable(tmp_path / "a" / "b")

    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.EDQUOT, "x"), "Your quota on the disk of {place} is used up: free some space; the same command"),
        (RuntimeError("I/O error: Disk quota exceeded (os error 122)"), "Your quota on the disk of {place} is used up"),
        (RuntimeError("No space left on device"), "The disk of {place} is full: free some space; the same command"),
        (OSError(errno.EFBIG, "x"), "A file in {place} may not become larger (see ulimit -f): raise the limit"),
        (OSError(errno.ENOSPC, "x", "/elsewhere/cache"), "The disk of /elsewhere/cache is full: free some space"),
        (PermissionError(errno.EACCES, "x", "{place}/DONE"), "{place} cannot be written (Permission denied): choose"),
    ],
)
def test_what_the_disk_refuses_is_told(error: Exception, sentence: str, tmp_path: Path) -> None:
    if getattr(error, "filename", None):
        error.filename = error.filename.format(place=tmp_path)  # type: ignore[attr-defined]

    assert refusal(tmp_path, error).startswith(sentence.format(place=tmp_path))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("no equation today"),
        PermissionError(errno.EACCES, "x", "/elsewhere/image.png"),
        FileNotFoundError(errno.ENOENT, "x", "{place}/lost"),
        ConnectionRefusedError(errno.ECONNREFUSED, "x"),
        NotADirectoryError(errno.ENOTDIR, "x", "/elsewhere/file/image.png"),
    ],
)
def test_what_the_disk_has_no_part_in_is_not(error: Exception, tmp_path: Path) -> None:
    if getattr(error, "filename", None):
        error.filename = error.filename.format(place=tmp_path)  # type: ignore[attr-defined]

    assert refusal(tmp_path, error) == ""


@pytest.mark.faults
def test_an_edit_that_the_disk_cannot_hold_is_refused_before_anything_is_edited(
    small_disk: Callable[..., Path], tmp_path: Path
) -> None:
    asked = adaptation(write_models(tmp_path / "models"), small_disk(150_000) / "out", "wise_ft")
    written: list[str] = []

    with pytest.raises(UserError, match=r"This edit needs 0.3 MB of disk space for the edited weights"):
        adapt(asked, Watch(written=lambda done, total, name: written.append(name)))
    assert written == []


@pytest.mark.faults
def test_an_edit_goes_on_once_a_full_disk_has_room_again(small_disk: Callable[..., Path], tmp_path: Path) -> None:
    models, disk = write_models(tmp_path / "models"), small_disk(800_000)
    asked = adaptation(models, disk / "out", "wise_ft")
    filler = disk / "filler"

    def fill(done: int, total: int, name: str) -> None:
        if not filler.exists():
            with pytest.raises(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(1024))

    with pytest.raises(UserError, match="The disk of .* is full: free some space; the same command goes on"):
        adapt(asked, Watch(written=fill))
    filler.unlink()
    adapt(asked)

    adapt(adaptation(models, tmp_path / "elsewhere", "wise_ft"))
    ours, theirs = ((folder / "model.safetensors").read_bytes() for folder in (disk / "out", tmp_path / "elsewhere"))
    assert ours == theirs
