"""Runs as jobs of a Slurm cluster, written and collected by submitit."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from hpa_bench.errors import UserError, unknown
from hpa_bench.launchers.base import Job, Launcher, LauncherConfig
from hpa_bench.launchers.node import ClusterConfig, NodeRun

FOLDER = ".slurm"
"""Below the runs: what submitit writes and reads."""
GONE = "GONE"
"""No state of Slurm's: it knows the job no more."""
ENDED = frozenset(
    "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED REVOKED TIMEOUT".split()
) | {GONE}
"""States from which a job does not come back, once it has stayed in them for `SETTLE_SECONDS`."""
SETTLE_SECONDS = 8.0
"""Slurm lets a job end before it queues it again, and a shared file system shows a result late."""
LOOK_SECONDS = 5.0
"""Slurm is asked so seldom: its controller serves a whole cluster."""
ASK_SECONDS = 60
_FULL = re.compile(r"queue full|unable to accept job|submit limit|QOSMaxSubmit|AssocMaxSubmit|temporarily unavailable")
_TIME = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?")
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):(\d\d)(?::\d\d)?")


def minutes(text: str) -> int:
    """Return the minutes of a time limit such as 12h, 1d12h, 90m, 1-12:00:00, 12:00:00, or a number of minutes."""
    if text.isdecimal():
        return int(text)
    if (found := _TIME.fullmatch(text)) or (found := _CLOCK.fullmatch(text)):
        days, hours, rest = (int(part or 0) for part in found.groups())
        return (days * 24 + hours) * 60 + rest
    raise ValueError(f"{text!r} is no time limit, such as 12h, 1d12h, 90m or 1-12:00:00")


class SlurmConfig(ClusterConfig):
    """Options of `slurm`."""

    time: str = "24h"
    """The time limit of a job, such as 12h, 90m or 1-12:00:00; what is not finished by then goes on in the next."""
    partition: str | None = None
    """Where jobs are queued; several, separated by commas. Unset: the cluster's default."""
    account: str | None = None
    """Who is charged. Unset: the user's default account."""
    memory: str | None = None
    """Main memory of a run, as sbatch's --mem takes it: 64G."""
    at_once: int = Field(256, ge=1, le=100000)
    """Jobs of an array that may run at a time."""
    lines: list[str] = []
    """Lines of shell before the run, as in ["module load cuda"]."""
    sbatch: dict[str, str | bool | int] = {}
    """Further options of sbatch, as in {qos: high}."""
    warning: int = Field(90, ge=5, le=3600)
    """Seconds before the time limit at which a run is ended, so that the job can be queued again."""
    continuations: int = Field(50, ge=0, le=10000)
    """How often a job that ends at its time limit goes on."""

    @field_validator("time", mode="before")
    @classmethod
    def _limit(cls, value: Any) -> str:
        if minutes(str(value)) < 1:
            raise ValueError(f"time is {value!r}, and a job has a minute at least")
        return str(value)


class _Resumed(NodeRun):
    """A run that submitit queues again before its job's time is up, or when it makes room for another."""

    def __call__(self) -> str:
        told: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
        reason = super().__call__()
        if reason and told:
            # Slurm ends the job, and the run with it. A reason given here would count as the job's result, though Slurm
            # may be about to queue it again.
            time.sleep(600)
        return reason

    def checkpoint(self) -> Any:
        """End the run, which keeps what it has finished, and return what is to be queued."""
        from submitit.helpers import DelayedSubmission

        self.end()
        return DelayedSubmission(replace(self, process=None))


@dataclass
class _Queued:
    job: Any
    """As submitit has it."""
    ended_at: float | None = None
    """When it was first seen in a state of `ENDED`."""
    ended_as: str = ""
    """The last such state that Slurm gave: of a job that has ended it soon knows no more."""


