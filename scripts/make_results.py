"""Make the runs of a series and publish each as it comes: `python scripts/make_results.py [--out FOLDER]`.

A series (reports/tiny/series.yaml) is a list of `hpa-bench compare` calls, and of `hpa-bench tune` calls, whose trials
stand in tuned.json beside the results. All runs are made from one commit, which the tables name; what is
published already is not made again, and what was stopped goes on. To go on changing code meanwhile, make them in a
worktree: `git worktree add ../frozen; make -C ../frozen results OUT=$PWD/reports/tiny`.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import model_validator

from hpa_bench.config import BaseConfig, parse, read_yaml
from hpa_bench.errors import UserError
from hpa_bench.machine.stopping import Stopped, stops_raised
from hpa_bench.results.publish import check_code
from hpa_bench.results.tuned import TUNED, Tuned, read_tuned
from hpa_bench.runner.environment import git_commit, uncommitted
from hpa_bench.suite import read_suite

ROOT = Path(__file__).resolve().parents[1]


class Step(BaseConfig):
    """One call of `compare`, or, where `trials` is given, one of `tune` for each entry of `methods`."""

    name: str
    methods: list[str]
    seeds: str = ""
    trials: int = 0
    """Of each method, its budget; their seeds are `tune`'s own."""
    tuned: bool = False
    """Whether each method is followed by its tuned form, of the trials of an earlier step."""
    order: list[str] = []
    harmful_ratio: list[float] = []
    noise: int = 0
    set: list[str] = []

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if not self.trials and not self.seeds:
            raise ValueError("expected seeds, or trials")
        if self.trials and self.model_fields_set - {"name", "methods", "trials"}:
            raise ValueError("trials go with a name and methods alone")
        return self


class Series(BaseConfig):
    """What is to be made, in this order."""

    suite: str
    steps: list[Step]


def read_series(path: Path) -> Series:
    """Read a series; an unknown key is refused."""
    return parse(Series, read_yaml(path.read_text(encoding="utf-8")), f"in {path}")


def arguments(suite: str, step: Step) -> list[str]:
    """Return the options of `hpa-bench compare` that make a step's runs."""
    repeated = [("--order", step.order), ("--harmful-ratio", step.harmful_ratio), ("--set", step.set)]
    options: list[Any] = ["--suite", suite, "--methods", ",".join(step.methods), "--seeds", step.seeds]
    options += [part for option, values in repeated for value in values for part in (option, value)]
    return [*map(str, options), *(["--noise", str(step.noise)] if step.noise else [])]


def make(series: Series, out: Path, jobs: int, only: Sequence[str]) -> list[str]:
    """Make and publish what is missing; return the names of the steps that are not complete."""
    check_code(out, commit := git_commit(), uncommitted())
    runs = Path("runs") / f"results-{(commit or 'unknown')[:12]}"
    how = ["--jobs", str(jobs), "--device", "cpu"]
    shared = ["--runs", str(runs), "--publish", str(out), "--show-unsafe", *how]
    incomplete = []
    for step in (step for step in series.steps if not only or step.name in only):
        print(f"== {step.name}", flush=True)
        if step.trials:
            failed = tune(series.suite, step, out / TUNED, runs, how)
        else:
            tuned = ["--tuned", str(out / TUNED)] if step.tuned else []
            failed = call("compare", *arguments(series.suite, step), *tuned, *shared) != 0
        if failed:
            incomplete.append(step.name)
    return incomplete


def tune(suite: str, step: Step, published: Path, runs: Path, how: Sequence[str]) -> bool:
    """Tune one entry after the other, publish its trials once all have a score or a reason; return whether some lack.

    Args:
        suite: the suite.
        step: its methods and their budget.
        published: the file that all methods' trials stand in; what it has is not tuned again.
        runs: where the trials' runs are.
        how: options of `tune` and `compare` alike.
    """
    file = ROOT / runs / "tuned" / f"{read_suite(suite)[0]['name']}.json"
    incomplete = False
    for names in step.methods:
        known = _read(published)
        if _has(known, names):
            continue
        if known is not None:
            known.write(file)
        wanted = ["--suite", suite, "--methods", names, "--trials", str(step.trials), "--out", str(file.parent)]
        if call("tune", *wanted, *how):
            call("tune", *wanted, *how)  # What fails twice stands in the file with its reason.
        found = _read(file)
        if found is not None and _has(found, names):
            found.beside(_read(published)).write(published)  # Another worktree may have published some meanwhile.
        else:
            incomplete = True
    return incomplete


def _read(path: Path) -> Tuned | None:
    return read_tuned(path) if path.exists() else None


def _has(tuned: Tuned | None, names: str) -> bool:
    """Whether a file has every method of an entry, tuned or not."""
    return tuned is not None and {*names.split(",")} <= {*tuned.methods, *tuned.untuned}


def call(*arguments: str) -> int:
    """Return the exit status of a command of hpa-bench (`run_command`)."""
    return run_command([sys.executable, "-m", "hpa_bench", *arguments])


def run_command(command: Sequence[str]) -> int:
    """Return a command's exit status; a signal to stop is handed on once, and waited for."""
    with stops_raised():
        process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        try:
            return process.wait()
        except Stopped as stopped:
            process.send_signal(stopped.number)
            process.wait()
            raise SystemExit(128 + stopped.number) from None


def main() -> None:
    """Read the command line, and make what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=Path, default=ROOT / "reports" / "tiny" / "series.yaml")
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "tiny", help="the report's folder")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--only", action="append", default=[], metavar="STEP", help="its name; several times: each")
    given = parser.parse_args()
    try:
        incomplete = make(read_series(given.series), given.out.resolve(), given.jobs, given.only)
    except UserError as error:
        raise SystemExit(f"Error: {error}") from None
    if incomplete:
        raise SystemExit(f"Not complete: {', '.join(incomplete)}. The same command goes on.")


if __name__ == "__main__":
    main()
