"""How far runs are and when they will be done, from the logs of their events alone, from any process."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from hpa_bench.results.run_folder import ASIDE, RunFolder
from hpa_bench.runner.eta import Course, Stage
from hpa_bench.runner.events import LOG, STOPPED

State = Literal["waiting", "running", "done", "failed", "stopped"]
STATES: tuple[State, ...] = ("done", "failed", "stopped", "running", "waiting")
_FREQUENT = (b'{"event": "step"', b'{"event": "generating"')
"""How the lines begin of which a log has thousands: of several in a row the first and the last say all."""
_END = 16384
"""Bytes of a finished run's log that hold its last stage's scores."""


@dataclass
class RunLog:
    """What the log of one run says; `update` reads what has been added."""

    folder: Path
    suite: str = ""
    method: str = ""
    seed: int = 0
    host: str = ""
    course: Course = field(default_factory=Course)
    """Its stages."""
    began: float | None = None
    """When the last attempt began."""
    ended: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    """Of the last stage that was judged, in percent: accuracy (AP, of the last stage) and masr."""
    reason: str = ""
    _last: str = ""
    """The kind of the last event."""
    _offset: int = 0

    def update(self) -> None:
        """Read what the log has more than at the last time."""
        if self._last == "finished":
            return
        try:
            with (self.folder / LOG).open("rb") as file:
                if not self._offset and self._is_read_short(file):
                    return
                file.seek(self._offset)
                text = file.read()
        except FileNotFoundError:
            return
        whole = text[: text.rfind(b"\n") + 1]  # The rest of a line comes at the next time.
        self._offset += len(whole)
        for line in _telling(whole.split(b"\n")):
            self._take(line)

    @property
    def name(self) -> str:
        """The method as its folder has it, which tells its settings apart."""
        above = self.folder.parent.name
        return above if above.startswith(f"{self.method}-") else self.method

    @property
    def seed_name(self) -> str:
        """The seed as its folder has it, which tells noise runs apart."""
        return (
            self.folder.name.removeprefix("seed") if self.folder.name.startswith(f"seed{self.seed}") else str(self.seed)
        )

    @property
    def state(self) -> State:
        """Where the run stands; one whose log ends in the middle runs while somebody holds its folder."""
        match self._last:
            case "" | "planned":
                return "waiting"
            case "finished":
                return "done"
            case "failed":
                return "stopped" if self.reason == STOPPED else "failed"
        return "running" if RunFolder(self.folder).is_live else "stopped"

    def left(self, now: float) -> float | None:
        """Return the seconds that the run will still take, as `Course.left`."""
        return 0.0 if self._last == "finished" else self.course.left(now)

    def _is_read_short(self, file: Any) -> bool:
        """Read the beginning and the end of a finished run's log, if that is what it is."""
        size = os.fstat(file.fileno()).st_size
        if size <= 2 * _END:
            return False
        first = file.readline()
        file.seek(size - _END)
        lines = file.read().split(b"\n")[1:]
        if lines[-1] or len(lines) < 2 or not lines[-2].startswith(b'{"event": "finished"'):
            return False
        if not any(line.startswith(b'{"event": "judged"') for line in lines):
            return False
        for line in (first, *(line for line in lines if not line.startswith(_FREQUENT))):
            self._take(line)
        self._offset = size
        return True

    def _take(self, line: bytes) -> None:
        try:
            row = json.loads(line)
            time = datetime.fromisoformat(row["time"]).timestamp()
            self._note(row, time)
        except (ValueError, KeyError, TypeError):  # A torn line, or one of another version's.
            return
        self._last = row["event"]

    def _note(self, row: Mapping[str, Any], time: float) -> None:
        course, stage = self.course, self.course.stage
        match row["event"]:
            case "planned" | "run":
                self.suite, self.method, self.seed = row["suite"], row["method"], row["seed"]
                if row["event"] == "run":
                    self.host, self.began, self.ended, self.reason = row.get("host", ""), time, None, ""
                    course.stage = None
                    course.stages, course.samples = len(row["stages"]), row.get("samples", ())
            case "stage":
                course.stage, course.stages = Stage(row["stage"], row["tasks"], time), row["stages"]
            case "step" if stage:
                stage.first = stage.first or (row["done"] - 1, time - row["seconds"])
                stage.step, stage.stepped, stage.loss = (row["done"], row["total"]), time, row["loss"]
            case "trained" if stage:
                stage.trained = time
            case "generating" if stage:
                stage.asked = stage.asked or time
                stage.answered = row["done"], row["total"]
            case "judged":
                self.scores = row["scores"]
            case "stage_finished":
                course.finish(row["seconds"], time)
            case "failed":
                self.ended, self.reason = time, row["reason"]
            case "finished":
                self.ended = time


def _telling(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of a log but, of many steps in a row, the first and the last."""
    prefix: bytes | None = None
    last = b""
    for line in lines:
        if prefix is not None and line.startswith(prefix):
            last = line
            continue
        if last:
            yield last
            last = b""
        prefix = next((each for each in _FREQUENT if line.startswith(each)), None)
        if line:
            yield line
    if last:
        yield last


def find_logs(path: Path) -> list[RunLog]:
    """Return the log of every run at or below a folder, read, sorted by path; those set aside are left out."""
    found: list[RunLog] = []
    for folder, below, files in os.walk(path):
        if LOG in files:
            below.clear()  # A run holds no runs, and thousands of files.
            found.append(RunLog(Path(folder)))
        else:
            below[:] = [name for name in below if ASIDE not in name]
    for log in found:
        log.update()
    return sorted(found, key=lambda log: log.folder)


def all_left(logs: Sequence[RunLog], at_once: int, now: float) -> float | None:
    """Return the seconds until all of these runs are done; None while nothing is known to tell by.

    Args:
        logs: of runs, the waiting ones included; a waiting one takes as long as others of its method, or as any.
        at_once: how many run at a time.
        now: seconds since 1970.
    """
    states = {id(log): log.state for log in logs}
    running = [log for log in logs if states[id(log)] == "running"]
    waiting = [log for log in logs if states[id(log)] in ("waiting", "stopped")]
    took: dict[str, list[float]] = {}
    left: list[float] = []
    for log in logs:
        rest = log.left(now) if states[id(log)] in ("running", "done") else None
        if rest is not None and log.began is not None:
            took.setdefault(log.method, []).append((log.ended or now) - log.began + rest)
            left += [rest] if log in running else []
    if len(left) < len(running) or (waiting and not took):
        return None
    any_method = [seconds for times in took.values() for seconds in times]
    each = {name: sum(times) / len(times) for name, times in took.items()} | {
        "": sum(any_method) / max(len(any_method), 1)
    }
    work = sum(left) + sum(each.get(log.method, each[""]) for log in waiting)
    return max([work / max(at_once, 1), *left])


def now() -> float:
    """Return the time as the logs have it."""
    return datetime.now(UTC).timestamp()
