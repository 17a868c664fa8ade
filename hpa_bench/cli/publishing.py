"""What `compare` does with published results: take what is there, and add what it makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from hpa_bench.report.beside import beside
from hpa_bench.results.publish import check_code, publish
from hpa_bench.results.published import locate, published_names, run_name
from hpa_bench.results.run_folder import RunFolder, discard
from hpa_bench.results.runs import Run, read_runs
from hpa_bench.results.source import FolderSource
from hpa_bench.runner.environment import git_commit, uncommitted
from hpa_bench.runner.launch import finished, missing
from hpa_bench.runner.manifest import planned_manifest
from hpa_bench.runner.sharing import Share
from hpa_bench.runner.verify import published_beside
from hpa_bench.spec import RunSpec

Wanted = Mapping[Path, RunSpec]
"""Runs by their folders."""


def ask_published(wanted: Wanted, where: str, suite: str, console: Console) -> list[Run]:
    """Return the published runs that may stand beside these, one of them verified on this machine.

    Args:
        wanted: what is planned.
        where: published results, as of `--with`.
        suite: as on the command line.
        console: where to say what is going on.

    Raises:
        UserError: none may, and why.
    """
    planned = [planned_manifest(spec, spec.stages) for spec in wanted.values()]
    return published_beside(planned, locate(where, planned[0].suite), console.print, suite)


def unpublished(wanted: Wanted, published: Sequence[Run]) -> dict[Path, RunSpec]:
    """Return the wanted runs that are not among the published ones."""
    known = {run_name(run.manifest.compared()) for run in published}
    return {folder: spec for folder, spec in wanted.items() if run_name(spec.identity()) not in known}


def together(wanted: Wanted, published: Sequence[Run]) -> list[Run]:
    """Return one's own runs and the published ones, which by now are known to be comparable or not.

    Raises:
        UserError: a run had other data, numerics or another checkpoint than the published ones.
    """
    own = read_runs(RunFolder(folder) for folder in wanted)
    if not published:
        return own
    stand = beside([run.manifest for run in own], published) if own else published
    return read_runs(run.source for run in (*own, *stand))


class Publisher:
    """Publishes runs as they finish and removes their folders, whose weights nobody needs then."""

    def __init__(self, out: Path, show_unsafe: bool) -> None:
        self._out = out
        self._show_unsafe = show_unsafe
        self._names: dict[Path, str] = {}
        """What the runs are called where they are published, by their folders."""
        check_code(out, git_commit(), uncommitted())

    def begin(self, wanted: Wanted, again: bool) -> dict[Path, RunSpec]:
        """Publish those of the wanted runs that are finished, and return those that are still to be made.

        Args:
            wanted: the runs.
            again: as of `missing`.
        """
        self._names = {folder: run_name(spec.identity()) for folder, spec in wanted.items()}
        known = published_names(self._out)
        left = {folder: spec for folder, spec in wanted.items() if self._names[folder] not in known}
        todo = missing(left, again)
        for folder in left.keys() - todo.keys():
            share = Share(folder)
            if share.take():  # Otherwise another comparison is about to publish it.
                self.take(folder)
                share.release()
        return todo

    def has(self, folder: Path) -> bool:
        """Whether a run is made: finished, or published, by another comparison too, which has removed its folder."""
        return finished(folder) or self._names[folder] in published_names(self._out)

    def take(self, folder: Path) -> None:
        """Publish a finished run whose folder is this process's by a claim.

        Raises:
            UserError: it may not stand beside what is published, or is there with other results.
        """
        if finished(folder):
            publish(FolderSource(RunFolder(folder)), self._out, show_unsafe=self._show_unsafe)
        discard(RunFolder(folder))
        folder.with_suffix(".log").unlink(missing_ok=True)
