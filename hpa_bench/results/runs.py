"""Results of runs, read from their run directories, or from what was published of them, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

from hpa_bench.metrics import Floats
from hpa_bench.results import agreement
from hpa_bench.results.manifest import Manifest
from hpa_bench.results.measures import ALL, Key, Measure, Series, combine, measures_of, samples_of
from hpa_bench.results.published import find_results, locate
from hpa_bench.results.run_folder import RunFolder, StageFolder
from hpa_bench.results.source import FolderSource, Source, read_stages
from hpa_bench.results.stage_data import StageData, read_stage
from hpa_bench.results.update import StageUpdate, read_update, update_measures
from hpa_bench.results.vocabularies import judges_of, vocabularies
from hpa_bench.verdict import Vocabulary

if TYPE_CHECKING:
    from pandas import DataFrame


class Run:
    """One run's results; `label` is its method, with the changed config."""

    def __init__(self, source: RunFolder | Source) -> None:
        self.source: Source = FolderSource(source) if isinstance(source, RunFolder) else source
        self.path = self.source.path
        self.manifest = self.source.manifest
        self.tasks = self.manifest.tasks
        self.curriculum = self.manifest.stages
        self.seed = self.manifest.seed
        self.noise = self.manifest.noise
        self.stages = self.source.stages
        self.judges = judges_of(self.stages, self.manifest)
        self.label = _label(self.manifest)

    @property
    def last(self) -> int:
        """The last stage of the finished run; 0 for zero-shot."""
        return len(self.curriculum)

    @property
    def missing(self) -> str:
        """Why the run is not complete; empty where it is."""
        if len(self.stages) > self.last:
            return ""
        done = len(self.stages) - 1
        if self.source.is_live:
            return f"in progress, {f'stage {done} of {self.last}' if self.stages else 'no stage'} finished"
        why = f": {self.source.failure}" if self.source.failure else ""
        return (f"stopped after stage {done} of {self.last}" if self.stages else "no stage finished") + why

    def trained(self, stage: int) -> int:
        """Return the number of tasks trained by a stage."""
        return len({task for group in self.curriculum[:stage] for task in group})

    @cached_property
    def data(self) -> list[StageData]:
        """The finished stages' samples.

        Raises:
            UserError: a stage was tested on other samples than stage 0.
        """
        return read_stages(self.source)

    @cached_property
    def vocabularies(self) -> dict[str, Vocabulary]:
        """What each judge can say, in the order of `judges`."""
        return vocabularies(self.stages, self.data, self.manifest)

    @property
    def samples(self) -> dict[Series, Floats]:
        """Per-sample values in percent, [finished stages, n], in the order of `data[0].ids`; NaN where not judged."""
        return samples_of(self.data, self.manifest, self.vocabularies)

    @cached_property
    def updates(self) -> list[StageUpdate | None]:
        """What is left of the update of each finished stage from 1 on; None where it was not measured."""
        return [read_update(stage) for stage in self.stages[1:]]

    @cached_property
    def measures(self) -> dict[Key, Measure]:
        """Every number of this run."""
        clusters = self.data[0].clusters if self.data else {}
        found = measures_of(self.samples, self.tasks, self.curriculum, clusters)
        return found | update_measures(self.updates, self.manifest)

    @cached_property
    def details(self) -> dict[Key, Measure]:
        """What the verdicts of stage 0 and of the last stage say beyond scores (see `hpa_bench.results.agreement`)."""
        data = {stage: self.data[stage] for stage in (0, self.last) if stage < len(self.stages)}
        sets = self.manifest.safety_sets
        if not data:
            return {}
        return agreement.agreement(data, sets, self.vocabularies) | agreement.by_category(data, sets, self.vocabularies)

    @cached_property
    def calibration(self) -> dict[Key, Measure]:
        """Every judge's numbers on the sets' own reference answers, as at a stage 0."""
        sets = self.manifest.judged_sets
        pairs = [(judge, name) for judge in self.judges for name in sets]
        found = {pair: given for pair in pairs if (given := self.source.references.judgements(*pair))}
        return agreement.on_references(found, self.manifest, self.vocabularies) if found else {}

    def measure(self, key: Key) -> Measure | None:
        """Return a number of this run, or None where it has none (see `absence`)."""
        return self.measures.get(key) or self.details.get(key)


def settle(run: Run) -> None:
    """Find every number of a run, and let go of its samples where they are soon read again."""
    if run.source.is_quick and "data" in vars(run):
        _ = run.measures, run.details
        del run.data


