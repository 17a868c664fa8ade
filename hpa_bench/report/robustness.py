"""Do conclusions survive other kernels, and another aligned checkpoint? Conditions that differ in nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

from hpa_bench.report import tables
from hpa_bench.report.columns import plane
from hpa_bench.report.conditions import Condition
from hpa_bench.report.groups import NO_SEED, REFERENCES, Group
from hpa_bench.report.ranking import LEVEL, corrected
from hpa_bench.results.measures import ALL, Cell, Series

REFERENCE = "hpa"
"""The method that conclusions are about."""
CHECKPOINT = frozenset({"model_digest", "suite_config.model", "suite_config.unaligned_model"})
"""What of a condition says which checkpoint it starts from."""


def _columns(condition: Condition) -> list[Series]:
    accuracy, safety = plane(condition)
    return [accuracy, Series(ALL, "task", "", "bwt"), *([safety] if condition.safety_sets else [])]


def _is_numerics(name: str) -> bool:
    return name.startswith("numerics.") or name == "suite_config.numerics"


def _alike_but(listed: Sequence[Condition], may_differ: Callable[[str], bool]) -> list[list[Condition]]:
    """Return the conditions that differ in nothing but certain keys, each cluster in the order of the report."""
    found: list[tuple[dict[str, Any], list[Condition]]] = []
    for condition in listed:
        rest = {name: value for name, value in condition.about.items() if not may_differ(name)}
        same = next((members for other, members in found if other == rest), None)
        if same is None:
            found.append((rest, [condition]))
        else:
            same.append(condition)
    return [members for _, members in found if len(members) > 1]


@dataclass(frozen=True)
class Conclusion:
    """Whether hpa differs from a method in one number, under each of two kernel sets."""

    label: str
    series: Series
    cells: tuple[Cell | str, Cell | str]
    """hpa minus the method, paired by seed and by sample."""
    p_holm: tuple[float | None, float | None]

    @property
    def signs(self) -> tuple[int, int]:
        """For each kernel set 1 or -1 where the difference is told from 0, else 0."""
        return self._sign(0), self._sign(1)

    @property
    def agrees(self) -> bool:
        """Whether both say the same."""
        return self.signs[0] == self.signs[1]

    def _sign(self, index: int) -> int:
        cell, p = self.cells[index], self.p_holm[index]
        if not isinstance(cell, Cell) or p is None or p >= LEVEL:
            return 0
        return 1 if cell.value > 0 else -1


@dataclass(frozen=True)
class KernelSets:
    """Two conditions that differ in numerics alone, and the conclusions that both have."""

    first: Condition
    second: Condition
    conclusions: list[Conclusion]


def kernel_sets(listed: Sequence[Condition]) -> list[KernelSets]:
    """Return each further kernel set beside the first one of the same condition, where both have hpa."""
    pairs = [(first, other) for first, *others in _alike_but(listed, _is_numerics) for other in others]
    found = [KernelSets(first, second, _conclusions(first, second)) for first, second in pairs]
    return [sets for sets in found if sets.conclusions]


def _conclusions(first: Condition, second: Condition) -> list[Conclusion]:
    """Return hpa minus every method, by the seeds that both sets have, corrected over the methods of a column."""
    shared = [_shared(first, second), _shared(second, first)]
    rivals = [label for label in shared[0] if label != REFERENCE]
    if REFERENCE not in shared[0]:
        return []
    found = []
    for series in _columns(first):
        families = [[groups[REFERENCE].difference(groups[label], series) for label in rivals] for groups in shared]
        adjusted = [corrected(family) for family in families]
        found += [
            Conclusion(label, series, (one, two), (p, q))
            for label, one, two, p, q in zip(rivals, *families, *adjusted, strict=True)
            if isinstance(one, Cell) and isinstance(two, Cell)
        ]
    return found


def _shared(condition: Condition, other: Condition) -> dict[str, Group]:
    """Return the methods that both conditions have, with the seeds that both have of them."""
    theirs = {group.label: _finished(group) for group in other.designed}
    found = {}
    for group in condition.designed:
        seeds = _finished(group) & theirs.get(group.label, set())
        if seeds and group.method not in REFERENCES:
            found[group.label] = _over(group, seeds)
    return found


def _finished(group: Group) -> set[int]:
    return {run.seed for run in group.runs if not run.missing}


def _over(group: Group, seeds: Set[int]) -> Group:
    return Group(group.label, [run for run in group.runs if run.seed in seeds])


@dataclass(frozen=True)
class Checkpoints:
    """The same methods on several aligned checkpoints, all else equal."""

    names: list[str]
    columns: list[Series]
    rows: list[tuple[str, list[list[Cell | str]]]]
    """By method, for each checkpoint its number in each column, over the seeds that all of these have finished."""
    agreement: list[tuple[float, int] | None]
    """By column: Kendall's tau between the rankings of two checkpoints, the mean over all pairs, and how many methods
    are ranked; None where there are fewer than two."""


def checkpoints(listed: Sequence[Condition]) -> list[Checkpoints]:
    """Return every set of conditions that differ in the aligned checkpoint alone, and share a method."""
    found = []
    for members in _alike_but(listed, CHECKPOINT.__contains__):
        by_label = [{group.label: group for group in condition.main} for condition in members]
        labels = list(dict.fromkeys(label for groups in by_label for label in groups))
        labels = [label for label in labels if sum(label in groups for groups in by_label) > 1]
        columns = _columns(members[0])
        rows = [(label, _side_by_side([groups.get(label) for groups in by_label], columns)) for label in labels]
        ranked = [cells for label, cells in rows if label.partition(" ")[0] not in REFERENCES]
        agreement = [
            _agreement([[cells[index][column] for cells in ranked] for index in range(len(members))])
            for column in range(len(columns))
        ]
        if rows:
            found.append(Checkpoints(_names(members), columns, rows, agreement))
    return found


def _side_by_side(groups: Sequence[Group | None], columns: Sequence[Series]) -> list[list[Cell | str]]:
    """Return a method's numbers under several conditions, over the seeds that all have which have finished any."""
    finished = [seeds for group in groups if group and (seeds := _finished(group))]
    shared = set.intersection(*finished) if finished else set()
    found: list[list[Cell | str]] = []
    for group in groups:
        if group is None:
            found.append(["-"] * len(columns))
        elif not _finished(group):
            found.append([group.final(series) for series in columns])
        elif shared:
            found.append([_over(group, shared).final(series) for series in columns])
        else:
            found.append([NO_SEED] * len(columns))
    return found


