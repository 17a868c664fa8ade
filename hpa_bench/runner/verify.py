"""Verification: a published run is made once more on this machine, and its responses are compared one by one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hpa_bench.config import parse
from hpa_bench.errors import UserError
from hpa_bench.files import write_json
from hpa_bench.launchers.base import make_launcher
from hpa_bench.machine.numerics import VARIABLES, cpu
from hpa_bench.method import methods
from hpa_bench.report.beside import beside
from hpa_bench.results.manifest import Manifest
from hpa_bench.results.measures import Key, Series
from hpa_bench.results.published import PublishedRun, find_published
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.results.runs import Run, read_runs
from hpa_bench.runner.environment import git_commit, uncommitted, versions
from hpa_bench.runner.launch import launch
from hpa_bench.spec import RunSpec
from hpa_bench.suite import make_suite, read_suite

FIRST = ("hpa", "seqft")
"""Whose run is taken where several could be."""
NO_NUMBER = "no number"


@dataclass(frozen=True)
class Difference:
    """The first stage and set whose responses differ."""

    stage: int
    set: str
    count: int
    """Samples whose responses are known to differ; 0: some."""
    all_known: bool
    """Whether all responses are there to compare, and not their hash, scores and verdicts alone."""
    n: int
    metric: str
    there: float | None
    """The score in percent, as published."""
    here: float | None

    def __str__(self) -> str:
        count = "some" if not self.count else f"{self.count}" if self.all_known else f"at least {self.count}"
        shown = (NO_NUMBER if value is None else f"{value:.1f}" for value in (self.there, self.here))
        scores = "{} published and {} here".format(*shown)
        return f"stage {self.stage}, {self.set}: {count} of {self.n} responses, {self.metric} {scores}"


def choose(runs: Sequence[Run]) -> Run:
    """Return the run that tells most: of `FIRST` with its defaults, with its responses, and of the lowest seed."""
    trained = [run for run in runs if run.last and not run.missing] or list(runs)

    def rank(run: Run) -> tuple[int, bool, int, int, str]:
        place = FIRST.index(run.label) if run.label in FIRST else len(FIRST)
        return place, not run.source.has_texts, run.noise, run.seed, str(run.path)

    return min(trained, key=rank)


def spec_of(manifest: Manifest, suite: str | None = None) -> RunSpec:
    """Return the specification that makes a run again.

    Args:
        manifest: the run's.
        suite: the path of its suite, where it does not come with the package.

    Raises:
        UserError: the suite, its version or the method is another here, or a plugin's.
    """
    values, folder = read_suite(suite or manifest.suite)
    if (version := values.get("version", 1)) != manifest.suite_version:
        raise UserError(f"The published run is of {manifest.suite_title}, and this hpa-bench has version {version}.")
    said = dict(manifest.suite_config)
    template = said.pop("chat_template", None)
    for key, value in said.items():
        # A manifest leaves out what is no part of what makes a run.
        values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) and key in values else value
    method = methods.get(manifest.method)
    made = make_suite(values, folder, f"of the published run of {manifest.suite}")
    config = parse(method.Config, manifest.config, f"of method {manifest.method!r} in the published run")
    spec = RunSpec(made, method, config, manifest.seed, manifest.harmful_ratio, manifest.changed, noise=manifest.noise)
    if template is not None and spec.identity()["suite_config"]["chat_template"] != template:
        raise UserError("The published run had another chat template than the suite has here.")
    return spec


def make_again(there: Run, folder: Path, suite: str | None = None) -> Run:
    """Make a published run once more.

    Args:
        there: the published run.
        folder: of the new run; what is finished of it is not made again.
        suite: as of `spec_of`.

    Raises:
        UserError: it cannot be made here, or it failed.
    """
    spec = spec_of(there.manifest, suite)
    device = there.manifest.numerics.device or "cpu"
    for _, reason in launch({folder: spec}, make_launcher("local:slots=1"), device):
        if reason:
            raise UserError(f"The published run of {there.label} cannot be made here: {reason}")
    return Run(RunFolder(folder))


def first_difference(there: Run, here: Run) -> Difference | None:
    """Return where a run first differs from the same one as published; None where every response is equal."""
    for stage in range(len(there.stages)):
        for name in there.data[stage].ids:
            if there.source.digest(stage, name) != here.source.digest(stage, name):
                return _difference(there, here, stage, name)
    return None


def _difference(there: Run, here: Run, stage: int, name: str) -> Difference:
    ids = here.data[stage].ids[name]
    answers = [_known(run, stage, name) for run in (there, here)]
    all_known = all(
        run.source.has_texts and run.stages[stage].responses(name)[0]["response"] is not None for run in (there, here)
    )
    if not all_known:
        answers = [_scored(run, stage, name) for run in (there, here)]
    count = sum(answers[0].get(sample) != answers[1].get(sample) for sample in ids)
    series = _series(there, name)
    values = [measure.value if (measure := run.measure(Key(stage, series))) else None for run in (there, here)]
    return Difference(stage, name, count, all_known, len(ids), series.metric, *values)


def _known(run: Run, stage: int, name: str) -> dict[str, Any]:
    return {row["id"]: row["response"] for row in run.stages[stage].responses(name)}


def _scored(run: Run, stage: int, name: str) -> dict[str, Any]:
    """Return what the responses to a set were worth, by sample id."""
    data = run.data[stage]
    columns = [said for (_, where), said in sorted(data.verdicts.items()) if where == name]
    columns += [list(data.scores[name])] if name in data.scores else []
    return dict(zip(data.ids[name], zip(*columns, strict=True), strict=True))


def _series(run: Run, name: str) -> Series:
    if name in run.tasks:
        return Series(name, "task", "", "accuracy")
    benign = name in run.manifest.benign_sets
    kind, metric = ("benign", "over_refusal") if benign else ("safety", "asr")
    return Series(name, kind, next(iter(run.judges), ""), metric)


def check_verified(there: Run, say: Callable[[str], None], suite: str | None = None) -> None:
    """Make sure that a published run has, on this machine, the responses that are published.

    What was found equal is remembered in the user's cache for as long as processor, packages and code are the same;
    with uncommitted code it is looked at each time.

    Args:
        there: the published run.
        say: is told what is going on.
        suite: as of `spec_of`.

    Raises:
        UserError: it has not, or it cannot be made here.
    """
    known = _record(there.path) if isinstance(there.source, PublishedRun) else None
    if known is not None and known.exists():
        say(f"{there.label}, seed {there.seed}: every response was equal to the published run on this machine.")
        return
    say(f"Verifying on this machine: {there.label}, seed {there.seed}, is made once more (as long as a run takes).")
    with TemporaryDirectory(prefix="hpa-bench-") as folder:
        found = first_difference(there, make_again(there, Path(folder) / "run", suite))
    if found:
        raise UserError(
            f"Published numbers cannot stand beside yours: {there.label}, seed {there.seed}, differs on this machine"
            f" from what is published, first in {found}."
        )
    say("Every response equal to the published run.")
    if known is not None:
        write_json(known, {"run": str(there.path), "equal": True})


def published_beside(
    own: Sequence[Manifest], where: Path, say: Callable[[str], None], suite: str | None = None
) -> list[Run]:
    """Return the published runs that may stand beside one's own, one of them verified on this machine.

    Args:
        own: what one has run, or plans to run.
        where: published results.
        say: is told what is going on.
        suite: as of `spec_of`.

    Raises:
        UserError: none may stand there, and why (see `hpa_bench.report.beside`), or the one is not verified.
    """
    published = read_runs(find_published(where))
    if not published:
        raise UserError(f"There are no published results in {where}: expected what `hpa-bench publish` writes.")
    found = beside(own, published)
    if found:
        check_verified(choose(found), say, suite)
    return found


def _record(published: Path) -> Path | None:
    """Return the file that says that a published run is verified by this code on this machine; None: look each time."""
    if uncommitted():
        return None
    variables = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    here = [hashlib.sha256(published.read_bytes()).hexdigest(), versions(), git_commit(), cpu(), variables]
    digest = hashlib.sha256(json.dumps(here, sort_keys=True).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "hpa-bench" / "verified" / f"{digest}.json"