class Slurm(Launcher):
    """Queue runs in Slurm as job arrays; preempted, or at their time limit, they go on in another job."""

    name: ClassVar[str] = "slurm"
    Config: ClassVar[type[LauncherConfig]] = SlurmConfig
    poll_seconds: ClassVar[float] = 1.0

    def __init__(self, config: LauncherConfig | None = None) -> None:
        super().__init__(config)
        self._states: dict[str, str] = {}
        self._looked = float("-inf")
        self._most = 1
        """Jobs that the cluster takes in one array."""

    def check(self, device: str) -> None:
        """Ask Slurm for its partitions and limits."""
        if find_spec("submitit") is None:
            raise UserError("Launcher 'slurm' is not installed: run `pip install 'hpa-bench[slurm]'`.")
        missing = next((tool for tool in ("sbatch", "squeue", "srun") if shutil.which(tool) is None), None)
        if missing:
            raise UserError(
                f"Launcher 'slurm' finds no {missing} here: start hpa-bench on a machine of the cluster that submits"
                " jobs."
            )
        try:
            nodes = [line.rpartition("|") for line in _ask("sinfo", "--Node", "--noheader", "--format=%R|%c").split()]
            told = _ask("scontrol", "show", "config")
        except (OSError, subprocess.SubprocessError) as error:
            raise UserError(
                f"Slurm cannot be reached ({_said(error)}): `sinfo` must work here before hpa-bench can submit jobs."
            ) from error
        asked = [name for name in (self.config.partition or "").split(",") if name]
        partitions = {partition for partition, _, _ in nodes}
        for name in asked:
            if name not in partitions:
                raise unknown("partition", name, partitions, "of launcher 'slurm'")
        # Slurm may take a job that no node will ever have the cores for, and let it wait.
        most = max((int(cores) for partition, _, cores in nodes if not asked or partition in asked), default=0)
        if self.config.cpus > most:
            raise UserError(f"No node of Slurm's has the {self.config.cpus} cores of launch.cpus: {most} at most.")
        limits = re.findall(r"^(?:MaxArraySize|MaxJobCount)\s*=\s*(\d+)", told, re.MULTILINE)
        self._most = max(1, min((int(limit) for limit in limits), default=2) - 1)

    def room(self, device: str) -> None:
        """Leave it to Slurm, which has a queue."""

    def submit(self, job: Job) -> _Queued:
        """Queue one job."""
        if not (handles := self.submit_together([job])):
            raise UserError("Slurm's queue is full: give the same command again when there is room.")
        return handles[0]

    def submit_together(self, jobs: Sequence[Job]) -> list[_Queued]:
        """Queue jobs as arrays, as many as Slurm takes."""
        folder = Path(os.path.commonpath([job.folder.absolute().parent for job in jobs])) / FOLDER
        handles: list[_Queued] = []
        size = self._most
        while size and (some := jobs[len(handles) : len(handles) + size]):
            try:
                handles += self._array(folder, some)
            except Exception as error:
                if not _FULL.search(str(error)):
                    raise UserError(
                        f"Slurm takes no such job ({_said(error)}): change what launch asks for."
                    ) from error
                size = len(some) // 2
        if len(handles) < len(jobs):
            left = len(jobs) - len(handles)
            print(f"Slurm's queue is full: {left} runs wait here and are tried again.", file=sys.stderr, flush=True)
        return handles

    def poll(self, handle: _Queued) -> str | None:
        """Return None until the job has left its result, or Slurm has given it up."""
        if handle.job.paths.result_pickle.exists():
            try:
                return str(handle.job.result())
            except Exception as error:
                return self._broken(handle.job, str(error))
        state = self._state(handle.job.job_id)
        if state not in ENDED:
            handle.ended_at, handle.ended_as = None, ""
            return None
        if state != GONE or not handle.ended_as:
            handle.ended_as = state
        handle.ended_at = handle.ended_at or time.monotonic()
        if time.monotonic() - handle.ended_at < SETTLE_SECONDS:
            return None
        return self._given_up(handle.job, handle.ended_as)

    def cancel(self, handle: _Queued) -> None:
        """Cancel a job, and wait until Slurm has ended it."""
        self.cancel_together([handle])

    def cancel_together(self, handles: Sequence[_Queued]) -> None:
        """Cancel jobs at once, and wait until Slurm has ended them."""
        left = [handle.job.job_id for handle in handles if not handle.job.paths.result_pickle.exists()]
        if not left:
            return
        subprocess.run(["scancel", *left], capture_output=True, timeout=ASK_SECONDS)
        until = time.monotonic() + ASK_SECONDS
        while time.monotonic() < until and any(self._state(job) not in ENDED for job in left):
            time.sleep(self.poll_seconds)
            self._looked = float("-inf")

    def _array(self, folder: Path, jobs: Sequence[Job]) -> list[_Queued]:
        from submitit import SlurmExecutor

        config: SlurmConfig = self.config
        with _outside_of_jobs():
            executor = SlurmExecutor(folder, max_num_timeout=config.continuations)
            executor.update_parameters(
                job_name="hpa-bench",
                time=minutes(config.time),
                partition=config.partition,
                account=config.account,
                cpus_per_task=config.cpus,
                gpus_per_node=config.gpus_of(jobs[0].device) or None,
                mem=config.memory,
                setup=list(config.lines) or None,
                signal_delay_s=config.warning,
                array_parallelism=config.at_once,
                additional_parameters={"requeue": True, **config.sbatch},
            )
            with executor.batch(allow_implicit_submissions=True):
                queued = [executor.submit(_Resumed.of(job, config)) for job in jobs]
        self._looked = float("-inf")
        return [_Queued(job) for job in queued]

    def _state(self, job: str) -> str:
        """Return a job's state as Slurm had it at the last look; UNKNOWN while Slurm does not answer."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = time.monotonic()
            try:
                told = _ask("squeue", "--me", "--array", "--states=all", "--noheader", "--format=%i|%T")
            except (OSError, subprocess.SubprocessError):
                self._states = {}
                return "UNKNOWN"
            self._states = dict(line.split("|", 1) for line in told.splitlines() if "|" in line) | {"": ""}
        return self._states.get(job, GONE if self._states else "UNKNOWN")

    def _broken(self, job: Any, trace: str) -> str:
        said = re.findall(r"^[\w.]+(?:Error|Exception)\b.*", trace, re.MULTILINE)
        last = said[-1] if said else "no reason given"
        if "timed-out too many times" in last:
            return (
                f"not finished after {1 + self.config.continuations} jobs of {self.config.time} in Slurm (the last was"
                f" {job.job_id}): raise launch.time, and give the same command again"
            )
        return f"Slurm job {job.job_id} could not make it: {last}"

    def _given_up(self, job: Any, state: str) -> str:
        printed = "".join(
            path.read_text(errors="replace") for path in (job.paths.stderr, job.paths.stdout) if path.exists()
        )
        if not printed and state not in ("CANCELLED", "PREEMPTED"):
            return (
                f"Slurm job {job.job_id} ended as {state} and left nothing in {job.paths.folder}: do the nodes see that"
                " folder, and may they write to it?"
            )
        errors = [line for line in printed.splitlines() if re.match(r"(slurmstepd|srun)\S*: error: ", line)]
        memory = [line for line in errors if re.search(r"memory|oom", line, re.I)]
        if memory or state == "OUT_OF_MEMORY":
            return f"Slurm job {job.job_id} was ended for its memory: raise launch.memory, or lower the batch sizes"
        if state == "CANCELLED":
            return f"cancelled in Slurm (job {job.job_id})"
        told = f" ({errors[-1].partition('error: ')[2]})" if errors else ""
        return f"Slurm job {job.job_id} ended as {state}{told}; see {job.paths.stderr}"


def _ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=ASK_SECONDS).stdout


def _said(error: Exception) -> str:
    """Return what a tool of Slurm's said last, without its name."""
    text = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
    lines = [line.strip() for line in (text or str(error)).splitlines() if "error:" in line]
    return re.sub(r"^.*error: ", "", lines[-1]) if lines else str(error).strip().partition("\n")[0]


@contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """Hide what a job that submits others has in its environment, since these would inherit it."""
    hidden: Mapping[str, str] = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if name.startswith(("SLURM_", "SRUN_", "SBATCH_", "SUBMITIT_")) and name != "SLURM_CONF"
    }
    try:
        yield
    finally:
        os.environ.update(hidden)
