"""What launchers cost and gain: python benchmarks/launch.py [--runs 24] [--launchers local,ray,slurm] [--planned 1000]

Of runs of a suite that takes seconds: the time of all by one worker over that by two (at least 1.8, on a machine of two
idle cores), what a launcher adds to a run beside the run's own command (under 2 s; with Slurm's own scheduling in it),
and how long it takes to plan a thousand runs (under 20 s). Wall-clock, so only on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from hpa_bench.cli import planning
from hpa_bench.runner.launch import missing
from hpa_bench.spec import RunOptions
from tests.support.suites import write_suite

ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "RAY_worker_niceness": "0"}
"""Ray's workers give way to all else by default, which other launchers' runs do not."""
WORKERS = {
    # The launcher by one worker and by two; each run has one thread either way.
    "local": (["local:slots=1"], ["local:slots=2"]),
    "ray": (["ray:cpus=2"], ["ray:cpus=1"]),
    "slurm": (["slurm:at_once=1"], ["slurm:at_once=2"]),
}
"""On a machine of two cores: two cores a run leave room for one."""


Cost = tuple[float, float]
"""Seconds on the clock, and of CPU by the command with all that it waited for: a Ray's own are not in it."""


def cost(begun: Cost | None = None) -> Cost:
    """What has passed since then."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    clock, cpu = begun or (0.0, 0.0)
    return time.perf_counter() - clock, used.ru_utime + used.ru_stime - cpu


def compare(suite: Path, runs: Path, count: int, launcher: list[str]) -> Cost:
    """The cost of a comparison of so many seeds, its report included."""
    command = [sys.executable, "-m", "hpa_bench", "compare", "--suite", str(suite), "--methods", "seqft"]
    command += ["--seeds", f"0-{count - 1}", "--runs", str(runs), "--device", "cpu", "--launcher", *launcher]
    command += ["--publish", str(runs / "published")]
    begun = cost()
    subprocess.run(command, check=True, env=ONE_THREAD, stdout=subprocess.DEVNULL)
    return cost(begun)


def alone(suite: Path, runs: Path, count: int) -> Cost:
    """The cost of the same runs, each as a command of its own."""
    command = [sys.executable, "-m", "hpa_bench", "run", "--suite", str(suite), "--method", "seqft", "--no-report"]
    begun = cost()
    for seed in range(count):
        each = [*command, "--seed", str(seed), "--device", "cpu", "--out", str(runs / str(seed))]
        subprocess.run(each, check=True, env=ONE_THREAD, stdout=subprocess.DEVNULL)
    return cost(begun)


def planned(suite: Path, runs: Path, count: int) -> float:
    """The seconds that planning so many runs takes, until it is known which of them are missing."""
    methods = ["seqft", "hpa", "ewc", "replay"]
    begun = time.perf_counter()
    seeds = list(range(count // len(methods)))
    wanted = planning.planned(RunOptions(suite=str(suite)), methods, seeds, [None], [0.0], runs)
    assert len(missing(wanted)) == len(wanted) == len(seeds) * len(methods)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=24)
    parser.add_argument("--launchers", default="local,ray")
    parser.add_argument("--planned", type=int, default=1000)
    given = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        suite = write_suite(folder / "suite")
        seconds = planned(suite, folder / "planned", given.planned)
        print(f"{given.planned} runs planned in {seconds:.1f} s", flush=True)
        if not given.runs:
            return
        own, own_cpu = alone(suite, folder / "alone", given.runs)
        print(f"{given.runs} runs as commands: {own:.1f} s, {own_cpu:.1f} of CPU", flush=True)
        for launcher in given.launchers.split(","):
            one, two = WORKERS[launcher]
            by_one, cpu = compare(suite, folder / f"{launcher}1", given.runs, one)
            by_two, _ = compare(suite, folder / f"{launcher}2", given.runs, two)
            print(
                f"{launcher}: one worker {by_one:.1f} s, two {by_two:.1f} s: {by_one / by_two:.2f} times faster;"
                f" {(by_one - own) / given.runs:+.2f} s a run, {(cpu - own_cpu) / given.runs:+.2f} of CPU",
                flush=True,
            )


if __name__ == "__main__":
    main()
