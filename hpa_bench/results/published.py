"""Published results: of each run what its numbers come from, in one Parquet file that is written once.

```
<out>/results/
  published.json                     what all runs here have in common: suite, version, commit, versions, numerics
  samples-<hash>.parquet             the samples of the test sets, one row each: id, prompt, target, images of a few
  <method>-<hash>/seed<k>.parquet    one run, one row a stage and set; the hash covers all that makes the run
```

A run's row holds the SHA-256 of the responses, the score or the verdicts of each sample, and, of seed 0, the responses.
What is of the whole run or stage (manifest, costs) stands in each of its rows, and once in the file, as Parquet keeps a
dictionary of each column.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import deque
from collections.abc import Iterable, Mapping
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hpa_bench.errors import UserError
from hpa_bench.metrics import Ints
from hpa_bench.results.manifest import MANIFEST, Manifest
from hpa_bench.results.run_folder import RunFolder, find_runs
from hpa_bench.results.stage_data import StageData, clusters_of

RESULTS = "results"
"""The folder of published results, in that of a report."""
ABOUT = "published.json"
WITH_PACKAGE = "published"
"""In the place of a path: the results that come with this package."""
SETTINGS = ("suite", "suite_config", "method", "config", "harmful_ratio")
"""What makes a run, beside its seed: the parts of a manifest that its name hashes."""


def run_name(settings: Mapping[str, Any]) -> str:
    """Return the path of a run below `results/`.

    Args:
        settings: `SETTINGS`, the seed and the number of a noise run, as in a manifest or as a spec's identity.
    """
    made_of = json.dumps(portable({key: settings[key] for key in SETTINGS}), sort_keys=True)
    digest = hashlib.sha256(made_of.encode()).hexdigest()[:8]
    noise = f"-noise{settings['noise']}" if settings.get("noise") else ""
    return f"{settings['method']}-{digest}/seed{settings['seed']}{noise}.parquet"


def locate(where: str, suite: str = "tiny") -> Path:
    """Return where results are.

    Args:
        where: a path, or "published" for what comes with this package; "published:small" names the suite.
        suite: the suite's name, where it is not named so.

    Raises:
        UserError: no results of the suite come with this package.
    """
    source, _, named = where.partition(":")
    if source != WITH_PACKAGE:
        return Path(where)
    suite = named or suite
    package = Path(__file__).parents[1]
    for reports in (package / "reports", package.parent / "reports"):  # Installed, and in a checkout.
        if (reports / suite / RESULTS / ABOUT).is_file():
            return reports / suite
    raise UserError(f"No published results of the suite {suite!r} come with hpa-bench: give the folder of some.")


def published_names(out: Path) -> set[str]:
    """Return the names (see `run_name`) of the runs that are published in a report's folder."""
    folder = out / RESULTS
    return {str(file.relative_to(folder)) for file in folder.glob("*/*.parquet")}


def find_published(path: Path) -> list[PublishedRun]:
    """Return the published runs at or below a path, sorted; none where there are none."""
    if path.suffix == ".parquet" and path.is_file():
        return [PublishedRun(path)]
    folders = sorted(about.parent for about in path.rglob(ABOUT))
    return [PublishedRun(file) for folder in folders for file in sorted(folder.glob("*/*.parquet"))]


def find_results(paths: Iterable[Path]) -> list[RunFolder | PublishedRun]:
    """Return every run at or below the given folders, those in run folders first.

    Raises:
        UserError: a folder does not exist or holds neither.
    """
    published: dict[Path, PublishedRun] = {}
    folders = []
    for path in paths:
        found = {run.path.resolve(): run for run in find_published(path)}
        published |= found
        if not found or any(path.rglob(MANIFEST)):
            folders.append(path)
    return [*find_runs(folders), *published.values()]


_HELD = 8
"""Tables of runs in memory at a time."""
_held: deque[tuple[PublishedRun, str]] = deque()
_PARTS = {
    "about": ("run", "stage", "set", "cost"),
    "numbers": ("scores", "incoherent", "verdicts", "in_form"),
    "texts": ("responses",),
    "digests": ("sha256",),
}
"""The columns that are read together: who asks for one needs the others too, and seldom those of another part."""
_PART_OF = {column: part for part, columns in _PARTS.items() for column in columns}


