"""A method's edit on any two checkpoints, block by block: what a run does between a merge and the next stage.

The method sees the stage that a run would show it. What differs is where its weights come from: of the model there is a
skeleton, and of each checkpoint the block at work.
"""

from __future__ import annotations

import gc
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

from hpa_bench.adaptation import OPTIONS, ROWS, Adaptation, rows_file
from hpa_bench.data.samples import content_hash
from hpa_bench.data.tasks import load_tasks, training_samples
from hpa_bench.engines.base import Request
from hpa_bench.engines.hf import HFEngine
from hpa_bench.errors import UserError
from hpa_bench.files import atomic, read_jsonl
from hpa_bench.machine import products
from hpa_bench.machine.device import choose_device, explained_shortage
from hpa_bench.machine.disk import check_space, refusals_told
from hpa_bench.machine.memory import return_tensors
from hpa_bench.machine.processes import processes
from hpa_bench.method import StageContext
from hpa_bench.models.adapters import StoredAdapter
from hpa_bench.models.ahead import ReadAhead, Sound
from hpa_bench.models.config import LoRAConfig
from hpa_bench.models.decoder import Decoder, find_decoder
from hpa_bench.models.loading import checkpoint_folder
from hpa_bench.models.matching import NotGiven, check_adapter, check_complete, check_same
from hpa_bench.models.prompts import Batch, check_template, render_prompt, tokenizer_of, training_batch
from hpa_bench.models.skeleton import load_skeleton, processor_of
from hpa_bench.models.weights import Checkpoint, Merged, Weights, Writer, overlaid, unrounded
from hpa_bench.results.manifest import EditedLayer, EditManifest
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.runner.context import batches
from hpa_bench.runner.edits import each_checked, unedited, write_edits
from hpa_bench.runner.environment import environment
from hpa_bench.runner.evaluation import DEFAULT_MAX_NEW_TOKENS
from hpa_bench.runner.inputs import safety_calibration, shuffled, task_calibration
from hpa_bench.runner.journal import ADAPT, ADAPTER, EVALUATED, HOOKS, REST, Journal
from hpa_bench.runner.kept import CALIBRATION
from hpa_bench.runner.setup import limit_threads, load_base
from hpa_bench.runner.update import measure_edit
from hpa_bench.suite import DecoderConfig

if TYPE_CHECKING:
    from torch import Tensor

    from hpa_bench.data.samples import Sample

RECORD = "adapt.json"
"""Beside the edited checkpoint's weights: what it was made from, and what the edit did."""
WEIGHTS = "weights"
"""The checkpoint that is being written, in the folder of what is not finished."""
STATUS = Path("/proc/self/status")
Samples = Mapping[str, Sequence["Sample"]]
"""Calibration sources by the option that gives them."""


@dataclass(frozen=True)
class Watch:
    """Who is told how an edit goes."""

    written: Callable[[int, int, str], None] = lambda done, total, name: None
    """Is told, after every weight, the bytes that are written, those of the whole checkpoint, and the weight."""
    say: Callable[[str], None] = print
    """Is told, in a sentence, what takes long or much memory."""


@dataclass(frozen=True)
class _Inputs:
    """The checkpoints that an edit reads, opened and of one model."""

    model: Any
    """Without weights."""
    processor: Any
    """None where nothing is calibrated."""
    decoder: Decoder
    like: Checkpoint
    """The checkpoint before, whose layout is followed."""
    before: ReadAhead
    after: Weights
    single: Weights
    """What `after` is, for whoever wants a few weights of many blocks."""
    start: Weights
    unaligned: Weights | None
    folders: Mapping[str, Path]
    """By part: before, after, start, unaligned."""


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
        inputs = _opened(asked, device)
        samples = _sources(asked)
        _check_samples(inputs, samples)
        work = RunFolder(asked.work)
        with refusals_told(asked.work), work.locked():
            record = _record(asked, inputs, samples, device)
            work.claim(record)
            _check_space(asked, inputs.like)
            stage = _Stage(asked, inputs, samples, device, watch)
            layers, norm = stage.take()
            found = {"layers": layers, "norm": norm, "seconds": time.perf_counter() - began}
            record = record.model_copy(update={**found, "peak_memory_bytes": _peak_memory(device)})
            record.write(asked.work / WEIGHTS / RECORD)
            (asked.work / WEIGHTS).replace(asked.out)
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