def _agreement(lists: Sequence[Sequence[Cell | str]]) -> tuple[float, int] | None:
    complete = [row for row in zip(*lists, strict=True) if all(isinstance(cell, Cell) for cell in row)]
    if len(complete) < 2:
        return None
    values = [[cell.value for cell in one if isinstance(cell, Cell)] for one in zip(*complete, strict=True)]
    return mean(kendall_tau(one, other) for one, other in combinations(values, 2)), len(complete)


def kendall_tau(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the share of pairs that two lists order alike minus the share that they order oppositely; ties count 0.

    Source: Kendall, A new measure of rank correlation, Biometrika 30 (1938).
    """
    pairs = list(combinations(range(len(one)), 2))
    agree = [(one[i] - one[j]) * (other[i] - other[j]) for i, j in pairs]
    return (sum(product > 0 for product in agree) - sum(product < 0 for product in agree)) / len(pairs)


def _names(members: Sequence[Condition]) -> list[str]:
    """Return what checkpoints are called: their folders, where these differ, or the beginnings of their digests."""
    folders = [Path(str(condition.about.get("suite_config.model", ""))).name for condition in members]
    if len(set(folders)) == len(members) and all(folders):
        return folders
    return [str(condition.about.get("model_digest", "unknown"))[:8] for condition in members]


def kernel_rows(found: Sequence[KernelSets]) -> list[tables.Row]:
    """Return every conclusion under two kernel sets, for CSV."""
    return [
        {"condition": sets.first.title, "other_numerics": sets.second.title, "method": one.label}
        | one.series._asdict()
        | {"reference": REFERENCE, "agree": "yes" if one.agrees else "no"}
        | {
            f"{name}{suffix}": value
            for suffix, cell, p, sign in zip(("", "_other"), one.cells, one.p_holm, one.signs, strict=True)
            if isinstance(cell, Cell)
            for name, value in (
                ("seeds", cell.seeds),
                *((name, round(getattr(cell, name), 4) + 0.0) for name in ("value", "low", "high")),
                ("p_holm", "" if p is None else f"{p:.4g}"),
                ("conclusion", {1: "higher", -1: "lower", 0: "not separated"}[sign]),
            )
        }
        for sets in found
        for one in sets.conclusions
    ]
