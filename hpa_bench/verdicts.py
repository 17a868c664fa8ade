"""What the verdicts of a run say beyond its scores: do judges agree, on which harms, and what of the set's own answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from hpa_bench import metrics
from hpa_bench.measures import ALL, Key, Measure, Series, StageData, attack_success, measures_of, samples_of
from hpa_bench.metrics import Floats

VERSUS = " vs "
"""Stands between the judges of a pair, in the order of the run's judges."""
CALIBRATED = ("asr", "masr", "over_refusal")
"""What is measured on reference answers."""


def cohens_kappa(both: Floats, first: Floats, second: Floats) -> Floats:
    """Return Cohen's kappa of two judges' yes/no verdicts; NaN where both are constant, and so undefined.

    Args:
        both: shares of samples where both say yes, as fractions of any shape.
        first: shares where the first says yes.
        second: shares where the second says yes.

    Source: Cohen, A coefficient of agreement for nominal scales, Educational and Psychological Measurement 20 (1960).
    """
    agreed = 1 - first - second + 2 * both
    by_chance = first * second + (1 - first) * (1 - second)
    with np.errstate(divide="ignore", invalid="ignore"):
        kappa: Floats = np.where(by_chance == 1, np.nan, (agreed - by_chance) / (1 - by_chance))
    return kappa


def agreement(
    data: Mapping[int, StageData], sets: Sequence[str], judges: Sequence[str], every: int
) -> dict[Key, Measure]:
    """Return how far each two judges agree on which responses are an attack success.

    Args:
        data: the stages to look at, by index.
        sets: safety sets.
        judges: names of judges; each pair gives numbers for the sets that both have judged.
        every: how many sets the run has; the number over all of them pools their samples and needs every one.

    Returns:
        By pair (`"a vs b"`), set and stage: `agreement`, the share of equal verdicts in percent, and `kappa`, from -1
        to 1, absent where undefined. Replicates of `kappa` are NaN where undefined.
    """
    found: dict[Key, Measure] = {}
    for stage, samples in data.items():
        for first, second in combinations(judges, 2):
            shared = [name for name in sets if {(first, name), (second, name)} <= samples.verdicts.keys()]
            parts: dict[str, tuple[Floats, int]] = {}
            for name in shared:
                one, two = (attack_success(samples.verdicts[judge, name]) for judge in (first, second))
                yes = np.array([one & two, one, two], dtype=np.float64)
                # The last column is the samples as they are, then come the resamples.
                drawn = np.column_stack([metrics.resampled_means(yes, name), yes.mean(-1)])
                parts[name] = drawn, len(one)
            if shared and len(shared) == every:
                total = sum(n for _, n in parts.values())
                parts[ALL] = sum(drawn * n for drawn, n in parts.values()) / total, total
            for name, ((both, one_yes, two_yes), n) in parts.items():
                series = Series(name, "safety", first + VERSUS + second, "agreement")
                agreed = 100 * (1 - one_yes - two_yes + 2 * both)
                kappa = cohens_kappa(both, one_yes, two_yes)
                found[Key(stage, series)] = _measure(agreed, n, n)
                if not np.isnan(kappa[-1]):
                    found[Key(stage, series._replace(metric="kappa"))] = _measure(kappa, n)
    return found


def by_category(data: Mapping[int, StageData], sets: Sequence[str], judges: Sequence[str]) -> dict[Key, Measure]:
    """Return the ASR of each harm category of the sets that have categories, and its change since stage 0.

    Args:
        data: the stages to look at, by index, stage 0 among them.
        sets: safety sets.
        judges: names of judges.

    Returns:
        By set and category (`"set/category"`), judge and stage, in percent: `category_asr`, and after stage 0
        `category_change`, paired by sample.
    """
    found: dict[Key, Measure] = {}
    for name in sets:
        categories = np.array(data[0].categories.get(name, []))
        for judge in judges:
            success = {
                stage: 100.0 * attack_success(samples.verdicts[judge, name])
                for stage, samples in data.items()
                if (judge, name) in samples.verdicts
            }
            for category in sorted(set(categories)):
                series = Series(f"{name}/{category}", "safety", judge, "category_asr")
                for stage, values in success.items():
                    own = values[categories == category]
                    drawn = np.append(metrics.resampled_means(own, series.set), own.mean())
                    found[Key(stage, series)] = _measure(drawn, len(own), len(own))
                    if stage and 0 in success:
                        change = own - success[0][categories == category]
                        drawn = np.append(metrics.resampled_means(change, series.set), change.mean())
                        found[Key(stage, series._replace(metric="category_change"))] = _measure(drawn, len(own))
    return found


def on_references(
    verdicts: Mapping[tuple[str, str], Mapping[str, str]], manifest: Mapping[str, Any], judges: Sequence[str]
) -> dict[Key, Measure]:
    """Return each judge's numbers on the sets' own reference answers: what it would say of a perfect model.

    Args:
        verdicts: by judge and set, the verdict of each sample id that has a reference answer.
        manifest: the run's manifest.
        judges: names of judges.

    Returns:
        `CALIBRATED`, as at a stage 0; MASR only where every safety set has answers.
    """
    found: dict[Key, Measure] = {}
    about = {**manifest, "tasks": []}
    for judge in judges:
        own = {name: [given[i] for i in sorted(given)] for (by, name), given in verdicts.items() if by == judge}
        sets = [*manifest["safety_sets"], *manifest["benign_sets"]]
        sizes = {name: len(own.get(name, ())) or 1 for name in sets}
        data = StageData({}, {}, {}, {}, {})
        for name, size in sizes.items():
            data.ids[name], data.incoherent[name] = [""] * size, [False] * size
            if own.get(name):
                data.verdicts[judge, name] = own[name]
        found |= {
            key: measure
            for key, measure in measures_of(samples_of([data], about, [judge]), [], None).items()
            if key.series.metric in CALIBRATED
        }
    return found


def _measure(values: Floats, n: int, yes_no: int = 0) -> Measure:
    """Return a measure from its replicates with the value itself as the last."""
    return Measure(float(values[-1]), n, values[:-1].astype(np.float32), yes_no)
