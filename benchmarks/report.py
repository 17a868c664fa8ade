"""What a report of many runs costs: python -m benchmarks.report [--runs 680] [--out FOLDER]

Builds published runs in the numbers and shapes of `reports/tiny/series.yaml` (methods, seeds, noise runs, harmful data,
orders), of six tasks, three safety sets and a benign one of 130 samples each. Their scores and verdicts are drawn, so
they are a load and no results. Then says how long `hpa-bench report` takes with them, in a process of its own and
those that it forks to draw figures, how much memory, and how large the page is. Bounds: 30 s of two cores that do
nothing else, 500 MB, 5 MB.

Memory is told twice: the largest resident set of any one process, in which what a forked one shares with the first
counts again (getrusage), and that of all together at one moment, what they share once (the sum of their proportional
sets, looked at ten times a second).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from hpa_bench.results.manifest import Manifest
from hpa_bench.results.publish import RUN
from hpa_bench.results.published import run_name
from tests.support.published import publish_committed
from tests.support.run_folders import write_run

SERIES = Path(__file__).parents[1] / "reports" / "tiny" / "series.yaml"
TASKS = ["tiny_ad", "tiny_imagenet", "tiny_flickr30k", "tiny_fin", "tiny_scienceqa", "tiny_textvqa"]
SAFETY = ["tiny_unsafe_image", "tiny_safe_image_unsafe_instruction", "tiny_unsafe_phrasing"]
BENIGN = ["tiny_benign"]
N = 130


class Planned(NamedTuple):
    """A run of the series."""

    method: str
    settings: tuple[tuple[str, Any], ...] = ()
    seed: int = 0
    noise: int = 0
    harmful_ratio: float = 0.0
    order: tuple[int, ...] = ()
    suite: tuple[tuple[str, str], ...] = ()


def series() -> list[Planned]:
    """The runs of the series, each once, in its order; trials and the settings that they choose are none of them."""
    known = sorted(found.name for found in entry_points(group="hpa_bench.methods"))
    runs: dict[Planned, None] = {}
    steps = yaml.safe_load(SERIES.read_text(encoding="utf-8"))["steps"]
    for step in (step for step in steps if not step.get("trials") and not step.get("tuned")):
        named = [name for each in step["methods"] for name in (known if each == "all" else [each])]
        orders = [tuple(int(place) for place in order.split(",")) for order in step.get("order", [])] or [()]
        suite = tuple(tuple(each.split("=", 1)) for each in step.get("set", []))
        for seed in seeds_of(step["seeds"]):
            for name in named:
                for ratio in step.get("harmful_ratio", [0.0]):
                    for order in orders:
                        for noise in range(1, step["noise"] + 1) if "noise" in step else (0,):
                            runs[planned(name, seed, noise, ratio, order, suite)] = None
    return list(runs)


def seeds_of(text: str) -> Iterator[int]:
    """The seeds that "0-9" or "0" names."""
    first, _, last = str(text).partition("-")
    yield from range(int(first), int(last or first) + 1)


def planned(name: str, seed: int, noise: int, ratio: float, order: Any, suite: Any) -> Planned:
    """A run, from a method as the series writes it, such as "hpa:p_max=30:p_min=10"."""
    method, *pairs = name.split(":")
    settings = tuple((key, yaml.safe_load(value)) for key, value in (pair.split("=") for pair in pairs))
    return Planned(method, settings, seed, noise, ratio, order, suite)


def write(run: Planned, runs: Path, out: Path) -> Path:
    """Write and publish a run whose level is its method's own; returns the published file."""
    place = zlib.crc32(run.method.encode()) % 997 / 997, zlib.crc32(str(run.settings).encode()) % 997 / 997
    joint, still = run.method == "joint", run.method == "zero_shot"
    tasks = [TASKS[index - 1] for index in run.order] or TASKS
    about = {"suite": "tiny", "noise": run.noise, "suite_config": {"version": 2, "tasks": tasks} | dict(run.suite)}
    about |= {"git_commit": "0123456789abcdef", "versions": {"python": "3.11", "torch": "2.0"}, "uncommitted": False}
    folder = write_run(
        runs,
        run.method,
        run.seed,
        tasks=tasks,
        safety_sets=SAFETY,
        benign_sets=BENIGN,
        stages=[] if still else [tasks] if joint else None,
        n=N,
        config={"p_max": 15.0, "p_min": 5.0, "rate": 0.5} | dict(run.settings),
        changed=dict(run.settings),
        harmful_ratio=run.harmful_ratio,
        forget=0.0 if joint else 0.75 * place[0] + 0.1 * place[1],
        unsafe=0.5 * (1 - place[0]) ** 2 + 0.2 * place[1] + 0.3 * bool(run.harmful_ratio),
        learn=0.75 + 0.2 * place[0],
        manifest=about,
    )
    return publish_committed(folder, out).path


