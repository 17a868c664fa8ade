"""The run directory: everything that a run leaves behind, and the only thing that a report reads.

```
runs/<suite>/<method>-<config hash>/seed<k>/
  manifest.json                    what was run: suite, config, seed, versions, hardware, hash of the data
  calibration/safety.jsonl         safety calibration samples, answered by the aligned model; calibration-<n>/ where a
                                   method asks for n of its own
  references/judgements/<judge>/<set>.jsonl   verdicts on the sets' own reference answers: id, verdict
  thumbnails/<set>.jsonl           small copies of the images of a few samples: id, images (`data:` URLs)
  stage<t>/                        t = 0 is the aligned model, before any tuning
    adapter/  weights/  state/     what a later step or stage needs
    update.json                    what the method's edit left of what training changed
    responses/<set>.jsonl          one row a sample: id, prompt, target, response, score; in_form, where a task
                                   declares a form
    judgements/<judge>/<set>.jsonl one row a sample: id, verdict; or <set>.MISSING, one sentence
    judgements/<judge>/can_say.json  of a judge that was added later: the verdicts that it can give
    scores.json  cost.json  DONE
```

Files and folders are written under a temporary name and renamed, so what has its final name is whole.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hpa_bench.errors import UserError
from hpa_bench.files import PARTIAL, atomic, read_jsonl, read_object, read_text, remove, write_json, write_jsonl
from hpa_bench.machine.disk import refusal, refusals_told
from hpa_bench.machine.lease import InUse, Lease, holder_of
from hpa_bench.redact import clean
from hpa_bench.results.manifest import MANIFEST, Manifest, Record

if TYPE_CHECKING:
    from hpa_bench.results.seals import Seal

FAILED = "FAILED"
ASIDE = ".aside-"
"""In the name of what `--again` and `--from-stage` have moved away; whoever looks for runs passes it by."""
START_AGAIN = "run it with --again, which keeps the old run aside, or bring back what it was made with"
_WRITTEN = re.compile(
    r"(manifest\.json|FAILED|calibration(-\d+)?|method|thumbnails|references|engine|report|stage\d+)(\.partial)?"
    r"|events\.jsonl|\.(lock|lease-\d+.*|claim-\d+.*)"
)
"""What a run's folder may hold; `.lock` in those of earlier versions."""
LEASE, CLAIM = ".lease", ".claim"
"""Leases in a run's folder: that of the process which works at it, and that of a comparison which has it made."""
HELD = "is in use by another run"
"""In the reason of a run that another one kept from starting."""
_BEFORE_ITS_RUN = re.compile(r"events\.jsonl|\.lock|\.(lease|claim)-.*")
"""What may be there before the manifest is."""
CAN_SAY = "can_say"


