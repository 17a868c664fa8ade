"""The aligned model's answers to the harmful requests that an edit is calibrated on: given, or its own."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from hpa_bench.adaptation import Adaptation
from hpa_bench.engines.base import Request
from hpa_bench.engines.hf import HFEngine
from hpa_bench.errors import UserError
from hpa_bench.files import read_jsonl
from hpa_bench.models.prompts import render_prompt
from hpa_bench.runner.evaluation import DEFAULT_MAX_NEW_TOKENS
from hpa_bench.runner.inputs import safety_calibration
from hpa_bench.runner.kept import CALIBRATION
from hpa_bench.runner.opened import Opened
from hpa_bench.runner.setup import load_base

if TYPE_CHECKING:
    from hpa_bench.data.samples import Sample


class Refused:
    """Gives the safety calibration samples D_s of an edit, and keeps them beside what is not finished."""

    def __init__(self, asked: Adaptation, opened: Opened, say: Callable[[str], None]) -> None:
        """Ask nothing yet.

        Args:
            asked: what is to be edited.
            opened: what it reads.
            say: is told, in a sentence, what takes long or much memory, and where there are fewer than was asked for.
        """
        self._asked = asked
        self._opened = opened
        self._source = opened.samples.get("safety", ())
        self._say = say

    def samples(self, count: int | None = None) -> list[Sample]:
        """Return requests with the refusals of the aligned model.

        Args:
            count: how many, or fewer where it refuses fewer; by default as many as the recipe says.

        Raises:
            UserError: it refuses none, or the file of answers answers none.
        """
        wanted = self._asked.recipe.safety_samples if count is None else count
        path = self._asked.work / (CALIBRATION if count is None else f"{CALIBRATION}-{count}") / "safety.jsonl"
        answer = self._given if self._asked.answers is not None else self._own
        found = safety_calibration(path, self._source, wanted, answer)
        if len(found) < wanted:
            self._say(
                f"{self._asked.editor.name} is calibrated on {len(found)} safety samples instead of {wanted}: the"
                f" aligned model refuses no more of the {len(self._source)} requests of --safety."
            )
        return found

    def _given(self, samples: Sequence[Sample]) -> list[str]:
        """Return what the file of answers has; a request that is not in it counts as not refused."""
        assert self._asked.answers is not None
        remedy = 'expected one {"id", "response"} a line'
        given = {row["id"]: row["response"] for row in read_jsonl(self._asked.answers, ("id", "response"), remedy)}
        if not any(sample.id in given for sample in self._source):
            raise UserError(f"--answers {self._asked.answers} answers none of the requests of --safety by its id.")
        return [given.get(sample.id, "") for sample in samples]

    def _own(self, samples: Sequence[Sample]) -> list[str]:
        """Let the aligned model answer, which is loaded whole for as long."""
        asked, recipe = self._asked, self._asked.recipe
        model, dtype = asked.start or asked.before, recipe.precision(self._opened.device)
        size = sum(tensor.numel() for tensor in self._opened.model.parameters()) * getattr(torch, dtype).itemsize
        self._say(
            f"The aligned model, {size / 1e9:.1f} GB in {dtype}, is loaded once to answer up to {len(samples)} requests"
            " of --safety; --answers FILE spares it."
        )
        base = load_base(model, self._opened.device, dtype, asked.template, recipe.decoder)
        engine = HFEngine(base.model, base.processor, batch_size=recipe.batch_size)
        requests = [
            Request(render_prompt(base.processor, sample.prompt), sample.images, DEFAULT_MAX_NEW_TOKENS)
            for sample in samples
        ]
        answers = engine.generate(requests)
        del base, engine
        gc.collect()
        return answers
