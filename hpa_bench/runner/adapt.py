"""A method's edit on any two checkpoints, block by block: what a run does between a merge and the next stage.

The method sees the stage that a run would show it. What differs is where its weights come from: of the model there is a
skeleton, and of each checkpoint the block at work.
"""

from __future__ import annotations

import hashlib
import re
import resource
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hpa_bench.adaptation import Adaptation, hands_on_another
from hpa_bench.data.samples import content_hash
from hpa_bench.errors import UserError
from hpa_bench.files import atomic, move_whole
from hpa_bench.machine import products
from hpa_bench.machine.device import choose_device, explained_shortage
from hpa_bench.machine.disk import check_space, refusals_told
from hpa_bench.machine.memory import return_tensors
from hpa_bench.machine.processes import processes
from hpa_bench.method import StageContext
from hpa_bench.models.adapters import StoredAdapter
from hpa_bench.models.config import LoRAConfig
from hpa_bench.models.matching import doubt_of_base
from hpa_bench.models.weights import Checkpoint, Merged, Weights, Writer, overlaid, unrounded
from hpa_bench.results.manifest import EditedLayer, EditManifest
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.runner.context import batches
from hpa_bench.runner.edits import each_checked, unedited, write_edits
from hpa_bench.runner.environment import environment
from hpa_bench.runner.journal import ADAPT, ADAPTER, EVALUATED, HOOKS, REST, Journal
from hpa_bench.runner.opened import Opened, open_all
from hpa_bench.runner.refused import Refused
from hpa_bench.runner.setup import limit_threads
from hpa_bench.runner.update import measure_edit

if TYPE_CHECKING:
    from torch import Tensor

    from hpa_bench.data.samples import Sample

RECORD = "adapt.json"
"""Beside the edited checkpoint's weights: what it was made from, and what the edit did."""
WEIGHTS = "weights"
"""The checkpoint that is being written, in the folder of what is not finished."""
HANDED_ON = "handed_on"
"""Beside it, what `adapt` of a method makes whose `evaluated` may read it at any time to make what is scored."""
STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Watch:
    """Who is told how an edit goes."""

    written: Callable[[int, int, str], None] = lambda done, total, name: None
    """Is told, after every weight, the bytes that are written, those of the whole checkpoint, and the weight."""
    say: Callable[[str], None] = print
    """Is told, in a sentence, what takes long or much memory."""


def adapt(asked: Adaptation, watch: Watch = Watch()) -> EditManifest:
    """Edit a checkpoint as a method edits it after a stage, and write what a run would score.

    What is not finished lies beside its folder, and the same call goes on from there.

    Args:
        asked: what to edit.
        watch: is told how it goes.

    Returns:
        The record, as it lies in the edited checkpoint's folder.

    Raises:
        UserError: bad input; what is finished is kept.
    """
    began = time.perf_counter()
    if processes() > 1:
        raise UserError(
            f"{processes()} processes were launched, and an edit is made by one: start it without a launcher."
        )
    if (done := _put_in_place(asked)) is not None:
        return done
    asked.check()
    return_tensors()
    device = choose_device(asked.device)
    limit_threads(device, asked.recipe.cpu_threads)
    shortage = explained_shortage("the edit", "nvidia-smi shows who else is on it; --device cpu needs none")
    with products.chosen(asked.recipe.numerics, device), shortage:
        opened = open_all(asked, device)
        if doubt := _doubt(asked, opened):
            watch.say(doubt)
        work = RunFolder(asked.work)
        with refusals_told(asked.work), work.locked():
            record = _record(asked, opened)
            work.claim(record)
            _check_space(asked, opened.like)
            stage = _Stage(asked, opened, watch)
            layers, norm = stage.take()
            found = {"layers": layers, "norm": norm, "seconds": time.perf_counter() - began}
            record = record.model_copy(update={**found, "peak_memory_bytes": _peak_memory(device)})
            record.write(asked.work / WEIGHTS / RECORD)
            move_whole(asked.work / WEIGHTS, asked.out)
    shutil.rmtree(asked.work)
    return record


