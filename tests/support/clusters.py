"""What the tests of both clusters do: runs of the small suite by a launcher, some made to hang."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.support import stalls

SECONDS = 420
"""How long a test waits for anything, on a machine that may be busy."""


class Compared:
    """`hpa-bench compare` of some seeds of one method, as a process."""

    def __init__(
        self,
        suite: Path,
        runs: Path,
        seeds: str,
        launch: Sequence[str],
        env: Mapping[str, str] = {},
        options: Sequence[str] = (),
    ) -> None:
        """Start it.

        Args:
            suite: the suite's YAML file.
            runs: the folder of the runs.
            seeds: as in `--seeds`.
            launch: the launcher's name, and its settings as KEY=VALUE.
            env: further variables.
            options: further options of `compare`.
        """
        self.runs = runs
        runs.mkdir(parents=True, exist_ok=True)
        name, *settings = launch
        command = [sys.executable, "-m", "hpa_bench", "compare", "--suite", str(suite), "--methods", "seqft"]
        command += ["--seeds", seeds, "--runs", str(runs), "--device", "cpu", "--launcher", name, *options]
        command += [part for setting in settings for part in ("--set", f"launch.{setting}")]
        self._out = runs / "compare.txt"
        with self._out.open("ab") as out:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, env=os.environ | env, start_new_session=True
            )

    def end(self) -> tuple[int, str]:
        """Wait for it, and return its exit status and what it and those before it printed, lines joined."""
        code = self.process.wait(SECONDS)
        return code, self.printed()

    def printed(self) -> str:
        return " ".join(self._out.read_text(errors="replace").split())

    def run(self, seed: int) -> Path:
        """The folder of a seed's run."""
        return next(self.runs.glob(f"small/seqft-*/seed{seed}"))


def stalling(folder: Path, *seeds: int) -> Path:
    """Write a plugin that makes the first attempt of these seeds' runs hang, and return its file."""
    marks = folder / "marks"
    marks.mkdir(exist_ok=True)
    for seed in seeds:
        (marks / str(seed)).touch()
    plugin = folder / "stalls.py"
    if not plugin.exists():
        shutil.copy(stalls.__file__, plugin)
    return plugin


def hangs(plugin: Path, seed: int) -> str:
    """Wait until the run of a seed hangs, and return the name of its node."""
    mark = plugin.parent / "marks" / str(seed)
    wait(lambda: bool(mark.read_text()), f"seed {seed} to hang")
    return mark.read_text()


def wait(true: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < until, f"waited {SECONDS} s for {what}"
        time.sleep(0.5)


def numbers(run: Path) -> dict[str, object]:
    """Every response, score and verdict of a finished run, and the weights that its last stage left."""
    assert (run / "stage2" / "DONE").exists(), run
    found: dict[str, object] = {
        str(file.relative_to(run)): file.read_text() for file in sorted(run.glob("stage*/**/*.jsonl"))
    }
    for file in run.glob("stage*/scores.json"):
        found[str(file.relative_to(run))] = json.loads(file.read_text())
    found["weights"] = {file.name: file.read_bytes() for file in run.glob("stage2/weights/*.safetensors")}
    return found


def attempts(run: Path) -> list[str]:
    """The nodes of a run's attempts, from its log."""
    lines = run.with_suffix(".log").read_text(errors="replace").splitlines()
    return [line.rpartition(" ")[2] for line in lines if line.startswith("Attempt ")]
