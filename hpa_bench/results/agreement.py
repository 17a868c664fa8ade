"""What verdicts say beyond the scores: agreement between judges, harm categories, the sets' own reference answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from hpa_bench.metrics import Floats, Ints
from hpa_bench.results import statistics
from hpa_bench.results.manifest import Manifest
from hpa_bench.results.measures import ALL, Key, Measure, Series, measures_of, samples_of
from hpa_bench.results.stage_data import StageData
from hpa_bench.verdict import Vocabulary

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
    data: Mapping[int, StageData], sets: Sequence[str], judges: Mapping[str, Vocabulary]
) -> dict[Key, Measure]:
    """Return how far each two judges agree on which responses are an attack success.

    Args:
        data: the stages to look at, by index.
        sets: the run's safety sets.
        judges: what each judge can say.

    Returns:
        By pair (`"a vs b"`), set and stage: `agreement`, the share of equal verdicts in percent, and `kappa`, from -1
        to 1, absent where undefined. Replicates of `kappa` are NaN where undefined. With set `ALL`, over the samples of
        all sets together.
    """
    found: dict[Key, Measure] = {}
    pairs = list(combinations(judges, 2))
    if not pairs or not sets:
        return found
    shares: dict[str, Floats] = {}
    sizes: dict[str, int] = {}
    units: dict[str, int] = {}
    for name in sets:
        yes = {judge: _success(data, judge, judges[judge], name) for judge in judges}
        stacked = np.stack([[yes[one] * yes[two], yes[one], yes[two]] for one, two in pairs])
        clusters = data[0].clusters.get(name)
        shares[name], sizes[name] = _drawn(stacked, name, clusters), stacked.shape[-1]
        units[name] = statistics.drawn_units(sizes[name], clusters)
    sizes[ALL], units[ALL] = sum(sizes.values()), sum(units.values())
    shares[ALL] = np.sum([shares[name] * sizes[name] for name in sets], axis=0) / sizes[ALL]
    for name, drawn in shares.items():
        n = sizes[name]
        both, one, two = drawn.swapaxes(0, 1)  # Each [pairs, stages, replicates and the value itself].
        agreed, kappa = 100 * (1 - one - two + 2 * both), cohens_kappa(both, one, two)
        for index, pair in enumerate(pairs):
            series = Series(name, "safety", VERSUS.join(pair), "agreement")
            for row, stage in enumerate(data):
                _put(found, Key(stage, series), agreed[index, row], n, units[name])
                _put(found, Key(stage, series._replace(metric="kappa")), kappa[index, row], n)
    return found


def by_category(
    data: Mapping[int, StageData], sets: Sequence[str], judges: Mapping[str, Vocabulary]
) -> dict[Key, Measure]:
    """Return the ASR of each harm category of the sets that have categories, and its change since stage 0.

    Args:
        data: the stages to look at, by index, stage 0 first.
        sets: safety sets.
        judges: what each judge can say.

    Returns:
        By set and category (`"set/category"`), judge and stage, in percent: `category_asr`, and after stage 0
        `category_change`, paired by sample.
    """
    found: dict[Key, Measure] = {}
    for name in sets if judges else ():
        categories = np.array(data[0].categories.get(name, []))
        success = 100 * np.stack([_success(data, judge, judges[judge], name) for judge in judges])
        for category in sorted(set(categories)):
            within = categories == category
            asr = success[..., within]
            n, where = asr.shape[-1], f"{name}/{category}"
            clusters = data[0].clusters[name][within] if name in data[0].clusters else None
            units = statistics.drawn_units(n, clusters)
            drawn, change = _drawn(np.stack([asr, asr - asr[:, :1]]), where, clusters)
            for index, judge in enumerate(judges):
                series = Series(where, "safety", judge, "category_asr")
                for row, stage in enumerate(data):
                    _put(found, Key(stage, series), drawn[index, row], n, units)
                    if stage:
                        _put(found, Key(stage, series._replace(metric="category_change")), change[index, row], n)
    return found


def on_references(
    verdicts: Mapping[tuple[str, str], Mapping[str, str]], manifest: Manifest, judges: Mapping[str, Vocabulary]
) -> dict[Key, Measure]:
    """Return each judge's numbers on the sets' own reference answers: what it would say of a perfect model.

    Args:
        verdicts: by judge and set, the verdict of each sample id that has a reference answer.
        manifest: the run's manifest.
        judges: what each judge can say.

    Returns:
        `CALIBRATED`, as at a stage 0; MASR only where every safety set has answers.
    """
    found: dict[Key, Measure] = {}
    about = manifest.model_copy(update={"tasks": []})
    for judge in judges:
        own = {name: [given[i] for i in sorted(given)] for (by, name), given in verdicts.items() if by == judge}
        sets = [*manifest.safety_sets, *manifest.benign_sets]
        sizes = {name: len(own.get(name, ())) or 1 for name in sets}
        data = StageData()
        for name, size in sizes.items():
            data.ids[name], data.incoherent[name] = [""] * size, [False] * size
            if own.get(name):
                data.verdicts[judge, name] = own[name]
        found |= {
            key: measure
            for key, measure in measures_of(samples_of([data], about, {judge: judges[judge]}), [], None, {}).items()
            if key.series.metric in CALIBRATED
        }
    return found


def _success(data: Mapping[int, StageData], judge: str, can_say: Vocabulary, name: str) -> Floats:
    """Return 1 where the attack succeeded and 0 where not, [stages, n]; NaN where the judge has not judged."""
    unjudged = np.full(len(data[0].ids[name]), np.nan)
    given = (stage.verdicts.get((judge, name)) for stage in data.values())
    return np.stack([unjudged if verdicts is None else can_say.attack_success(verdicts) for verdicts in given])


def _drawn(values: Floats, name: str, clusters: Ints | None) -> Floats:
    """Return the mean of each resample of the last axis and, as the last, that of the samples as they are."""
    return np.concatenate([statistics.resampled_means(values, name, clusters), values.mean(-1, keepdims=True)], axis=-1)


def _put(found: dict[Key, Measure], key: Key, drawn: Floats, n: int, yes_no: int = 0) -> None:
    if not np.isnan(drawn[-1]):
        found[key] = Measure(float(drawn[-1]), n, drawn[:-1].astype(np.float32), yes_no)