def _opened(asked: Adaptation, device: str) -> _Inputs:
    """Open all checkpoints, and see that they are of one model."""
    recipe = asked.recipe
    folders = {"before": checkpoint_folder(asked.before)}
    model = load_skeleton(folders["before"], device, recipe.precision(device))
    where = recipe.decoder or DecoderConfig()
    decoder = find_decoder(model, where.blocks, where.layers)
    like = Checkpoint(folders["before"], model)
    check_complete(like, model)
    before = ReadAhead(Sound(like, "--before"), decoder)

    def opened(part: str, named: str, whole: bool = True) -> Sound:
        folders[part] = checkpoint_folder(named)
        checkpoint = Checkpoint(folders[part], model)
        check_same(checkpoint, like, model, f"--{part}", whole)
        return Sound(checkpoint, f"--{part}")

    after: Weights
    single: Weights
    if asked.has_adapter:
        folders["after"] = Path(asked.after).expanduser()
        check_adapter(folders["after"], like)
        after, single = (Merged(weights, folders["after"], device) for weights in (before, Sound(like, "--before")))
    else:
        single = opened("after", asked.after)
        after = ReadAhead(single, decoder)
    start: Weights = NotGiven(asked.editor.name, "theta_0, the aligned model", "--start DIR")
    if asked.start is not None:
        start = ReadAhead(opened("start", asked.start), decoder)
    elif asked.stage == 1:
        start = before
    unaligned = None
    if asked.unaligned is not None:
        unaligned = ReadAhead(opened("unaligned", asked.unaligned, whole=False), decoder)
    calibrates = {"safety_calibration", "task_calibration"} & asked.needs
    processor = processor_of(folders["before"], asked.template) if calibrates else None
    return _Inputs(model, processor, decoder, like, before, after, single, start, unaligned, folders)


def _sources(asked: Adaptation) -> dict[str, list[Sample]]:
    """Read the calibration sources that the method needs; of the task, only the samples that are calibrated on."""
    found: dict[str, list[Sample]] = {}
    for need, (option, _, _) in OPTIONS.items():
        if need in asked.needs and need != "unaligned_model":
            source = getattr(asked, option)
            file = rows_file(source)
            name, metadata = (source, {}) if file is None else (ROWS, {"rows_file": str(file)})
            task = load_tasks([name], asked.task_folders(), data_root=asked.data_root, metadata=metadata)[name]
            rows = training_samples(task)
            if need == "safety_calibration":
                found[option] = shuffled(rows, asked.seed, name)
            else:
                found[option] = task_calibration(rows, asked.recipe.task_samples, asked.seed, asked.stage)
    return found


def _check_samples(inputs: _Inputs, samples: Samples) -> None:
    """Refuse samples that the model would not see as it is asked in use."""
    for option, found in samples.items():
        sees = tokenizer_of(inputs.processor) is not inputs.processor
        if sees and not any(sample.images for sample in found):
            raise UserError(
                f"None of the {len(found)} samples of --{option} has an image, and {type(inputs.model).__name__} sees"
                " images: expected rows with an `image`, like those that it is asked about."
            )
        check_template(inputs.processor, found)


