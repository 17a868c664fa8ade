"""Which settings of a method stand in the main table, which in a section of their own, and which are tuned ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Any

from hpa_bench.report.groups import Group
from hpa_bench.results.runs import flat
from hpa_bench.results.tuned import Tuned

STRENGTHS = (("p_max", "p_min"), ("a",))
"""Settings along which methods are swept, those of one method in one tuple: rates of columns kept, WiSE-FT's share."""
FEWEST = 3
"""Strengths from which on a method counts as swept."""
MANY_SETTINGS = 3
"""From so many settings beside its default on, a method's settings stand in a section of their own."""


@dataclass(frozen=True)
class Family:
    """Groups of one method that differ in their strength alone, in its order."""

    keys: tuple[str, ...]
    """The settings that are the strength."""
    groups: list[Group]


@dataclass(frozen=True)
class Arrangement:
    """What of a condition's groups stands where."""

    designed: list[Group]
    """Those that were asked for; the others are there because their settings were chosen by trials."""
    main: list[Group]
    """Every method; of one with many settings its default, and what else was swept over a strength."""
    settings: dict[str, list[Group]]
    """The methods with many settings: each method's default, then the others, by what they change."""


def arrange(groups: Sequence[Group], tuned: Tuned | None) -> Arrangement:
    """Return what stands where.

    Args:
        groups: of one condition, in their order.
        tuned: what `hpa-bench tune` left of this suite, if anything. What it chose was looked for, so it is not ranked
            among what was not: it stands beside its method's defaults alone.
    """
    left_out = _tuned_alone(groups, tuned) if tuned is not None else []
    designed = [group for group in groups if group not in left_out] or list(groups)
    settings: dict[str, list[Group]] = {}
    for default in designed:
        others = [group for group in designed if group.method == default.method and group is not default]
        if default.is_default and len(others) >= MANY_SETTINGS:
            settings[default.method] = [default, *sorted(others, key=lambda group: _order(group, default))]
    bases = [base for default, *_ in settings.values() for base in _bases(designed, default)]
    main = [group for group in designed if group.is_default or group.method not in settings or group in bases]
    return Arrangement(designed, main, settings)


def families(groups: Sequence[Group]) -> list[Family]:
    """Sort the groups that have a strength into those that are equal in everything else."""
    found: list[tuple[tuple[str, dict[str, Any]], Family]] = []
    for group in groups:
        if not (keys := _strength(group)):
            continue
        rest = (group.method, {key: value for key, value in group.config.items() if key not in keys})
        family = next((family for known, family in found if known == rest), None)
        if family is None:
            found.append((rest, Family(keys, [group])))
        else:
            family.groups.append(group)
    return [
        Family(one.keys, sorted(one.groups, key=lambda group: [group.config[key] for key in one.keys]))
        for _, one in found
    ]


def settings_of(name: str, config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a method of a file of tuned settings, as (method, whole config under dotted names)."""
    return name.partition(":")[0], flat(config)


def _strength(group: Group) -> tuple[str, ...]:
    return next((keys for keys in STRENGTHS if all(key in group.config for key in keys)), ())


def _bases(groups: Sequence[Group], default: Group) -> list[Group]:
    """Return what a method's sweeps stand on: of each, the setting with the default's strength."""
    swept = [one for one in families(groups) if len(one.groups) >= FEWEST]
    return [
        group
        for family in swept
        for group in family.groups
        if group.method == default.method and not any(key in group.changed(default) for key in family.keys)
    ]


def _tuned_alone(groups: Sequence[Group], tuned: Tuned) -> list[Group]:
    """Return the groups that are there for their tuned settings alone.

    A setting that was chosen may have been asked for besides, and nothing in its runs says so. It shows by more seeds
    than tuned settings have, or in a sweep, by a strength that another method has without having been tuned to it.
    """
    usual = [settings_of(name, method.config) for name, method in tuned.methods.items()]
    chosen = [settings_of(name, one.config | one.chosen) for name, one in tuned.methods.items() if one.chosen]
    wanted = [settings for settings in chosen if settings not in usual]
    found = [group for group in groups if (group.method, group.config) in wanted and not group.is_default]
    if not found:
        return []
    # Runs are made seed by seed: one seed more may only be the next one.
    most = median_low(len(group.runs) for group in found) + 1
    alike = families(groups)
    return [group for group in found if len(group.runs) <= most and not _of_sweep(group, alike, found)]


def _of_sweep(group: Group, listed: Sequence[Family], found: Sequence[Group]) -> bool:
    """Whether a tuned group is at a strength of a sweep that its method and others were run over."""
    own = next((family for family in listed if group in family.groups), None)
    if own is None or len(own.groups) < FEWEST:
        return False
    others = [other for family in listed if family is not own for other in family.groups if other not in found]
    return any(_at(other) == _at(group) for other in others)


def _at(group: Group) -> dict[str, Any]:
    return {key: group.config[key] for key in _strength(group)}


def _order(group: Group, default: Group) -> list[tuple[int, int, float, str]]:
    order = list(group.config)
    return [
        (order.index(key), 0, float(value), "")
        if isinstance(value, int | float)
        else (order.index(key), 1, 0, str(value))
        for key, value in group.changed(default).items()
    ]