class _Columns:
    """Columns of a run's file."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self._lists: dict[str, list[Any]] = {}

    def get(self, name: str) -> pa.ChunkedArray | None:
        """Return a column, None where the file is older than it."""
        return self.table[name] if name in self.table.column_names else None

    def lists(self, name: str) -> list[Any]:
        """Return the lists of a column as arrays, None where one is not there; none where the file is older than it."""
        if name not in self._lists:
            column = self.get(name)
            if column is None:
                return []
            found = column.combine_chunks()
            values, ends = found.values.to_numpy(zero_copy_only=False), found.offsets.to_pylist()
            there = zip(pairwise(ends), found.is_valid().to_pylist(), strict=True)
            self._lists[name] = [values[first:last] if known else None for (first, last), known in there]
        return self._lists[name]

    @cached_property
    def verdicts(self) -> list[dict[str, list[str]]]:
        """By row, the verdicts of each judge; equal words are one object, since there are millions of them."""
        maps = self.table["verdicts"].combine_chunks()
        words = maps.items.values.dictionary_encode()
        names = np.array([sys.intern(word) for word in words.dictionary.to_pylist()] or [""], dtype=object)
        said = names[words.indices.to_numpy(zero_copy_only=False)] if len(words) else names[:0]
        judges, rows, starts = maps.keys.to_pylist(), maps.offsets.to_pylist(), maps.items.offsets.to_pylist()
        return [
            {judges[at]: said[starts[at] : starts[at + 1]].tolist() for at in range(first, last)}
            for first, last in pairwise(rows)
        ]


class PublishedRun:
    """The published results of one run."""

    is_live = False
    failure = ""
    is_quick = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tables: dict[str, _Columns] = {}
        try:
            rows = self._read("about").table
            self._about: dict[str, Any] = json.loads(rows["run"][0].as_py())
            self.manifest = Manifest.parse(self._about["manifest"], path)
            index, sets = rows["stage"].to_pylist(), rows["set"].to_pylist()
            cost = rows["cost"].combine_chunks()
        except (OSError, pa.ArrowException, ValueError, LookupError) as error:
            raise UserError(f"{path} is not whole ({error}): bring it back as it was published.") from None
        self.places = {pair: row for row, pair in enumerate(zip(index, sets, strict=True))}
        """The row of each stage and set."""
        for given in self._about["references"].values():
            # A word of a verdict is one object, however often it is said.
            given |= {name: [*map(sys.intern, words)] for name, words in given.items()}
        costs, where = cost.dictionary.to_pylist(), dict(zip(index, cost.indices.to_pylist(), strict=True))
        self.stages = [PublishedStage(self, stage, costs[where[stage]]) for stage in range(1 + max(index))]
        self.references = PublishedReferences(self)

    @cached_property
    def has_texts(self) -> bool:
        """Whether the responses themselves are there."""
        column = self._part("responses").get("responses")
        return column is not None and column.null_count < len(column)

    def _read(self, part: str) -> _Columns:
        with pq.ParquetFile(self.path, read_dictionary=["run", "cost"]) as file:
            there = [column for column in _PARTS[part] if column in file.schema_arrow.names]
            return _Columns(file.read(there, use_threads=False).combine_chunks())

    def _part(self, column: str) -> _Columns:
        """Return a column with those that are read beside it; those of the last few are held."""
        part = _PART_OF[column]
        if part not in self._tables:
            self._tables[part] = self._read(part)
            _held.append((self, part))
            while len(_held) > _HELD:
                run, let_go = _held.popleft()
                del run._tables[let_go]
        return self._tables[part]

    @cached_property
    def samples(self) -> Mapping[str, list[dict[str, Any]]]:
        """The samples of each test set, sorted by id."""
        return _read_samples(self.path.parents[1] / self._about["samples"])

    def _numbers(self, column: str, stage: int, name: str) -> Any:
        """Return the list of a row as an array; None where there is none, or the file is older than the column."""
        lists = self._part(column).lists(column)
        return lists[self.places[stage, name]] if lists else None

    def value(self, column: str, stage: int, name: str) -> Any:
        """Return what a column says of a stage's responses to a set; None where the file is older than the column."""
        cells = self._part(column).get(column)
        return None if cells is None else cells[self.places[stage, name]].as_py(maps_as_pydicts="strict")

    def read(self, stage: int) -> StageData:
        """Return a finished stage's scores and verdicts."""
        data = StageData()
        for name in [*self.manifest.scored_tasks(stage), *self.manifest.judged_sets]:
            about = _about_samples(self.path.parents[1] / self._about["samples"])[name]
            data.ids[name] = about.ids
            if about.clusters is not None:
                data.clusters[name] = about.clusters
            if name in self.manifest.tasks:
                data.scores[name] = np.array(self._numbers("scores", stage, name), dtype=np.float64)
                if (in_form := self._numbers("in_form", stage, name)) is not None:
                    data.in_form[name] = in_form.tolist()
                continue
            data.incoherent[name] = self._numbers("incoherent", stage, name).tolist()
            if about.categories is not None:
                data.categories[name] = about.categories
            given = self._part("verdicts").verdicts[self.places[stage, name]]
            data.verdicts.update(((judge, name), said) for judge, said in given.items())
        return data

    def digest(self, stage: int, name: str) -> bytes:
        """Return the SHA-256 of a stage's responses to a set."""
        return bytes(self.value("sha256", stage, name))

    def thumbnails(self, name: str) -> dict[str, list[str]]:
        """Return the small images of the samples of a set that may stand as examples, by id."""
        return {sample["id"]: sample["images"] for sample in self.samples[name] if sample["images"]}

    def told(self, key: str) -> Any:
        """Return what is published of the whole run (see `_about`)."""
        return self._about[key]


