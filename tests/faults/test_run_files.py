"""Every file that a run writes, with each fault: the same command again, `report`, `load_runs`.

Two runs are taken: `ewc`, which remembers something between its stages, and of `hpa` what `ewc` has no file of; each
finished, and half done, with a whole checkpoint of its last training. Files of one kind (the same path in several
stages) are taken in the first and in the last stage that have them; of a half-done run, those that its finished form
has not, and those that training goes on from. Of `report`, which draws for seconds, the files that it opens: whatever
the others hold, it does the same. Another's file is that of another seed, where it differs.
"""

import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

from hpa_bench import load_runs, run
from hpa_bench.machine.lease import PACE
from hpa_bench.runner.events import Event, Observer, TrainStep
from tests.faults.conftest import Note
from tests.support.faults import FILE_FAULTS, LEASES, LIMIT, Found, command, contents, outcome, spoil
from tests.support.suites import write_suite

pytestmark = pytest.mark.faults

each_fault = pytest.mark.parametrize("fault", FILE_FAULTS)


class StopAt(Observer):
    """Ends a run at the second optimiser step of stage 2, when a checkpoint of the first is whole."""

    name = "stop_at"

    def observe(self, event: Event) -> None:
        if isinstance(event, TrainStep) and (event.stage, event.done) == (2, 2):
            raise KeyboardInterrupt


