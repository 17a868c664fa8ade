"""What launchers cost and gain: python benchmarks/launch.py [--runs 24] [--launchers local,ray,slurm] [--planned 1000]

Of runs of a suite that takes seconds: the time of all by one worker over that by two (at least 1.8, on a machine of two
idle cores), what a launcher adds to a run beside the run's own command (under 2 s; with Slurm's own scheduling in it),
how long it takes to plan a thousand runs (under 20 s), and `hpa-bench status` to tell of so many (under 3 s).
Wall-clock, so only on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from hpa_bench.cli import planning
from hpa_bench.runner.events import LOG
from hpa_bench.runner.launch import missing
from hpa_bench.spec import RunOptions
from tests.support.slurm_cluster import free_port
from tests.support.suites import write_suite

ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "RAY_worker_niceness": "0"}
"""Ray's workers give way to all else by default, which other launchers' runs do not."""
ONE_THREAD |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid4().hex}
EVENTS = 720
"""Of a run of the suite `tiny`: 600 steps, and what else it tells."""
START_SECONDS = 20.0
"""A Ray has so long to start, which is not counted: it runs before a comparison, and after it."""
LAUNCHERS = {
    "local": "local:slots={workers}",
    "ray": "ray:address={address}",
    "slurm": "slurm:at_once={workers}",
}
"""Each launcher with so many workers; a run has one core, and one thread, however many there are."""


Cost = tuple[float, float]
"""Seconds on the clock, and of CPU by the command with all that it waited for: a Ray's own are not in it."""


def cost(begun: Cost | None = None) -> Cost:
    """What has passed since then."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    clock, cpu = begun or (0.0, 0.0)
    return time.perf_counter() - clock, used.ru_utime + used.ru_stime - cpu


@contextmanager
def ray_cluster(workers: int) -> Iterator[str]:
    """Start a Ray of so many cores on this machine, and give its address."""
    port = free_port()
    command = [str(Path(sys.executable).parent / "ray"), "start", "--block", "--head", f"--port={port}"]
    command += [f"--num-cpus={workers}", "--include-dashboard=false", "--disable-usage-stats"]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env=ONE_THREAD, start_new_session=True, **silent)
    try:
        time.sleep(START_SECONDS)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def compare(suite: Path, runs: Path, count: int, launcher: str) -> Cost:
    """The cost of a comparison of so many seeds, its report included."""
    command = [sys.executable, "-m", "hpa_bench", "compare", "--suite", str(suite), "--methods", "seqft"]
    command += ["--seeds", f"0-{count - 1}", "--runs", str(runs), "--device", "cpu", "--launcher", launcher]
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


def told(run: Path, runs: Path, count: int) -> float:
    """The seconds that `hpa-bench status` takes over so many runs, each with the events of one of the suite `tiny`."""
    lines = (run / LOG).read_text(encoding="utf-8").splitlines(keepends=True)
    step = next(line for line in lines if json.loads(line)["event"] == "step")
    text = "".join(lines[:-1] + [step] * max(0, EVENTS - len(lines)) + lines[-1:])
    for number in range(count):
        (runs / str(number)).mkdir(parents=True)
        (runs / str(number) / LOG).write_text(text, encoding="utf-8")
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-m", "hpa_bench", "status", str(runs)], check=True, stdout=subprocess.DEVNULL)
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
        seconds = told(folder / "alone" / "0", folder / "many", given.planned)
        print(f"the status of {given.planned} runs in {seconds:.1f} s", flush=True)
        for launcher in given.launchers.split(","):
            costs = []
            for workers in (1, 2):
                with ray_cluster(workers) if launcher == "ray" else nullcontext("") as address:
                    how = LAUNCHERS[launcher].format(workers=workers, address=address)
                    costs.append(compare(suite, folder / f"{launcher}{workers}", given.runs, how))
            (by_one, cpu), (by_two, _) = costs
            print(
                f"{launcher}: one worker {by_one:.1f} s, two {by_two:.1f} s: {by_one / by_two:.2f} times faster;"
                f" {(by_one - own) / given.runs:+.2f} s a run, {(cpu - own_cpu) / given.runs:+.2f} of CPU",
                flush=True,
            )


if __name__ == "__main__":
    main()
