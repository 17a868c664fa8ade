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
        to 1, absent where undefined. With set `ALL`, over the samples of all sets together.
    """
    found: dict[Key, Measure] = {}
    pairs = list(combinations(judges, 2))
    if not pairs or not sets:
        return found
    shares: dict[str, Floats] = {}
    errors: dict[str, Floats] = {}
    sizes: dict[str, int] = {}
    for name in sets:
        yes = {judge: _success(data, judge, judges[judge], name) for judge in judges}
        stacked = np.stack([[yes[one] * yes[two], yes[one], yes[two]] for one, two in pairs])
        shares[name], sizes[name] = stacked.mean(-1), stacked.shape[-1]
        errors[name] = _errors(stacked, data[0].clusters.get(name))
    sizes[ALL] = sum(sizes.values())
    shares[ALL] = np.sum([shares[name] * sizes[name] for name in sets], axis=0) / sizes[ALL]
    errors[ALL] = np.concatenate([errors[name] * sizes[name] for name in sets], axis=-1) / sizes[ALL]
    for name, n in sizes.items():
        both, one, two = shares[name].swapaxes(0, 1)  # Each [pairs, stages].
        agreed, kappa = 100 * (1 - one - two + 2 * both), cohens_kappa(both, one, two)
        agreed_errors, kappa_errors = _agreement_errors(shares[name].swapaxes(0, 1), errors[name].swapaxes(0, 1))
        for index, pair in enumerate(pairs):
            series = Series(name, "safety", VERSUS.join(pair), "agreement")
            for row, stage in enumerate(data):
                spot = index, row
                _put(found, Key(stage, series), agreed[spot], agreed_errors[spot], n, agreed_errors.shape[-1])
                _put(found, Key(stage, series._replace(metric="kappa")), kappa[spot], kappa_errors[spot], n)
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
            errors = _errors(asr, clusters)
            for index, judge in enumerate(judges):
                series = Series(where, "safety", judge, "category_asr")
                value, error = asr[index].mean(-1), errors[index]
                for row, stage in enumerate(data):
                    _put(found, Key(stage, series), value[row], error[row], n, error.shape[-1])
                    if stage:
                        key = Key(stage, series._replace(metric="category_change"))
                        _put(found, key, value[row] - value[0], error[row] - error[0], n)
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
        sets = manifest.judged_sets
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


def _errors(values: Floats, clusters: Ints | None) -> Floats:
    """Return the deviations of the mean over the last axis."""
    return statistics.deviations(statistics.means_without(values, clusters))


def _agreement_errors(shares: Floats, errors: Floats) -> tuple[Floats, Floats]:
    """Return the deviations of agreement, in percent, and of kappa from those of the shares that they are made of.

    Kappa's are linear in them (the delta method): without a sample it may be undefined.

    Args:
        shares: [3, ...], what `cohens_kappa` takes.
        errors: [3, ..., units], their deviations.

    Returns:
        Two arrays [..., units]; of an undefined kappa NaN.
    """
    both, one, two = shares[..., None]
    of_both, of_one, of_two = errors
    agreed, by_chance = 1 - one - two + 2 * both, one * two + (1 - one) * (1 - two)
    of_agreed = 2 * of_both - of_one - of_two
    of_chance = of_one * (2 * two - 1) + of_two * (2 * one - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        of_kappa = (of_agreed * (1 - by_chance) - of_chance * (1 - agreed)) / (1 - by_chance) ** 2
    return 100 * of_agreed, of_kappa


def _put(found: dict[Key, Measure], key: Key, value: float, errors: Floats, n: int, yes_no: int = 0) -> None:
    if not np.isnan(value):
        found[key] = Measure(float(value), n, errors, yes_no)