class Judged:
    """Answers that judges have given verdicts: a stage's responses, or the sets' own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def judges(self) -> list[str]:
        """Return the judges that were asked, by the names that they are stored under."""
        return sorted(path.name for path in (self.path / "judgements").glob("*"))

    def judgement_folder(self, judge: str) -> Path:
        """Return the folder of a judge's verdicts, existing or not."""
        return self.path / "judgements" / judge

    def judgements(self, judge: str, name: str) -> dict[str, str]:
        """Return the verdict of each sample id of a safety or benign set; none where the judge has not judged it."""
        if not self.is_judged(judge, name):
            return {}
        rows = read_jsonl(self._judgement(judge, name, "jsonl"), ("id", "verdict"))
        return {row["id"]: row["verdict"] for row in rows}

    def is_judged(self, judge: str, name: str) -> bool:
        """Whether a judge has judged a set."""
        return self._judgement(judge, name, "jsonl").exists()

    def write_judgements(self, judge: str, name: str, verdicts: Mapping[str, str]) -> None:
        """Write the verdict of each sample id; the set is no longer missing."""
        rows = [{"id": sample, "verdict": verdict} for sample, verdict in verdicts.items()]
        write_jsonl(self._judgement(judge, name, "jsonl"), rows)
        self._judgement(judge, name, "MISSING").unlink(missing_ok=True)

    def can_say(self, judge: str) -> dict[str, bool] | None:
        """Return each verdict that a judge can give, and whether it is an attack's success; None where it is not told.

        It stands beside the verdicts of a judge that the manifest says nothing of.
        """
        path = self._judgement(judge, CAN_SAY, "json")
        return read_object(path) if path.exists() else None

    def write_can_say(self, judge: str, verdicts: Mapping[str, bool]) -> None:
        """Write which verdicts a judge can give, and which of them are an attack's success."""
        write_json(self._judgement(judge, CAN_SAY, "json"), verdicts)

    def missing_judgement(self, judge: str, name: str) -> str:
        """Return why a judge has no verdicts on a set; empty where it has, or was not asked."""
        path = self._judgement(judge, name, "MISSING")
        return read_text(path) if path.exists() else ""

    def write_missing_judgement(self, judge: str, name: str, reason: str) -> None:
        """Leave the reason, one sentence, where the verdicts would stand."""
        with atomic(self._judgement(judge, name, "MISSING")) as file:
            file.write_text(reason, encoding="utf-8")

    def drop_judgements(self) -> None:
        """Remove all verdicts, when there are new responses."""
        remove(self.path / "judgements")

    def _judgement(self, judge: str, name: str, suffix: str) -> Path:
        return self.judgement_folder(judge) / f"{name}.{suffix}"


