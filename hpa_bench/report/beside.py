"""Which published runs may stand beside runs of one's own: those of the same condition, data and checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

from hpa_bench.errors import UserError
from hpa_bench.report.conditions import CHECKPOINT, condition_key, known_key
from hpa_bench.results.manifest import Manifest
from hpa_bench.results.runs import Run, alike

FIRST = ("suite", "suite_config.version", "numerics")
"""Where two conditions differ in several ways, what is said of them, and in which order."""


def beside(own: Sequence[Manifest], published: Sequence[Run]) -> list[Run]:
    """Return the published runs that stand in one table with one's own.

    Args:
        own: what one has run, or plans to run: of a run that is planned, only what is known is compared.
        published: runs of others.

    Raises:
        UserError: a run is of another suite, version, numerics, recipe, data or checkpoint than every published one;
            the message says in what it differs from the nearest.
    """
    if not published:
        raise UserError("There is no published run to stand beside: give the folder of some.")
    chosen: dict[int, Run] = {}
    for manifest in own:
        key = known_key(manifest, manifest)
        peers = [peer for peer in published if known_key(peer.manifest, manifest) == key]
        near = peers[0] if peers else _nearest(manifest, published)
        if difference := _difference(manifest, near.manifest):
            raise UserError(
                f"{manifest.method}, seed {manifest.seed}, cannot stand beside the published runs: {difference}."
            )
        chosen |= {id(peer): peer for peer in peers}
    return list(chosen.values())


def others(published: Sequence[Run], own: Sequence[Manifest]) -> list[Run]:
    """Return the published runs that one has not made oneself."""
    return [run for run in published if not any(_is_same(run.manifest, manifest) for manifest in own)]


def main_condition(published: Sequence[Run]) -> list[Run]:
    """Return the runs of the condition that most of them are of, on original data."""
    parts = alike(published, lambda run: condition_key(run.manifest))
    return max(parts, key=lambda part: (-part[0].manifest.harmful_ratio, len(part)))


def _nearest(manifest: Manifest, published: Sequence[Run]) -> Run:
    """Return the published run whose condition differs least from a run's."""
    key = known_key(manifest, manifest)

    def distance(peer: Run) -> tuple[bool, int]:
        other = known_key(peer.manifest, manifest)
        differing = sum(key.get(name) != other.get(name) for name in {*key, *other})
        return peer.manifest.suite != manifest.suite, differing

    return min(published, key=distance)


def _difference(here: Manifest, there: Manifest) -> str:
    """Return in what a run differs from a published one, in words; empty where it may stand beside it."""
    mine, theirs = known_key(here, here), known_key(there, here)
    names = [name for name in dict.fromkeys([*mine, *theirs]) if mine.get(name) != theirs.get(name)]
    first = next((name for start in FIRST for name in names if name == start or name.startswith(f"{start}.")), "")
    odd = next((name for name, digest in here.data.items() if there.data.get(name, digest) != digest), "")
    if odd and not first:
        return f"the data of {odd!r} are others there than here"
    if CHECKPOINT in names and not first:
        return "the files of the model that they start from are others there than here"
    name = first or next(iter(names), "")
    shown = name.removeprefix("suite_config.")
    return f"{shown} is {theirs.get(name)!r} there and {mine.get(name)!r} here" if name else ""


def _is_same(there: Manifest, here: Manifest) -> bool:
    """Whether two runs are the same one, as far as the second knows."""
    names = ("method", "config", "seed", "noise")
    same = all(getattr(there, name) == getattr(here, name) for name in names)
    return same and known_key(there, here) == known_key(here, here)