def again(path: Path, seed: int, noise: int) -> None:
    """Write a published run once more as another seed or noise run: a twelfth of its samples end as others do."""
    rows = pq.read_table(path).to_pylist(maps_as_pydicts="strict")
    draw = np.random.default_rng([seed, noise, *path.parent.name.encode()])
    about = json.loads(rows[0]["run"])
    about["manifest"] |= {"seed": seed, "noise": noise}
    for row in rows:
        row["run"] = json.dumps(about)
        row["responses"] = None
        there = draw.permutation(N)[: N // (30 if noise else 12)]
        taken = np.where(draw.random(len(there)) < 0.1 + 0.08 * (seed % 7), draw.integers(0, N, len(there)), there)
        for values in (row["scores"], *row["verdicts"].values()):
            if values and row["stage"]:
                for index, other in zip(there, taken, strict=True):
                    values[index] = values[other]
    name = run_name(Manifest.parse(about["manifest"], path).compared())
    pq.write_table(pa.Table.from_pylist(rows, RUN), path.parents[1] / name)


def build(out: Path, count: int) -> int:
    """Publish the first runs of the series below a folder; returns how many."""
    first: dict[Planned, Path] = {}
    listed = series()[:count]
    for run in listed:
        alike = run._replace(seed=0, noise=0)
        if alike not in first:
            first[alike] = write(alike, out / "runs", out)
            shutil.rmtree(out / "runs")
        if run != alike:
            again(first[alike], run.seed, run.noise)
    return len(listed)


def shared_once(process: int) -> int:
    """Return the bytes of memory of a process and of those that it has started, what they share counted once."""
    try:
        rollup = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
        children = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split()
    except OSError:  # It has ended meanwhile.
        return 0
    own = next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)
    return 1024 * own + sum(shared_once(int(child)) for child in children)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=680)
    parser.add_argument("--out", type=Path, help="built here, or where it holds runs already, used as it is")
    options = parser.parse_args()
    out = options.out or Path(mkdtemp())
    if not (out / "results").exists():
        begun = time.perf_counter()
        print(f"{build(out, options.runs)} runs built in {time.perf_counter() - begun:.0f} s")
    command = [sys.executable, "-m", "hpa_bench", "report", str(out), "--out", str(out / "report")]
    begun, together = time.perf_counter(), 0
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    while running.poll() is None:
        together = max(together, shared_once(running.pid))
        time.sleep(0.1)
    took = time.perf_counter() - begun
    if running.returncode:
        sys.exit(running.returncode)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    size = (out / "report" / "report.html").stat().st_size / 1e6
    spent = f"{took:.1f} s, {used.ru_utime + used.ru_stime:.1f} s of processors"
    memory = f"at most {used.ru_maxrss * 1024 / 1e6:.0f} MB in one process and {together / 1e6:.0f} MB in all"
    print(f"report: {spent}, {memory}, page {size:.1f} MB")
    if options.out is None:
        shutil.rmtree(out)


if __name__ == "__main__":
    main()
