"""CPU-seconds (user and system) of the main job here over those of another checkout, alternated on one machine.

Run: python benchmarks/run_cost.py OTHER [--rounds 2] [--set KEY=VALUE ...] [--here KEY=VALUE ...]

OTHER is a checkout with an environment in .venv; `git worktree add ../other e2221df` makes one of an older commit.
What `--set` says goes to both, so that both take the same optimiser steps; what `--here` says is of this checkout
alone. Wall seconds would count whatever else a machine does. CPU-seconds grow as well where two busy processes share a
core, so the two take turns, and each round has a ratio of its own.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent


def cpu_seconds(python: str, checkout: Path, settings: list[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [python, "-m", "hpa_bench", "run", "--method", "hpa", "--device", "cpu", "--out", f"{folder}/run"]
        for setting in settings:
            command += ["--set", setting]
        process = subprocess.Popen(command, cwd=checkout, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with exit status {process.returncode}")
        return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path)
    parser.add_argument("--python", help="the other's interpreter; by default that in OTHER/.venv")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--here", action="append", default=[])
    options = parser.parse_args()
    theirs = options.other.resolve()
    python = options.python or str(theirs / ".venv" / "bin" / "python")
    pairs = []
    for number in range(1, options.rounds + 1):
        here = cpu_seconds(sys.executable, HERE, [*options.settings, *options.here])
        other = cpu_seconds(python, theirs, options.settings)
        pairs.append((here, other))
        print(f"round {number}: here {here:.1f} s, other {other:.1f} s, ratio {here / other:.2f}", flush=True)
    ratios = [here / other for here, other in pairs]
    print(
        f"ratio of CPU-seconds: median {statistics.median(ratios):.2f} (min {min(ratios):.2f}, max {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