def _put_in_place(asked: Adaptation) -> EditManifest | None:
    """Return the record of an edit that was killed between its last two steps, and take the last one."""
    if not (asked.out / RECORD).exists() or not asked.work.exists() or (asked.work / WEIGHTS).exists():
        return None
    record = EditManifest.read(asked.out / RECORD)
    if (record.method, record.config) != (asked.editor.name, asked.config.model_dump(mode="json")):
        return None
    shutil.rmtree(asked.work)
    return record


def _doubt(asked: Adaptation, opened: Opened) -> str:
    """Return what there is to say of an adapter for another model; those of a sequence may name theta_0."""
    if not asked.has_adapter:
        return ""
    bases = asked.before, asked.start, *(opened.folders.get(part) for part in ("before", "start"))
    return doubt_of_base(opened.folders["after"], filter(None, bases))


def _record(asked: Adaptation, opened: Opened) -> EditManifest:
    data = {option: content_hash(found) for option, found in opened.samples.items()}
    if asked.answers is not None:
        data["answers"] = hashlib.sha256(asked.answers.read_bytes()).hexdigest()
    return EditManifest(
        method=asked.editor.name,
        config=asked.config.model_dump(mode="json"),
        models={part: _fingerprint(folder) for part, folder in opened.folders.items()},
        data=data,
        recipe=asked.recipe.model_dump(mode="json"),
        seed=asked.seed,
        stage=asked.stage,
        command=asked.command,
        **dict(environment(opened.device)),
    )


def _fingerprint(folder: Path) -> str:
    """Return a SHA-256 over names, sizes and times of safetensors: to read them takes as long as the edit."""
    states = [(file.name, file.stat()) for file in sorted(folder.glob("*.safetensors"))]
    text = "".join(f"{name} {state.st_size} {state.st_mtime_ns}\n" for name, state in states)
    return hashlib.sha256(text.encode()).hexdigest()


def _check_space(asked: Adaptation, like: Checkpoint) -> None:
    states = [file.stat() for file in (asked.work / WEIGHTS).glob("*.safetensors")]
    # A file has its size from the beginning, and its blocks once they are written.
    there = sum(min(state.st_size, 512 * state.st_blocks) for state in states)
    check_space(asked.work, like.file_bytes - there, (), max(like.file_sizes), ("edit", "the edited weights"))


