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

import fcntl
import hashlib
import json
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hpa_bench.errors import UserError
from hpa_bench.files import atomic, read_object, write_json
from hpa_bench.machine.disk import refusals_told
from hpa_bench.metrics import Ints
from hpa_bench.results.manifest import MANIFEST, Manifest
from hpa_bench.results.run_folder import RunFolder, find_runs
from hpa_bench.results.source import References, Source, StageSource, read_stages
from hpa_bench.results.stage_data import StageData, clusters_of
from hpa_bench.results.vocabularies import judges_of

RESULTS = "results"
"""The folder of published results, in that of a report."""
ABOUT = "published.json"
SAMPLES = "samples-"
FORMAT = 1
WITH_PACKAGE = "published"
"""In the place of a path: the results that come with this package."""
TEXTS_OF = 0
"""The seed whose responses are kept as texts."""
ALIKE = ("suite", "suite_version", "git_commit", "versions")
"""What all runs of one folder have in common; of their numerics, all that a suite sets alike (portable, native)."""
SETTINGS = ("suite", "suite_config", "method", "config", "harmful_ratio")
"""What makes a run, beside its seed: the parts of a manifest that its name hashes."""

_RUN = pa.schema(
    [
        ("run", pa.string()),
        ("stage", pa.int16()),
        ("set", pa.string()),
        ("sha256", pa.binary(32)),
        ("scores", pa.list_(pa.float64())),
        ("incoherent", pa.list_(pa.bool_())),
        ("verdicts", pa.map_(pa.string(), pa.list_(pa.string()))),
        ("responses", pa.list_(pa.string())),
        ("cost", pa.string()),
        ("in_form", pa.list_(pa.bool_())),
    ]
)
_SAMPLES = pa.schema(
    [
        *((name, pa.string()) for name in ("set", "id", "prompt", "target", "category", "cluster")),
        ("images", pa.list_(pa.string())),
    ]
)


class Published(NamedTuple):
    """What became of a run that was to be published."""

    path: Path
    new: bool
    """Whether it was not there before."""


def publish(source: Source, out: Path, *, show_unsafe: bool = False) -> Published:
    """Publish a finished run; one that is there already, with the same results, stays as it is.

    Where judges were added since, its file is written again with their verdicts.

    Args:
        source: the run.
        out: the folder of a report; results stand in its `results/`.
        show_unsafe: keep the texts and images of safety sets, too.

    Raises:
        UserError: the run is not finished, or was made from uncommitted code; or what is published there is of another
            suite, version, commit, numerics or packages, or holds this run with other results.
    """
    manifest = source.manifest
    if len(source.stages) <= len(manifest.stages):
        raise UserError(f"{source.path} is not finished, so it cannot be published: finish it first.")
    if manifest.uncommitted:
        raise UserError(
            f"{source.path} was made from code that no commit has, so nobody else can make it: commit, and run it again"
            " in another folder."
        )
    folder = out / RESULTS
    data = read_stages(source)
    with refusals_told(folder), _locked(folder):
        _check_alike(manifest, source.path, folder)
        path = folder / run_name(manifest.compared())
        if path.exists():
            there = PublishedRun(path)
            _check_same(source, there)
            if {*judges_of(source.stages, manifest)} <= {*judges_of(there.stages, manifest)}:
                return Published(path, False)
        samples = _write_samples(source, folder, show_unsafe)
        _write(_run_table(source, data, samples, show_unsafe), path)
    return Published(path, True)


def check_code(out: Path, commit: str | None, uncommitted: bool | None) -> None:
    """Check that what this code makes can be published, before it is made.

    Args:
        out: the folder of a report.
        commit: the last that changed code, where there is one.
        uncommitted: whether the code is another.

    Raises:
        UserError: no commit has the code, or what is published is of another commit.
    """
    if uncommitted:
        raise UserError("The code has changes that no commit has, so nobody else could make these results: commit it.")
    about = out / RESULTS / ABOUT
    known = read_object(about).get("git_commit") if about.exists() else commit
    if known != commit:
        raise UserError(
            f"The results in {about.parent} are of commit {known}, and this code is of {commit}: make them in a"
            " worktree of that commit (git worktree add), or publish into another folder."
        )


def run_name(settings: Mapping[str, Any]) -> str:
    """Return the path of a run below `results/`.

    Args:
        settings: `SETTINGS`, the seed and the number of a noise run, as in a manifest or as a spec's identity.
    """
    made_of = json.dumps(_portable({key: settings[key] for key in SETTINGS}), sort_keys=True)
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
        for name in [*self.manifest.scored_tasks(stage), *judged_sets(self.manifest)]:
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


def judged_sets(manifest: Manifest) -> list[str]:
    """Return the sets that judges look at."""
    return [*manifest.safety_sets, *manifest.benign_sets]


def _portable(value: Any) -> Any:
    """Return settings without where things lie on one machine: of absolute paths, the last part."""
    if isinstance(value, Mapping):
        return {key: _portable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_portable(each) for each in value]
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value


def _common(manifest: Manifest) -> dict[str, Any]:
    said = manifest.compared()
    found = {name: said.get(name) for name in ALIKE} | {"suite_version": said["suite_config"]["version"]}
    asked = said["suite_config"].get("numerics", "native")
    return {"format": FORMAT} | found | {"numerics": {asked: said.get("numerics")}}