class StageFolder(Judged):
    """One stage of a run on disk."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.adapter = path / "adapter"
        self.adapter_state = self.adapter / "method"
        """What the method remembers between training and `adapt`."""
        self.weights = path / "weights"
        self.state = path / "state"
        self.trainer = path / f"trainer{PARTIAL}"
        self.update_file = path / "update.json"

    def drop_weights(self) -> None:
        """Remove what only the next stage needed."""
        for path in (self.adapter, self.weights, self.state):
            remove(path)

    def drop_adapter_state(self) -> None:
        """Remove what the stage's own state has taken the place of."""
        remove(self.adapter_state)

    def drop_trainer(self) -> None:
        """Remove the checkpoints of a training that is finished."""
        remove(self.trainer)

    @property
    def done(self) -> bool:
        """Whether every step of the stage is finished."""
        return (self.path / "DONE").exists()

    def finish(self, seal: Seal) -> None:
        """Mark every step of the stage as finished.

        Args:
            seal: of what later stages and reports read, by path in the run folder; the mark holds it.
        """
        write_json(self.path / "DONE", seal)

    def responses(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of a task or safety set (see `hpa_bench.runner.evaluation.Response`)."""
        return read_jsonl(self.path / "responses" / f"{name}.jsonl", ("id", "target", "response", "score"))

    def texts(self, name: str) -> list[str | None]:
        """Return the responses to a set alone, sorted by id."""
        return [row["response"] for row in sorted(self.responses(name), key=lambda row: str(row["id"]))]

    @property
    def update(self) -> dict[str, Any] | None:
        """What is left of the stage's update (see `hpa_bench.results.update`); None where it was not measured."""
        return read_object(self.update_file) if self.update_file.exists() else None

    @property
    def cost(self) -> dict[str, Any]:
        """Seconds by step, peak memory, sizes; empty where the stage has none yet."""
        path = self.path / "cost.json"
        return read_object(path) if path.exists() else {}

    def add_cost(self, **values: Any) -> None:
        """Add to the stage's costs: to `seconds` by step, so that a resumed run keeps what it spent.

        `shared` has those of them that another run has spent, for this one too.
        """
        cost = self.cost
        for sums in ("seconds", "shared") if "shared" in values else ("seconds",):
            seconds = cost.setdefault(sums, {})
            for step, spent in values.pop(sums, {}).items():
                seconds[step] = round(seconds.get(step, 0.0) + spent, 3)
        write_json(self.path / "cost.json", cost | values)


class RunFolder:
    """One run (suite, method, config, seed) on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._recording = False

    @property
    def manifest(self) -> Manifest:
        """What was run, as the file says it now.

        Raises:
            UserError: there is no manifest, or it is torn or foreign.
        """
        return Manifest.read(self.path / MANIFEST)

    def stage(self, index: int) -> StageFolder:
        """Return the folder of a stage, existing or not; stage 0 is the aligned model."""
        return StageFolder(self.path / f"stage{index}")

    @property
    def references(self) -> Judged:
        """The sets' own reference answers, as the judges see them."""
        return Judged(self.path / "references")

    def thumbnails(self, name: str) -> dict[str, list[str]]:
        """Return the small images of the samples of a set that may stand as examples, by id; empty where none."""
        path = self.path / "thumbnails" / f"{name}.jsonl"
        return {row["id"]: row["images"] for row in read_jsonl(path, ("id", "images"))} if path.exists() else {}

    def finished_stages(self) -> list[StageFolder]:
        """Return the finished stages, from stage 0 up to the first that is not finished."""
        stages: list[StageFolder] = []
        while (stage := self.stage(len(stages))).done:
            stages.append(stage)
        return stages

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process, by a lease that ends with the process, however that ends.

        Where this process does not get to beat for so long that another machine takes the run over, it ends at once:
        two must not write.

        Raises:
            UserError: another live run holds it, or its folder cannot be made or written.
        """
        lease = Lease(self.path / LEASE, partial(_leave, self.path))
        with refusals_told(self.path):
            try:
                lease.take()
            except InUse as error:
                raise UserError(f"{self.path} {HELD} ({error.holder}): wait for it, or choose another --out.") from None
            try:
                yield
            finally:
                lease.release()

    @property
    def is_live(self) -> bool:
        """Whether a process holds the run at this moment; of another machine's, by this machine's clock."""
        return holder_of(self.path / LEASE) is not None

    @contextmanager
    def recording_failure(self) -> Iterator[None]:
        """Keep the reason of a failure in the FAILED file, which a report shows in place of what is missing.

        Raises:
            UserError: the disk is full or not to be written, in place of whatever could not be written.
        """
        (self.path / FAILED).unlink(missing_ok=True)
        self._recording = True
        try:
            yield
            (self.path / FAILED).unlink(missing_ok=True)  # Whoever had it made may have given it up meanwhile.
        except Exception as error:
            full = refusal(self.path, error)
            if full:
                _remove_partial(self.path)
            reason = full or (str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}")
            self.note_failure(reason)
            if full:
                raise UserError(full) from error
            raise
        finally:
            self._recording = False

    def note_failure(self, reason: str) -> None:
        """Write the FAILED file, where failures are being recorded and there is room for it."""
        if self._recording:
            try:
                with atomic(self.path / FAILED) as file:
                    file.write_text(clean(reason), encoding="utf-8")
            except OSError:
                _remove_partial(self.path)

    def record_failure(self, planned: Manifest, reason: str) -> None:
        """Leave the reason in the folder of a run that ended before it could, so that a report shows it.

        Args:
            planned: the manifest as far as it is known; written where the run wrote none, and replaced once one does.
            reason: one sentence; used where the run left none.
        """
        if not (self.path / MANIFEST).exists():
            planned.model_copy(update={"planned": True}).write(self.path / MANIFEST)
        if not (self.path / FAILED).exists():
            with atomic(self.path / FAILED) as file:
                file.write_text(clean(reason), encoding="utf-8")

    def claim(self, manifest: Record) -> None:
        """Write the manifest, or check that the folder was made by the same run.

        Args:
            manifest: what is to be run; only what is of its `IDENTITY` must be the same, and versions may differ.

        Raises:
            UserError: the folder belongs to another run; the message names the first key that differs.
        """
        path = self.path / MANIFEST
        if not path.exists():
            foreign = [entry.name for entry in self.path.iterdir() if not _BEFORE_ITS_RUN.fullmatch(entry.name)]
            if foreign:
                raise UserError(
                    f"{self.path} is not empty and holds no {MANIFEST} (it has {foreign[0]!r}): choose another --out."
                )
        existing = type(manifest).read(path) if path.exists() else None
        if existing is None or (isinstance(existing, Manifest) and existing.planned):
            manifest.write(path)
        elif isinstance(existing, Manifest) and (change := existing.changed_source(cast(Manifest, manifest))):
            raise UserError(f"{self.path} was made before, and {change}: {START_AGAIN}.")
        elif difference := existing.difference(manifest):
            raise UserError(
                f"{self.path} was made with another configuration: {difference}. Use the same, or another --out."
            )
        _remove_partial(self.path)


def _leave(folder: Path) -> None:
    """End this process, whose run another one has taken over."""
    taker = holder_of(folder / LEASE)
    print(
        f"Error: {folder} {HELD} ({taker or 'gone by now'}), which took it over since this process did not answer for"
        " a while.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(2)


def _remove_partial(folder: Path) -> None:
    """Remove what was being written when a process ended; a trainer's checkpoints have marks of their own."""
    for path in folder.rglob(f"*{PARTIAL}"):
        if path.name != f"trainer{PARTIAL}":
            remove(path)


def set_aside(run: RunFolder) -> Path:
    """Move a run's folder aside, where no command looks for runs, and return where it is now.

    Raises:
        UserError: a live process holds it.
    """
    with run.locked():
        return run.path.rename(_aside(run))


def set_aside_from(run: RunFolder, index: int, files: Iterable[Path]) -> Path:
    """Move a run's stages from one on, and further files of it, to a folder as `set_aside` names it, and return that.

    The last stage goes first, so that what stays is a run at every moment. Whoever calls holds the run.

    Args:
        run: the run.
        index: the first stage that goes.
        files: below the run's folder.
    """
    aside = _aside(run)
    aside.mkdir()
    shutil.copyfile(run.path / MANIFEST, aside / MANIFEST)
    for file in files:
        target = aside / file.relative_to(run.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.rename(target)
    stages = [path for path in run.path.glob("stage*") if path.name.removeprefix("stage").isdecimal()]
    for path in sorted(stages, key=lambda path: -int(path.name.removeprefix("stage"))):
        if int(path.name.removeprefix("stage")) >= index:
            path.rename(aside / path.name)
    return aside


def _aside(run: RunFolder) -> Path:
    """Return the first free place beside a run's folder."""
    places = (run.path.with_name(f"{run.path.name}{ASIDE}{number}") for number in count(1))
    return next(path for path in places if not path.exists())


def discard(run: RunFolder) -> None:
    """Remove a run, or what is there before one begins, and nothing that a run does not write.

    Raises:
        UserError: the folder holds no run of hpa-bench, or something else beside one; nothing is removed then.
    """
    with run.locked():
        entries = sorted(run.path.iterdir())
        if not all(_BEFORE_ITS_RUN.fullmatch(entry.name) for entry in entries):
            Manifest.read(run.path / MANIFEST)
        for entry in entries:
            if not _WRITTEN.fullmatch(entry.name):
                raise UserError(
                    f"{run.path} holds {entry.name!r}, which no run writes, so it is not removed: move it, or choose"
                    " another --out."
                )
        shutil.rmtree(run.path)


def find_runs(paths: Iterable[Path]) -> list[RunFolder]:
    """Return every run at or below the given folders, sorted by path.

    Raises:
        UserError: a folder does not exist or holds no run.
    """
    found: dict[Path, RunFolder] = {}
    for path in paths:
        there = sorted(path.rglob(MANIFEST)) if path.is_dir() else []
        manifests = [file for file in there if ASIDE not in str(file.relative_to(path))]
        if not manifests:
            raise UserError(f"No run in {path}: expected a folder with a {MANIFEST} at or below it.")
        found.update((manifest.parent.resolve(), RunFolder(manifest.parent)) for manifest in manifests)
    return [found[path] for path in sorted(found)]