def _peak_memory(device: str) -> int:
    """Return the peak in bytes: on a GPU of what torch holds there, else of the process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    # What getrusage says may be the peak of the process that started this one.
    found = re.search(r"^VmHWM:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE) if STATUS.exists() else None
    return 1024 * (int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


class _Stage:
    """The stage as a method sees it; what its hooks make of it is written as it comes."""

    def __init__(self, asked: Adaptation, opened: Opened, watch: Watch) -> None:
        self._asked = asked
        self._opened = opened
        self._watch = watch
        self._method = asked.editor(asked.config)
        self._writer = self._handed_on = Writer(asked.work / WEIGHTS, opened.like)
        if hands_on_another(asked.editor):
            self._handed_on = Writer(asked.work / HANDED_ON, opened.like)
        writers = {**dict.fromkeys(HOOKS, self._writer), ADAPT: self._handed_on}
        self._journal = Journal(asked.work / "journal.jsonl", writers, opened.decoder.layers)
        self._total = sum(opened.like.form(name).nbytes for name in opened.like)
        if opened.device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats()

    def take(self) -> tuple[list[EditedLayer], float | None]:
        """Write the edited checkpoint, and return what was changed, and how much of all changes is left."""
        asked, opened, journal = self._asked, self._opened, self._journal
        context = self._context()
        self._method.start(replace(context, stage=0, tasks=(), before=opened.start))
        after, single = opened.after, opened.single
        if asked.edits_adapters:
            adapter = self._edited_adapter(context)
            after, single = (Merged(weights, adapter, self._opened.device) for weights in (opened.before, opened.like))
            if not journal.ended(ADAPTER):
                names = [f"{name}.weight" for name in opened.decoder.linear_layers]
                self._write(ADAPTER, ((name, after[name]) for name in names if name in after.adapted), opened.after)
        if not journal.ended(ADAPT):
            kept = _Written(self._handed_on, journal.finished(ADAPT))
            self._write(ADAPT, self._method.adapt(opened.before, after, replace(context, finished=kept)), after)
        handed_on = _Written(self._handed_on, journal.finished(ADAPT))
        if not journal.ended(EVALUATED):
            kept = _Written(self._writer, journal.finished(EVALUATED))
            edits = self._method.evaluated(overlaid(handed_on, after), replace(context, finished=kept))
            self._write(EVALUATED, edits, after)
        if not journal.ended(REST):
            there = journal.finished(*HOOKS)
            if hands_on_another(asked.editor):
                there -= journal.finished(ADAPT) - journal.finished(EVALUATED, REST)
            self._write(REST, unedited(overlaid(handed_on, single), opened.like, there), after)
        self._writer.finish(asked.template_text)
        self._handed_on.close()
        notes = {row["name"]: row for hook in HOOKS[:-1] for row in journal.notes(hook)}
        in_order = [f"{name}.weight" for name in opened.decoder.linear_layers]
        rows = [notes[name] for name in dict.fromkeys([*in_order, *opened.like]) if name in notes]
        moved, trained = (sum(row[key] for row in rows) for key in ("moved", "trained"))
        return [_layer(row) for row in rows], (moved / trained) ** 0.5 if trained else None

    def _write(self, hook: str, edits: Iterable[tuple[str, Tensor]], after: Weights) -> None:
        """Write the edits of a hook that are not on the disk yet."""
        journal, opened = self._journal, self._opened
        notes: dict[str, Mapping[str, Any]] = {}
        done = sum(opened.like.form(name).nbytes for name in journal.finished(hook))

        def new() -> Iterator[tuple[str, Tensor]]:
            finished = journal.finished(hook)
            for name, tensor in each_checked(edits, opened.like, self._method.name, hook):
                if name not in finished:
                    if hook != REST:
                        notes[name] = self._measured(name, tensor, after)
                    yield name, tensor

        def tell(name: str) -> None:
            nonlocal done
            done += opened.like.form(name).nbytes
            self._watch.written(min(done, self._total), self._total, name)

        write_edits(journal.writing(hook, notes, tell), new())
        journal.end(hook)

    def _measured(self, name: str, edited: Tensor, after: Weights) -> Mapping[str, Any]:
        """Return what is noted of a weight; what it is compared with is gone by then."""
        weights = (self._opened.before[name], unrounded(after, name), edited)
        w0, w1, w = (each.to(self._opened.device) for each in weights)
        return measure_edit(w0, w1, w, self._method.keeps_columns)

    def _context(self) -> StageContext:
        asked, opened = self._asked, self._opened
        refused = Refused(asked, opened, self._watch.say)
        return StageContext(
            stage=asked.stage,
            stages=asked.stage,
            tasks=(asked.task or "",),
            seed=asked.seed,
            device=self._opened.device,
            lora=LoRAConfig(),
            model=opened.model,
            decoder=opened.decoder,
            start=opened.start,
            before=opened.before,
            unaligned=opened.unaligned,
            folder=asked.state or asked.work / "method",
            safety_calibration=lambda count=None: batches(refused.samples(count), opened.batch),
            task_calibration=lambda: batches(opened.samples["task"], opened.batch),
            samples=self._no_samples,
            safety_data=list,
            collate=opened.batch,
        )

    def _no_samples(self, task: str) -> Sequence[Sample]:
        raise UserError(f"Method {self._method.name!r} asks for training samples, and an edit has none.")

    def _edited_adapter(self, context: StageContext) -> Path:
        """Return the folder of the adapter as the method leaves it."""
        folder = self._asked.work / "adapter"
        if not folder.exists():
            adapter = StoredAdapter(self._opened.folders["after"])
            self._method.edit_adapter(adapter, context)
            with atomic(folder) as partial:
                partial.mkdir()
                adapter.save(partial)
        return folder


class _Written(Mapping[str, "Tensor"]):
    """Weights as they were written."""

    def __init__(self, writer: Writer, names: Iterable[str]) -> None:
        self._writer = writer
        self._names = dict.fromkeys(names)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._writer.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names


def _layer(row: Mapping[str, Any]) -> EditedLayer:
    norm = (row["moved"] / row["trained"]) ** 0.5 if row["trained"] else None
    return EditedLayer(name=row["name"], norm=norm, **{key: row[key] for key in ("columns", "kept") if key in row})
