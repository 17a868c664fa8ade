"""Wall seconds of whole commands: the main job, and `list methods` beside the bare start of a command line.

The main job takes at most 120 s on 2 idle cores; `list methods` takes under 3 times what `python -c "import typer,
rich"` takes, plus 0.1 s.

Run: python benchmarks/commands.py [--main-job 1] [--listings 10]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hpa_bench.results.run_folder import RunFolder


def seconds(*arguments: str) -> float:
    return wall([str(Path(sys.executable).parent / "hpa-bench"), *arguments])


def wall(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--main-job", type=int, default=1, help="how often to run it")
    parser.add_argument("--listings", type=int, default=10)
    options = parser.parse_args()

    start = [sys.executable, "-c", "import typer, rich"]
    pairs = [(wall(start), seconds("list", "methods")) for _ in range(options.listings + 1)][1:]
    if pairs:
        bare, listed = (statistics.median(column) for column in zip(*pairs, strict=True))
        slowest = max(listing for _, listing in pairs)
        print(f"hpa-bench list methods: median {listed:.2f} s, max {slowest:.2f} s; at most {3 * bare + 0.1:.2f} s,")
        print(f"3 times the {bare:.2f} s of typer and rich, plus 0.1 s")
    for _ in range(options.main_job):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            whole = seconds("run", "--method", "hpa", "--out", str(out))
            steps: dict[str, float] = {}
            for stage in RunFolder(out).finished_stages():
                for step, spent in stage.cost["seconds"].items():
                    steps[step] = steps.get(step, 0.0) + spent
        steps["imports and report"] = whole - sum(steps.values())
        parts = ", ".join(f"{step} {spent:.1f}" for step, spent in sorted(steps.items(), key=lambda item: -item[1]))
        print(f"hpa-bench run --method hpa: {whole:.1f} s ({parts})")


if __name__ == "__main__":
    main()
