"""Where the results of a run are read from: its own folder, or what was published of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from hpa_bench.errors import UserError
from hpa_bench.results.manifest import Manifest
from hpa_bench.results.run_folder import FAILED, Judged, RunFolder, StageFolder
from hpa_bench.results.stage_data import StageData, read_stage
from hpa_bench.results.whole import check_results


class StageSource(Protocol):
    """A finished stage, beside its scores and verdicts."""

    @property
    def cost(self) -> Mapping[str, Any]:
        """Seconds by step, peak memory, sizes."""

    @property
    def update(self) -> Mapping[str, Any] | None:
        """What is left of the stage's update (see `hpa_bench.results.update`); None where it was not measured."""

    def responses(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of a set; where texts are not kept, their `response` is None."""

    def texts(self, name: str) -> list[str | None]:
        """Return the responses to a set alone, sorted by id; None in the place of each that is not kept."""

    def judges(self) -> list[str]:
        """Return the judges that were asked."""

    def can_say(self, judge: str) -> dict[str, bool] | None:
        """Return what a judge that the manifest says nothing of can say; None where that is not told."""

    def missing_judgement(self, judge: str, name: str) -> str:
        """Return why a judge has no verdicts on a set; empty where it has, or was not asked."""


class References(Protocol):
    """The verdicts on the sets' own reference answers."""

    def judgements(self, judge: str, name: str) -> dict[str, str]:
        """Return the verdict of each sample id; none where the judge has not judged the set."""

    def is_judged(self, judge: str, name: str) -> bool:
        """Whether a judge has judged a set."""

    def missing_judgement(self, judge: str, name: str) -> str:
        """Return why a judge has no verdicts on a set; empty where it has, or was not asked."""


class Source(Protocol):
    """The results of one run, as reports and `load_runs` read them."""

    path: Path
    """What messages and tables call it."""

    @property
    def manifest(self) -> Manifest:
        """What was run."""

    @property
    def is_live(self) -> bool:
        """Whether a process is working at it."""

    @property
    def failure(self) -> str:
        """Why it failed, in one sentence; empty where it did not."""

    @property
    def is_quick(self) -> bool:
        """Whether samples are read again in no time, so that a report of many runs need not hold those of all."""

    @property
    def stages(self) -> Sequence[StageSource]:
        """The finished stages, from stage 0 on."""

    @property
    def references(self) -> References:
        """What judges say of the sets' own answers."""

    @property
    def has_texts(self) -> bool:
        """Whether the responses themselves are there."""

    def read(self, stage: int) -> StageData:
        """Return a finished stage's scores and verdicts."""

    def digest(self, stage: int, name: str) -> bytes:
        """Return the SHA-256 of a stage's responses to a set (see `digest_of`)."""

    def thumbnails(self, name: str) -> Mapping[str, list[str]]:
        """Return the small images of the samples of a set that may stand as examples, by id."""


class FolderSource:
    """The results that a run's folder holds, checked against its seals."""

    is_quick = False

    def __init__(self, folder: RunFolder) -> None:
        self.path = folder.path
        self.manifest = folder.manifest
        self.is_live = folder.is_live  # Before the stages are looked for: it may end meanwhile.
        self.stages: Sequence[StageFolder] = folder.finished_stages()
        check_results(folder, self.stages)
        self.references: Judged = folder.references
        self.has_texts = True
        self.thumbnails = folder.thumbnails

    @cached_property
    def failure(self) -> str:
        """Why it failed, in one sentence; empty where it did not."""
        path = self.path / FAILED
        return " ".join(path.read_text(encoding="utf-8", errors="replace").split()) if path.exists() else ""

    def read(self, stage: int) -> StageData:
        """Return a finished stage's scores and verdicts."""
        return read_stage(self.stages[stage], self.manifest, stage)

    def digest(self, stage: int, name: str) -> bytes:
        """Return the SHA-256 of a stage's responses to a set."""
        return digest_of(self.stages[stage].responses(name))


def digest_of(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return the SHA-256 of the responses to a set: of the JSON list of `[id, response]`, sorted by id."""
    pairs = sorted(([row["id"], row["response"]] for row in rows), key=lambda pair: str(pair[0]))
    return hashlib.sha256(json.dumps(pairs, ensure_ascii=False, separators=(",", ":")).encode()).digest()


def read_stages(source: Source) -> list[StageData]:
    """Return the samples of every finished stage.

    Raises:
        UserError: a stage was tested on other samples than stage 0.
    """
    data = [source.read(index) for index in range(len(source.stages))]
    for index, later in enumerate(data[1:], 1):
        for name, ids in later.ids.items():
            if ids != data[0].ids[name]:
                odd = sorted(set(ids) ^ set(data[0].ids[name]), key=str)[0]
                lacks, has = ("it", "stage 0") if odd not in ids else ("stage 0", "it")
                path = source.path / f"stage{index}" / "responses" / f"{name}.jsonl"
                raise UserError(f"{path} does not match stage 0: {lacks} lacks the id {odd!r}, which {has} has.")
    return data
