"""Work that is the same for several runs below one root: one of them does it, the others take what came of it.

That is stage 0, whose responses and verdicts are the aligned model's own, and the training of the first task by every
method that trains as sequential tuning does. It is kept in the root's `.once` by the content of all that decides it, so
that what is taken is what would have been made, byte for byte; a run with a folder of its own choice shares nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from hpa_bench.data.samples import content_hash
from hpa_bench.engines.base import engines
from hpa_bench.errors import UserError
from hpa_bench.files import atomic, read_jsonl, read_object, remove, write_json, write_jsonl
from hpa_bench.machine.group import from_main
from hpa_bench.machine.lease import InUse, Lease, Watch
from hpa_bench.machine.processes import is_main, processes
from hpa_bench.machine.versions import versions
from hpa_bench.method import Method
from hpa_bench.models.config import read_chat_template
from hpa_bench.results.manifest import NO_PART_OF_TRAINING
from hpa_bench.results.run_folder import Judged, RunFolder
from hpa_bench.results.seals import check_folder, seal
from hpa_bench.runner.environment import code_digest, files_digest, hardware, numerics
from hpa_bench.runner.events import Events, Reused
from hpa_bench.spec import engine_config

if TYPE_CHECKING:
    from torch import nn

    from hpa_bench.data.samples import Sample
    from hpa_bench.judges.base import Judge
    from hpa_bench.method import StageContext
    from hpa_bench.runner.evaluation import Response
    from hpa_bench.runner.record import Costs
    from hpa_bench.runner.setup import Setup
    from hpa_bench.runner.training import Done

log = logging.getLogger(__name__)

ONCE = ".once"
"""Below a root of runs: what they share. It may be removed while no run is on its way."""
ABOUT, FACTS, VALUES = "about.json", "facts.json", "trained.safetensors"
LOOK_SECONDS = 0.5
"""How long to wait between two looks at what another run makes."""
_TRAINING = ("wrap", "penalty", "token_penalty")
"""The hooks that decide a training, beside `training_data`, whose samples are compared themselves."""


class Kept:
    """What came of one piece of work, whole or not there.

    Args:
        path: its folder.
        about: all that decides it.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path = path
        self._about = about

    @property
    def is_there(self) -> bool:
        """Whether it is there as it was written; what is not is removed, to be made anew."""
        if not self.path.exists():
            return False
        try:
            check_folder(self.path, "it is made anew")
            return True
        except UserError as error:
            log.warning("%s", error)
            remove(self.path)
            return False

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of the work: `seconds` by step, and more."""
        return read_object(self.path / FACTS)

    def keep(self, fill: Callable[[Path], None], **facts: Any) -> None:
        """Write what came of it; a disk that does not take it costs the others time, and this run nothing."""
        try:
            with atomic(self.path) as partial:
                partial.mkdir()
                write_json(partial / ABOUT, self._about)
                write_json(partial / FACTS, facts)
                fill(partial)
                seal(partial)
        except (OSError, SafetensorError) as error:
            log.warning("%s is not kept for other runs: %s", self.path, error)


class Once:
    """What a run shares with the others below its root.

    Args:
        setup: the run.
        events: are told what is taken.
    """

    def __init__(self, setup: Setup, events: Events) -> None:
        self._setup = setup
        self._events = events
        self._root = _root(setup)

    def train(
        self,
        context: StageContext,
        samples: Sequence[Sample],
        wrapped: nn.Module,
        costs: Costs,
        make: Callable[[], Done],
    ) -> int:
        """Train a stage's adapter, or give it the values that another run has trained.

        Args:
            context: of the stage.
            samples: what it trains on.
            wrapped: what the method's `wrap` returned, not trained yet.
            costs: of the stage; the step `train` is being timed.
            make: trains it.

        Returns:
            The number of optimiser steps.
        """
        shared = context.stage == 1 and trains_alike(self._setup.spec.method)
        about = (lambda: _about_training(self._setup, context, samples)) if shared else None
        with self._turn("training", about, costs) as kept:
            if not from_main(kept is not None and kept.is_there):
                began = time.perf_counter()
                steps, earlier = make()
                costs.add(seconds={"train": earlier})
                if kept is not None:
                    found = {name: p.detach().cpu().contiguous() for name, p in _trained(wrapped)}
                    spent = {"train": earlier + time.perf_counter() - began}
                    kept.keep(
                        lambda folder: save_file(found, folder / VALUES),
                        seconds=spent,
                        steps=steps,
                        peak_memory_bytes=costs.peak_memory(),
                    )
                return steps
            steps = 0
            if kept is not None:
                values = load_file(kept.path / VALUES)
                with torch.no_grad():
                    for name, parameter in _trained(wrapped):
                        parameter.copy_(values[name])
                wrapped.train()  # As Trainer leaves it.
                steps = int(kept.facts["steps"])
                self._take(context.stage, "training", kept, costs)
            return from_main(steps)

    def answers(
        self, context: StageContext, costs: Costs, make: Callable[[], dict[str, list[Response]]]
    ) -> dict[str, list[Response]]:
        """Return a stage's responses by set, generated here or, of stage 0, by another run.

        Args:
            context: of the stage.
            costs: of the stage.
            make: generates them.
        """
        shared = context.stage == 0 and not any(
            True for _ in self._setup.new_method().evaluated(self._setup.base.start, context)
        )
        with self._turn("responses", partial(_about_answers, self._setup) if shared else None, costs) as kept:
            if not from_main(kept is not None and kept.is_there):
                before = costs.seconds
                answered = make()
                if kept is not None:
                    spent = {step: seconds - before.get(step, 0.0) for step, seconds in costs.seconds.items()}
                    kept.keep(
                        lambda folder: _write(folder, answered),
                        seconds={step: seconds for step, seconds in spent.items() if seconds},
                        corpus=self._setup.evaluator.corpus,
                        peak_memory_bytes=costs.peak_memory(),
                    )
                return answered
            if kept is None:
                return {}
            self._setup.evaluator.corpus = kept.facts["corpus"]
            self._take(context.stage, "responses", kept, costs)
            names = list(self._setup.data.samples)
            return {name: cast("list[Response]", read_jsonl(kept.path / f"{name}.jsonl")) for name in names}

    @contextmanager
    def judged(self, stage: int, judges: Sequence[Judge], costs: Costs) -> Iterator[None]:
        """Lay another run's verdicts on stage 0 out before it is judged, or keep those that come of it.

        Args:
            stage: the stage; none but stage 0 is shared.
            judges: who judges.
            costs: of the stage; the step `score` is being timed.
        """
        run = self._setup.run
        sets = self._setup.spec.suite.judged_sets
        pairs = [(judge.label, name) for judge in judges for name in sets]
        with self._turn(
            "verdicts", partial(_about_verdicts, self._setup) if stage == 0 and pairs else None, costs
        ) as kept:
            there = kept is not None and kept.is_there
            if kept is not None and there:
                _copy_verdicts(kept.path, run, pairs)
                self._take(stage, "verdicts", kept, costs)
            began = time.perf_counter()
            yield
            if kept is not None and not there and all(run.stage(0).is_judged(*pair) for pair in pairs):
                spent = {"score": time.perf_counter() - began}
                kept.keep(lambda folder: _keep_verdicts(run, folder, pairs), seconds=spent)

    @contextmanager
    def _turn(self, kind: str, about: Callable[[], Mapping[str, Any]] | None, costs: Costs) -> Iterator[Kept | None]:
        """Yield what is there, or is this run's to make, once nobody else is making it; None where nothing is shared.

        In a run of several processes the first has it, and waits for nobody while the others wait for it.
        """
        if self._root is None or about is None or not is_main():
            yield None
            return
        decided = json.loads(json.dumps(about()))
        digest = hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()
        kept = Kept(self._root / ONCE / kind / digest[:16], decided)
        lease = Lease(kept.path.with_name(f"{kept.path.name}.lease"))
        mine = False
        with costs.waiting():
            watch = Watch(lease.name)
            while not kept.is_there:
                try:
                    lease.take(watch)
                    mine = True
                except InUse:
                    if processes() == 1:
                        time.sleep(LOOK_SECONDS)
                        continue
                except OSError as error:
                    log.warning("%s cannot be shared: %s", kept.path, error)
                break
        try:
            yield kept if mine or kept.is_there else None
        finally:
            lease.release()

    def _take(self, stage: int, what: Literal["training", "responses", "verdicts"], kept: Kept, costs: Costs) -> None:
        """Note what was taken, with what it has cost the run that made it."""
        facts = kept.facts
        costs.borrow(facts["seconds"], int(facts.get("peak_memory_bytes", 0)))
        self._events.emit(Reused(stage=stage, what=what, seconds=sum(facts["seconds"].values())))


def _about(setup: Setup) -> dict[str, Any]:
    """Return what decides anything that is computed here with the aligned model."""
    suite, device = setup.spec.suite, setup.device
    template = suite.chat_template_path()
    return {
        "code": code_digest(),
        "versions": versions(),
        "hardware": hardware(device).said(),
        "numerics": numerics(device).said(),
        "model": setup.run.manifest.model_digest,
        "template": template and hashlib.sha256(read_chat_template(template).encode()).hexdigest(),
        "dtype": suite.training.precision(device),
        "decoder": setup.base.decoder.linear_layers,
        "image_features": suite.image_features.keep,
    }


def _about_answers(setup: Setup) -> dict[str, Any]:
    suite = setup.spec.suite
    told = {name: [dict(sample.about) for sample in samples] for name, samples in setup.data.samples.items()}
    return _about(setup) | {
        "versions": versions(engines.get(setup.engine_name).packages),
        "engine": [setup.engine_name, engine_config(suite, setup.engine_name).model_dump(mode="json")],
        "evaluation": [suite.evaluation.batch_size, suite.evaluation.limit, suite.evaluation.split],
        # In their order, by which requests come together in batches.
        "sets": [[name, setup.data.hashes[name]] for name in setup.data.samples],
        "told": hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest(),
        "tasks": [files_digest(folder, ("*.yaml", "*.py")) for folder in suite.task_folders()],
        "rules": suite.rules,
        "plugins": setup.run.manifest.plugins,
    }


def _about_verdicts(setup: Setup) -> dict[str, Any]:
    suite = setup.spec.suite
    return _about_answers(setup) | {"judges": suite.judges, "sets_judged": [suite.safety_sets, suite.benign_sets]}


def _about_training(setup: Setup, context: StageContext, samples: Sequence[Sample]) -> dict[str, Any]:
    suite = setup.spec.suite
    return _about(setup) | {
        "samples": content_hash(samples),
        "training": suite.training.model_dump(mode="json", exclude=NO_PART_OF_TRAINING),
        "lora": suite.lora.model_dump(mode="json"),
        "seed": context.seed,
        "noise": setup.spec.noise,
    }


def _root(setup: Setup) -> Path | None:
    """Return the root of the runs where this one lies in its own place below it."""
    folder = setup.run.path.absolute()
    if len(folder.parents) < 3:
        return None
    root = folder.parents[2]
    return root if setup.spec.default_folder(root) == folder else None


def trains_alike(method: type[Method]) -> bool:
    """Whether a method trains its first task as sequential tuning does, given the same samples."""
    return method.mergeable and all(getattr(method, name) is getattr(Method, name) for name in _TRAINING)


def _trained(wrapped: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, parameter) for name, parameter in wrapped.named_parameters() if parameter.requires_grad)


def _write(folder: Path, answered: Mapping[str, Sequence[Response]]) -> None:
    for name, rows in answered.items():
        write_jsonl(folder / f"{name}.jsonl", cast("Sequence[Mapping[str, Any]]", rows))


def _copy_verdicts(source: Path, run: RunFolder, pairs: Sequence[tuple[str, str]]) -> None:
    _hand_on(Judged(source / "stage"), run.stage(0), pairs)
    _hand_on(Judged(source / "references"), run.references, pairs)


def _keep_verdicts(run: RunFolder, folder: Path, pairs: Sequence[tuple[str, str]]) -> None:
    _hand_on(run.stage(0), Judged(folder / "stage"), pairs)
    _hand_on(run.references, Judged(folder / "references"), pairs)


def _hand_on(source: Judged, target: Judged, pairs: Sequence[tuple[str, str]]) -> None:
    for pair in pairs:
        if source.is_judged(*pair):
            target.write_judgements(*pair, source.judgements(*pair))