class Made(NamedTuple):
    """A run, finished and half done, and the same of another seed."""

    again: Callable[[Path], Any]
    """Gives the command of the run, with another folder."""
    finished: Path
    half: Path
    foreign_finished: Path
    foreign_half: Path
    opened: set[str]
    """Files that a report of the finished run opens, by path in its folder."""
    results: pd.DataFrame
    reported: set[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_runs("ewc", tmp_path_factory.mktemp("ewc"))


def make_runs(method: str, folder: Path) -> Made:
    suite = write_suite(
        folder / "suite",
        aligned=True,
        calibration={"safety_set": "refusals", "task_samples": 4, "safety_samples": 4},
        training={"learning_rate": 1e-2, "batch_size": 2, "epochs": 1, "save_steps": 1, "limit": 4},
    )

    def make(out: Path, seed: int = 0, observers: tuple[Observer, ...] = ()) -> Path:
        return run(str(suite), method, seed, out=out, observers=observers).path

    for seed in (0, 1):
        make(folder / f"finished{seed}", seed)
        with pytest.raises(KeyboardInterrupt):
            make(folder / f"half{seed}", seed, (StopAt(),))
    paths = [folder / name for name in ("finished0", "half0", "finished1", "half1")]
    with opening() as opened:
        command("report", paths[0], "--out", folder / "report")
    inside = {str(path.relative_to(paths[0])) for path in opened if path.is_relative_to(paths[0])}
    return Made(make, *paths, inside, load_runs(paths[0]), rows(folder / "report"))


_told: list[list[Path]] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _told and event == "open" and isinstance(arguments[0], str):
        _told[-1].append(Path(arguments[0]))


@contextmanager
def opening() -> Iterator[list[Path]]:
    """Give the files that are opened meanwhile."""
    if not hasattr(sys, "_opening_is_heard"):
        sys.addaudithook(_hear)
        sys._opening_is_heard = True  # type: ignore[attr-defined]
    _told.append([])
    yield _told[-1]
    _told.pop()


def kind(name: str) -> str:
    return re.sub(r"^stage\d+|(?<=checkpoint-)\d+", "*", name)


def files(folder: Path) -> list[str]:
    """The files of a folder, by path in it, but those of a kind in the first and the last stage alone."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = str(path.relative_to(folder))
            found.setdefault(kind(name), []).append(name)
    return sorted({name for names in found.values() for name in (names[0], names[-1])})


def spoilt(names: Iterable[str], fault: str, source: Path, foreign: Path, folder: Path) -> Iterator[str]:
    """Give each name of a file with a fault in it, while `folder` is such a copy of a run."""
    for name in names:
        content, other = (source / name).read_bytes(), foreign / name
        another = other.read_bytes() if other.exists() else b""
        if another == content if fault == "another's" else not content and fault != "absent":
            continue
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder)
        spoil(folder / name, fault, another)
        yield name


def again(made: Made, of: Path, folder: Path, name: str) -> Found:
    """Give the command of a run again, in a copy of it."""

    def right(folder: Path) -> bool:
        same = (folder / "manifest.json").read_bytes() == (of / "manifest.json").read_bytes()
        return same and contents(folder) == contents(made.finished)

    # A lease that another machine seems to hold is waited for until it must have been given up.
    waited = PACE.dead if Path(name).name.startswith(LEASES) else 0.0
    return outcome(lambda: made.again(folder), [name], right, LIMIT + waited)


@each_fault
def test_the_same_command_again(fault: str, made: Made, note: Note, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    for name in spoilt(files(made.finished), fault, made.finished, made.foreign_finished, copy):
        note("file of a finished run, then the same command", fault, name, again(made, made.finished, copy, name))


@each_fault
def test_the_same_command_goes_on(fault: str, made: Made, note: Note, tmp_path: Path) -> None:
    known = {kind(name) for name in files(made.finished)}
    needed = re.compile(r"stage1/(adapter|state|weights)/|stage1/DONE|manifest.json")
    names = [name for name in files(made.half) if kind(name) not in known or needed.match(name)]
    copy = tmp_path / "run"
    for name in spoilt(names, fault, made.half, made.foreign_half, copy):
        note("file of a half-done run, then the same command", fault, name, again(made, made.half, copy, name))


def test_the_same_command_with_calibration_samples(made: Made, note: Note, tmp_path: Path) -> None:
    hpa = make_runs("hpa", tmp_path / "hpa")
    known = {kind(name) for name in [*files(made.finished), *files(made.half)]}
    names = [name for name in files(hpa.half) if kind(name) not in known]
    assert names == ["calibration/SEAL.json", "calibration/safety.jsonl"]

    copy = tmp_path / "run"
    for fault in FILE_FAULTS:
        for name in spoilt(names, fault, hpa.half, hpa.foreign_half, copy):
            note("file of a half-done run, then the same command", fault, name, again(hpa, hpa.half, copy, name))


def is_right(found: pd.DataFrame, whole: pd.DataFrame) -> bool:
    """Whether results are those of the whole run, or some of them and a word that some are missing."""
    keys = [name for name in whole.columns if name not in ("run", "missing")]
    own, rows = (set(frame[keys].itertuples(index=False, name=None)) for frame in (found, whole))
    # Of a run with no finished stage there is no row on which that could be said.
    return own == rows or (own < rows and bool(all(found["missing"])))


@each_fault
def test_results_are_loaded(fault: str, made: Made, note: Note, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    for name in spoilt(files(made.finished), fault, made.finished, made.foreign_finished, copy):
        found = outcome(lambda: load_runs(copy), [name], lambda frame: is_right(frame, made.results))
        note("file of a finished run, then `load_runs`", fault, name, found)


def rows(report: Path) -> set[str]:
    """The rows of a report's tables of results, but those that say that something is missing."""
    tables = [report / "tables" / f"{name}.csv" for name in ("results", "stages")]
    return {line for table in tables for line in table.read_text().splitlines() if "missing: " not in line}


@each_fault
def test_a_report_is_written(fault: str, made: Made, note: Note, tmp_path: Path) -> None:
    def report() -> set[str]:
        shutil.rmtree(tmp_path / "report", ignore_errors=True)
        command("report", copy, "--out", tmp_path / "report")
        return rows(tmp_path / "report")

    copy = tmp_path / "run"
    names = [name for name in files(made.finished) if name in made.opened]
    for name in spoilt(names, fault, made.finished, made.foreign_finished, copy):
        found = outcome(report, [name], lambda rows: rows <= made.reported)
        note("file of a finished run, then `hpa-bench report`", fault, name, found)