class PublishedStage:
    """A stage of a published run, beside its scores and verdicts."""

    def __init__(self, run: PublishedRun, index: int, cost: str) -> None:
        self._run = run
        self._index = index
        self._cost = cost

    @cached_property
    def cost(self) -> dict[str, Any]:
        """Seconds by step, peak memory, sizes."""
        return dict(json.loads(self._cost))

    @property
    def update(self) -> dict[str, Any] | None:
        """What is left of the stage's update; None where it was not measured."""
        found: dict[str, Any] | None = self._run.told("updates")[self._index]
        return found

    def responses(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of a set, as of a run folder; where texts are not kept, their `response` is None."""
        samples = self._run.samples[name]
        columns = [self._run.value(column, self._index, name) for column in ("responses", "scores", "in_form")]
        given = zip(samples, *(column or [None] * len(samples) for column in columns), strict=True)
        return [
            {key: value for key, value in sample.items() if key not in ("images", "set") and value is not None}
            | {"response": response, "score": score}
            | ({} if in_form is None else {"in_form": in_form})
            for sample, response, score, in_form in given
        ]

    def texts(self, name: str) -> list[str | None]:
        """Return the responses to a set alone, sorted by id; None in the place of each that is not kept."""
        return self._run.value("responses", self._index, name) or [None] * len(self._run.samples[name])

    def judges(self) -> list[str]:
        """Return the judges that were asked."""
        return sorted(self._run.told("references"))

    def can_say(self, judge: str) -> dict[str, bool] | None:
        """Return what a judge that the manifest says nothing of can say; None where that is not told."""
        found: dict[str, dict[str, bool]] = self._run.told("can_say")
        return found.get(judge)

    def missing_judgement(self, judge: str, name: str) -> str:
        """Return why a judge has no verdicts on a set; empty where it has, or was not asked."""
        return str(self._missing.get(judge, {}).get(name, ""))

    @property
    def _missing(self) -> dict[str, dict[str, str]]:
        return dict(self._run.told("missing")[self._index])


class PublishedReferences:
    """The verdicts on the sets' own reference answers, as published."""

    def __init__(self, run: PublishedRun) -> None:
        self._run = run

    def judgements(self, judge: str, name: str) -> dict[str, str]:
        """Return the verdict of each sample id; none where the judge has not judged the set."""
        given = self._run.told("references").get(judge, {}).get(name, [])
        ids = [sample["id"] for sample in self._run.samples[name]]
        return {sample: verdict for sample, verdict in zip(ids, given, strict=False) if verdict}

    def is_judged(self, judge: str, name: str) -> bool:
        """Whether a judge has judged a set."""
        return name in self._run.told("references").get(judge, {})

    def missing_judgement(self, judge: str, name: str) -> str:
        """Return why a judge has no verdicts on a set; empty where it has, or was not asked."""
        return str(self._run.told("references_missing").get(judge, {}).get(name, ""))


@cache
def _read_samples(path: Path) -> dict[str, list[dict[str, Any]]]:
    if not path.exists():
        raise UserError(f"{path} is missing, which the runs beside it were tested on: bring it back.")
    found: dict[str, list[dict[str, Any]]] = {}
    for row in pq.read_table(path).to_pylist():
        found.setdefault(row["set"], []).append(row)
    return found


class _AboutSamples(NamedTuple):
    """What a run's numbers need of the samples of a set, sorted by id; the same objects for all runs."""

    ids: list[str]
    clusters: Ints | None
    categories: list[str] | None


@cache
def _about_samples(path: Path) -> dict[str, _AboutSamples]:
    found = {}
    clusters = clusters_of(_read_samples(path))
    for name, samples in _read_samples(path).items():
        known = any(sample["category"] is not None for sample in samples)
        categories = [sample["category"] or "none" for sample in samples] if known else None
        found[name] = _AboutSamples([sample["id"] for sample in samples], clusters.get(name), categories)
    return found


def portable(value: Any) -> Any:
    """Return settings without where things lie on one machine: of absolute paths, the last part."""
    if isinstance(value, Mapping):
        return {key: portable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [portable(each) for each in value]
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value