def _record(asked: Adaptation, inputs: _Inputs, samples: Samples, device: str) -> EditManifest:
    data = {option: content_hash(found) for option, found in samples.items()}
    if asked.answers is not None:
        data["answers"] = hashlib.sha256(asked.answers.read_bytes()).hexdigest()
    return EditManifest(
        method=asked.editor.name,
        config=asked.config.model_dump(mode="json"),
        models={part: _fingerprint(folder) for part, folder in inputs.folders.items()},
        data=data,
        recipe=asked.recipe.model_dump(mode="json"),
        seed=asked.seed,
        stage=asked.stage,
        command=asked.command,
        **dict(environment(device)),
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

    def __init__(self, asked: Adaptation, inputs: _Inputs, samples: Samples, device: str, watch: Watch) -> None:
        self._asked = asked
        self._inputs = inputs
        self._samples = samples
        self._device = device
        self._watch = watch
        self._method = asked.editor(asked.config)
        writer = Writer(asked.work / WEIGHTS, inputs.like)
        self._journal = Journal(asked.work / "journal.jsonl", writer, inputs.decoder.layers)
        self._total = sum(inputs.like.form(name).nbytes for name in inputs.like)
        if device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats()

    def take(self) -> tuple[list[EditedLayer], float | None]:
        """Write the edited checkpoint, and return what was changed, and how much of all changes is left."""
        asked, inputs, journal = self._asked, self._inputs, self._journal
        context = self._context()
        after, single = inputs.after, inputs.single
        if asked.edits_adapters:
            adapter = self._edited_adapter(context)
            after, single = (Merged(weights, adapter, self._device) for weights in (inputs.before, inputs.like))
            if not journal.ended(ADAPTER):
                names = [f"{name}.weight" for name in inputs.decoder.linear_layers]
                self._write(ADAPTER, ((name, after[name]) for name in names if name in after.adapted), inputs.after)
        if not journal.ended(ADAPT):
            kept = _Written(journal.writer, journal.finished(ADAPT))
            self._write(ADAPT, self._method.adapt(inputs.before, after, replace(context, finished=kept)), after)
        if not journal.ended(EVALUATED):
            kept = _Written(journal.writer, journal.finished(EVALUATED))
            handed_on = overlaid(_Written(journal.writer, journal.finished(ADAPT)), after)
            self._write(EVALUATED, self._method.evaluated(handed_on, replace(context, finished=kept)), after)
        if not journal.ended(REST):
            self._write(REST, unedited(single, inputs.like, journal.finished(*HOOKS)), after)
        journal.writer.finish(asked.template_text)
        notes = {row["name"]: row for hook in HOOKS[:-1] for row in journal.notes(hook)}
        in_order = [f"{name}.weight" for name in inputs.decoder.linear_layers]
        rows = [notes[name] for name in dict.fromkeys([*in_order, *inputs.like]) if name in notes]
        moved, trained = (sum(row[key] for row in rows) for key in ("moved", "trained"))
        return [_layer(row) for row in rows], (moved / trained) ** 0.5 if trained else None

    def _write(self, hook: str, edits: Iterable[tuple[str, Tensor]], after: Weights) -> None:
        """Write the edits of a hook that are not on the disk yet."""
        journal, inputs = self._journal, self._inputs
        notes: dict[str, Mapping[str, Any]] = {}
        done = sum(inputs.like.form(name).nbytes for name in journal.finished(hook))

        def new() -> Iterator[tuple[str, Tensor]]:
            finished = journal.finished(hook)
            for name, tensor in each_checked(edits, inputs.like, self._method.name, hook):
                if name not in finished:
                    if hook != REST:
                        columns = self._method.keeps_columns
                        w0, w1 = inputs.before[name], unrounded(after, name)
                        w0, w1, w = (each.to(self._device) for each in (w0, w1, tensor))
                        notes[name] = measure_edit(w0, w1, w, columns)
                    yield name, tensor

        def tell(name: str) -> None:
            nonlocal done
            done += inputs.like.form(name).nbytes
            self._watch.written(min(done, self._total), self._total, name)

        write_edits(journal.writing(hook, notes, tell), new())
        journal.end(hook)

    def _context(self) -> StageContext:
        asked, inputs = self._asked, self._inputs
        return StageContext(
            stage=asked.stage,
            stages=asked.stage,
            tasks=(asked.task or "",),
            seed=asked.seed,
            device=self._device,
            lora=LoRAConfig(),
            model=inputs.model,
            decoder=inputs.decoder,
            start=inputs.start,
            before=inputs.before,
            unaligned=inputs.unaligned,
            folder=asked.state or asked.work / "method",
            safety_calibration=self._safety_batches,
            task_calibration=lambda: batches(self._samples["task"], self._batch),
            samples=self._no_samples,
            safety_data=list,
            collate=self._batch,
        )

    def _batch(self, samples: Sequence[Sample]) -> Batch:
        inputs = training_batch(self._inputs.processor, samples)
        return {name: tensor.to(self._device) for name, tensor in inputs.items()}

    def _no_samples(self, task: str) -> Sequence[Sample]:
        raise UserError(f"Method {self._method.name!r} asks for training samples, and an edit has none.")

    def _safety_batches(self, count: int | None = None) -> list[Batch]:
        wanted = self._asked.recipe.safety_samples if count is None else count
        path = self._asked.work / (CALIBRATION if count is None else f"{CALIBRATION}-{count}") / "safety.jsonl"
        answer = self._given_answers if self._asked.answers is not None else self._own_answers
        found = safety_calibration(path, self._samples["safety"], wanted, answer)
        if len(found) < wanted:
            self._watch.say(
                f"{self._method.name} is calibrated on {len(found)} safety samples instead of {wanted}: the aligned"
                f" model refuses no more of the {len(self._samples['safety'])} requests of --safety."
            )
        return batches(found, self._batch)

    def _given_answers(self, samples: Sequence[Sample]) -> list[str]:
        """Return what the file of answers has; a request that is not in it counts as not refused."""
        assert self._asked.answers is not None
        remedy = 'expected one {"id", "response"} a line'
        given = {row["id"]: row["response"] for row in read_jsonl(self._asked.answers, ("id", "response"), remedy)}
        if not any(sample.id in given for sample in self._samples["safety"]):
            raise UserError(f"--answers {self._asked.answers} answers none of the requests of --safety by its id.")
        return [given.get(sample.id, "") for sample in samples]

    def _own_answers(self, samples: Sequence[Sample]) -> list[str]:
        """Let the aligned model answer, which is loaded whole for as long."""
        asked, recipe = self._asked, self._asked.recipe
        model, dtype = asked.start or asked.before, recipe.precision(self._device)
        size = sum(tensor.numel() for tensor in self._inputs.model.parameters()) * getattr(torch, dtype).itemsize
        self._watch.say(
            f"The aligned model, {size / 1e9:.1f} GB in {dtype}, is loaded once to answer up to {len(samples)} requests"
            " of --safety; --answers FILE spares it."
        )
        base = load_base(model, self._device, dtype, asked.template, recipe.decoder)
        engine = HFEngine(base.model, base.processor, batch_size=recipe.batch_size)
        requests = [
            Request(render_prompt(base.processor, sample.prompt), sample.images, DEFAULT_MAX_NEW_TOKENS)
            for sample in samples
        ]
        answers = engine.generate(requests)
        del base, engine
        gc.collect()
        return answers

    def _edited_adapter(self, context: StageContext) -> Path:
        """Return the folder of the adapter as the method leaves it."""
        folder = self._asked.work / "adapter"
        if not folder.exists():
            adapter = StoredAdapter(self._inputs.folders["after"])
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