def stage_scores(stage: StageFolder, manifest: Manifest, index: int) -> list[dict[str, Any]]:
    """Return the rows of a stage's scores.json, from its responses and judgements.

    Args:
        stage: the stage.
        manifest: of its run.
        index: the stage's number.

    Returns:
        One row a number: set ("all" for the mean over sets), kind (task, safety, benign), judge ("" for tasks),
        metric, value, n, low, high; percent, rounded to 4 decimals so that equal results are equal bytes.
    """
    data = read_stage(stage, manifest, index)
    samples = samples_of([data], manifest, vocabularies([stage], [data], manifest))
    measures = measures_of(samples, manifest.tasks, None, data.clusters)
    if len(data.scores) < len(manifest.tasks):  # A mean over some tasks is not the mean over all.
        measures = {key: measure for key, measure in measures.items() if key.series[:2] != (ALL, "task")}
    cells = {key.series: combine(key, [measure]) for key, measure in measures.items()}
    return [
        series._asdict() | {name: round(getattr(cell, name), 4) + 0 for name in ("value", "n", "low", "high")}
        for series, cell in cells.items()
    ]


def read_runs(sources: Iterable[RunFolder | Source]) -> list[Run]:
    """Read runs and give those of one method with different configs different labels."""
    runs = [Run(source) for source in sources]
    variants = alike(runs, lambda run: (run.manifest.method, run.manifest.config))
    # Setting a default explicitly changes nothing: the shortest label of one config is its label.
    labels = [min((run.label for run in variant), key=len) for variant in variants]
    for variant, label in zip(variants, labels, strict=True):
        manifest = variant[0].manifest
        pairs = zip(variants, labels, strict=True)
        others = [flat(other[0].manifest.config) for other, theirs in pairs if theirs == label]
        if len(others) > 1:  # Their defaults differ, as between two versions of a method.
            own = flat(manifest.config)
            label = _labelled(manifest, [key for key in own if any(other.get(key) != own[key] for other in others)])
        for run in variant:
            run.label = label
    return runs


def alike(runs: Iterable[Run], by: Callable[[Run], Any]) -> list[list[Run]]:
    """Return runs sorted into those of equal keys, which need not be hashable, in the order of their first."""
    found: list[tuple[Any, list[Run]]] = []
    for run in runs:
        key = by(run)
        same = next((members for other, members in found if other == key), None)
        if same is None:
            found.append((key, [run]))
        else:
            same.append(run)
    return [members for _, members in found]


def load_runs(paths: str | PathLike[str] | Iterable[str | PathLike[str]]) -> DataFrame:
    """Return the results of every run at or below one or several folders.

    Args:
        paths: run folders, published results, or folders above them; "published" for the results of the embedded
            suite that come with this package.

    Returns:
        One row per run, stage, set, judge and metric, measured numbers only (a stage that a run did not reach has no
        rows; `missing` says why on every row of such a run). Columns: suite, version, order (tasks, comma-separated),
        harmful_ratio, method, label (method with its changed config), seed, noise (the number of a noise run, which no
        mean over seeds may hold; 0: none), run (its folder or file), missing, stage, set ("all" for what averages over
        sets), kind (task, safety, benign, update), judge, metric, value, n, low, high. Values are in percent with 95%
        intervals, but for kappa, which goes from -1 to 1, and update_kl, in nats; those of updates are their own
        limits, since no test sample stands behind them. ap, bwt and the other continual metrics stand at the last
        stage. Of the metrics of `hpa_bench.results.agreement`, which stand at stage 0 and the last stage, `agreement`
        and `kappa` have a pair as judge ("a vs b"), `category_asr` and `category_change` a harm category behind the set
        ("set/category").

    Raises:
        UserError: a folder holds no run, or a run's stages do not fit together.
    """
    listed = [paths] if isinstance(paths, str | PathLike) else list(paths)
    return results_table(read_runs(find_results(locate(os.fspath(path)) for path in listed)))


def results_table(runs: Iterable[Run]) -> DataFrame:
    """Return the results of runs, as `load_runs` does."""
    from pandas import DataFrame

    columns = (
        "suite version order harmful_ratio method label seed noise run missing stage set kind judge metric value n low"
        " high"
    )
    rows = []
    for run in runs:
        manifest = run.manifest
        about: dict[str, Any] = {
            "suite": manifest.suite,
            "version": manifest.suite_version,
            "order": ",".join(run.tasks),
        }
        about |= {"harmful_ratio": manifest.harmful_ratio}
        about |= {"method": manifest.method, "label": run.label, "seed": run.seed, "noise": run.noise}
        about |= {"run": str(run.path), "missing": run.missing}
        for key, measure in (run.measures | run.details).items():
            cell = combine(key, [measure])
            row = {"stage": key.stage, "value": cell.value, "n": cell.n, "low": cell.low, "high": cell.high}
            rows.append(about | key.series._asdict() | row)
    return DataFrame(rows, columns=columns.split())


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings under dotted names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def _label(manifest: Manifest) -> str:
    # What `--set` says of the suite is a condition of the run, not a variant of its method.
    return _labelled(manifest, [key for key in flat(manifest.changed or {}) if key in flat(manifest.config)])


def _labelled(manifest: Manifest, keys: Sequence[str]) -> str:
    config = flat(manifest.config)
    settings = ", ".join(f"{key}={config[key]}" for key in keys)
    return f"{manifest.method} ({settings})" if settings else manifest.method