def _check_alike(manifest: Manifest, path: Path, folder: Path) -> None:
    """Check that a run may stand beside those of a folder; the first one says what is common."""
    about = folder / ABOUT
    mine = _common(manifest)
    known = read_object(about) if about.exists() else mine
    if known.get("format") != FORMAT:
        raise UserError(f"{about} has format {known.get('format')}, and this version reads {FORMAT}: update hpa-bench.")
    numerics = mine["numerics"] | known["numerics"]
    there = known | {"numerics": {asked: numerics[asked] for asked in mine["numerics"]}}
    for name in (*ALIKE, "numerics"):
        if mine[name] != there.get(name):
            raise UserError(
                f"{path} was made with {name} {mine[name]}, and the runs in {folder} with {there.get(name)}: publish it"
                " in another folder."
            )
    if not about.exists() or numerics != known["numerics"]:
        write_json(about, known | {"numerics": numerics})


def _check_same(source: Source, there: PublishedRun) -> None:
    for stage, name in there.places:
        if source.digest(stage, name) != there.digest(stage, name):
            raise UserError(
                f"{there.path} holds the same run as {source.path} with other responses, the first of stage {stage} to"
                f" {name}: find out why (`hpa-bench verify {there.path}`), or remove it first."
            )


def _about(source: Source, data: Sequence[StageData], samples: str) -> dict[str, Any]:
    """Return what is published of the whole run: its manifest, its updates, and what judges said of reference answers.

    Verdicts on these stand in the order of the sample ids, "" where a sample has no such answer.
    """
    manifest, references = source.manifest, source.references
    sets = judged_sets(manifest)
    judges = judges_of(source.stages, manifest)
    return {
        "manifest": _portable(manifest.said()),
        "samples": samples,
        "updates": [stage.update for stage in source.stages],
        "can_say": {judge: said for judge in judges for stage in source.stages[:1] if (said := stage.can_say(judge))},
        "missing": [
            {judge: reasons for judge in judges if (reasons := _reasons(stage, judge, sets))} for stage in source.stages
        ],
        "references": {
            judge: {
                name: _in_order(references.judgements(judge, name), data[0].ids[name])
                for name in sets
                if references.is_judged(judge, name)
            }
            for judge in judges
        },
        "references_missing": {judge: _reasons(references, judge, sets) for judge in judges},
    }


def _in_order(given: Mapping[str, str], ids: Sequence[str]) -> list[str]:
    return [given.get(sample, "") for sample in ids]


def _reasons(judged: StageSource | References, judge: str, sets: Sequence[str]) -> dict[str, str]:
    return {name: why for name in sets if (why := judged.missing_judgement(judge, name))}


def _run_table(source: Source, data: Sequence[StageData], samples: str, show_unsafe: bool) -> pa.Table:
    manifest = source.manifest
    run = json.dumps(_about(source, data, samples), ensure_ascii=False, separators=(",", ":"))
    has_texts = source.has_texts and manifest.seed == TEXTS_OF and not manifest.noise
    rows = []
    for index, (stage, found) in enumerate(zip(source.stages, data, strict=True)):
        cost = json.dumps(dict(stage.cost), separators=(",", ":"))
        for name, ids in found.ids.items():
            responses = {row["id"]: row for row in stage.responses(name)}
            row: dict[str, Any] = {"run": run, "stage": index, "set": name, "cost": cost}
            scores = [responses[sample]["score"] for sample in ids]
            row |= {"sha256": source.digest(index, name), "scores": None if None in scores else scores}
            if name in found.incoherent:
                row["incoherent"] = found.incoherent[name]
            if name in found.in_form:
                row["in_form"] = found.in_form[name]
            row["verdicts"] = {judge: given for (judge, where), given in found.verdicts.items() if where == name}
            if has_texts and (show_unsafe or name not in manifest.safety_sets):
                row["responses"] = [responses[sample]["response"] for sample in ids]
            rows.append(row)
    return pa.Table.from_pylist(rows, _RUN)


def _write_samples(source: Source, folder: Path, show_unsafe: bool) -> str:
    """Write the samples of a run's test sets, unless they are there, and return the file's name."""
    manifest = source.manifest
    rows = []
    for name in sorted([*manifest.tasks, *judged_sets(manifest)]):
        images = source.thumbnails(name)
        for sample in sorted(source.stages[0].responses(name), key=lambda row: str(row["id"])):
            row = {"set": name} | {key: sample.get(key) for key in ("id", "category", "cluster")}
            if show_unsafe or name not in manifest.safety_sets:
                target = sample["target"]
                row |= {"prompt": sample.get("prompt"), "images": images.get(sample["id"])}
                row["target"] = ", ".join(map(str, target)) if isinstance(target, list) else target
            rows.append(row)
    digest = hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:12]
    path = folder / f"{SAMPLES}{digest}.parquet"
    if not path.exists():
        _write(pa.Table.from_pylist(rows, _SAMPLES), path)
    return path.name


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
    for name, samples in _read_samples(path).items():
        known = any(sample["category"] is not None for sample in samples)
        categories = [sample["category"] or "none" for sample in samples] if known else None
        found[name] = _AboutSamples([sample["id"] for sample in samples], clusters_of(samples), categories)
    return found


def _write(table: pa.Table, path: Path) -> None:
    with atomic(path) as partial:
        # Without what only Arrow reads and without statistics: a footer is not compressed, and files are small.
        pq.write_table(
            table, partial, compression="zstd", compression_level=19, write_statistics=False, store_schema=False
        )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder, which several may publish into at a time; the lock ends with the process."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
