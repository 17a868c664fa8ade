"""From lm-eval tasks to responses and scores: lm-eval drives, our engine generates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import torch
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.evaluator import evaluate
from lm_eval.models.utils import normalize_gen_kwargs

from hpa_bench.data.captions import CORPUS_METRICS
from hpa_bench.data.forms import form_of
from hpa_bench.data.tasks import built_once, evaluated_samples, metric_of, quiet, sample_id
from hpa_bench.engines.base import Engine, Progress, Request
from hpa_bench.errors import UserError
from hpa_bench.models.prompts import render, render_prompt, tokenizer_of

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.task import Task

    from hpa_bench.data.samples import Sample

DEFAULT_MAX_NEW_TOKENS = 256
"""For tasks whose generation_kwargs name none, as in lm-eval."""


class Response(TypedDict):
    """What a model said to one sample, as stored."""

    id: str
    prompt: str
    """The user's turn before any chat template."""
    target: str
    response: str
    score: float | None
    """The task's first metric on this sample, in [0, 1], or higher where captions have CIDEr in it; None where that is
    `bypass`, as safety sets may have it."""
    in_form: NotRequired[bool]
    """Whether it has the form that the task asks for, where its YAML declares one (see `hpa_bench.data.forms`)."""
    category: NotRequired[str]
    request: NotRequired[str]
    """What is asked for in words, where a part of it stands in the image; for judges that see none."""
    cluster: NotRequired[str]
    """What samples that belong together share, such as one question asked with several images."""


class Evaluator:
    """Evaluates the same tasks again and again, with whatever weights an engine holds.

    Args:
        tasks: lm-eval tasks by name (see `hpa_bench.data.tasks.load_tasks`).
        limit: only the first so many samples of each, for smoke runs.
        samples: by task, its evaluated rows, rendered already (see `hpa_bench.data.tasks.check_task`), at least so
            many; by default they are rendered here.
    """

    def __init__(
        self, tasks: Mapping[str, Task], limit: int | None = None, samples: Mapping[str, Sequence[Sample]] | None = None
    ) -> None:
        self.tasks = dict(tasks)
        self.limit = limit
        self._prepared: dict[str, Task] = {}
        self._template = ""
        self._samples = dict(samples or {})
        self.corpus: dict[str, dict[str, float]] = {}
        """After `evaluate`: by task, the figures over the whole set that are no mean of its samples' scores."""

    def evaluate(
        self, engine: Engine, on_progress: Progress | None = None, names: Sequence[str] | None = None
    ) -> dict[str, list[Response]]:
        """Generate and score tasks in one call of lm-eval.

        Args:
            engine: what generates.
            on_progress: called with the number of finished requests and of all.
            names: of the tasks; by default every one.

        Returns:
            By task, one row a sample, in the order of the data set.

        Raises:
            UserError: a metric gives something else than a number in its range.
        """
        model = EngineLM(engine, on_progress=on_progress)
        asked = [name for name in self.tasks if names is None or name in names]
        with quiet():
            if self._template != model.chat_template():
                self._prepared = {name: self._prepare(task, model) for name, task in self.tasks.items()}
                self._template = model.chat_template()
            results = evaluate(
                lm=model,
                task_dict={"tasks": {name: self._prepared[name] for name in asked}},
                limit=self.limit,
                bootstrap_iters=0,
                log_samples=True,
                apply_chat_template=True,
            )
        self.corpus = {name: _corpus_figures(results["results"][name]) for name in asked}
        self.corpus = {name: figures for name, figures in self.corpus.items() if figures}
        return {name: self._responses(name, results["samples"][name]) for name in asked}

    def answer(self, engine: Engine, samples: Sequence[Sample]) -> list[str]:
        """Return the model's own answers to harmful requests, as long as the most talkative judged set allows."""
        judged = [task for task in self.tasks.values() if metric_of(task) is None]
        longest = max(
            (request_limits(task.config.generation_kwargs)[0] for task in judged), default=DEFAULT_MAX_NEW_TOKENS
        )
        return engine.generate(
            [Request(render_prompt(engine.processor, sample.prompt), sample.images, longest) for sample in samples]
        )

    def _prepare(self, task: Task, model: EngineLM) -> Task:
        """Return a copy of a task whose requests are built once for all stages, with the images of its samples."""
        if task.task_name not in self._samples:
            self._samples[task.task_name] = evaluated_samples(task, self.limit)
        samples = self._samples[task.task_name]
        task = built_once(task, self.limit, model.apply_chat_template, model.tokenizer_name)
        for instance in task.instances:
            # One object instead of a list of images: lm-eval would write each as a PNG to log its hash.
            images = samples[instance.doc_id].images
            instance.arguments = (instance.args[0], replace(_request(instance), images=images))
        return task

    def _responses(self, name: str, logged: Sequence[Mapping[str, Any]]) -> list[Response]:
        # A task with several filters logs every sample once for each.
        samples = [sample for sample in logged if sample["filter"] == logged[0]["filter"]]
        rows: list[Response] = []
        form = form_of(self.tasks[name].config.metadata)
        for sample, score in zip(samples, _scores(self.tasks[name], samples), strict=True):
            asked = self._samples[name][sample["doc_id"]]
            row = Response(
                id=asked.id, prompt=asked.prompt, target=asked.target, response=sample["resps"][0][0], score=score
            )
            if form is not None:
                row["in_form"] = form(row["response"].strip(), _references(sample["doc"], asked.target))
            rows.append({**row, **asked.about})  # type: ignore[typeddict-item]
        return rows


@register_model("hpa-bench")
class EngineLM(LM):
    """An engine as lm-eval sees it; by name, `hpa-bench` loads a checkpoint into a Hugging Face engine.

    Args:
        pretrained: an engine, or the checkpoint's folder or hub name.
        batch_size: for a checkpoint, requests generated at a time.
        max_batch_size: ignored; lm-eval hands it to every model.
        device: for a checkpoint, a torch device; lm-eval names a GPU unless told otherwise, and without one it is cpu.
        on_progress: called with the number of finished requests and of all.
    """

    MULTIMODAL = True

    def __init__(
        self,
        pretrained: Engine | str,
        batch_size: int | str = 64,
        max_batch_size: int | None = None,
        device: str = "cpu",
        on_progress: Progress | None = None,
    ) -> None:
        super().__init__()
        if isinstance(pretrained, str):
            from hpa_bench.engines.hf import HFEngine

            device = "cpu" if device.startswith("cuda") and not torch.cuda.is_available() else device
            pretrained = HFEngine.open(pretrained, device=device, dtype="float32", batch_size=int(batch_size))
        self.engine = pretrained
        self._on_progress = on_progress

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Return one response a request, in their order."""
        return self.engine.generate([_request(instance) for instance in requests], self._on_progress)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Return chat turns as the model reads them."""
        return render(self.engine.processor, chat_history, add_generation_prompt=add_generation_prompt)

    @property
    def tokenizer_name(self) -> str:
        """The tokenizer's name, by which lm-eval names caches of requests."""
        return str(tokenizer_of(self.engine.processor).name_or_path)

    def chat_template(self, chat_template: bool | str = False) -> str:
        """Return the chat template, which lm-eval writes into its results."""
        return str(self.engine.processor.chat_template)

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Refuse: engines generate only."""
        raise UserError("hpa-bench generates; tasks that compare likelihoods need another lm-eval model.")

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Refuse: engines generate only."""
        raise UserError("hpa-bench generates; tasks that compare likelihoods need another lm-eval model.")


def _references(doc: Mapping[str, Any], target: str) -> list[str]:
    """Return every answer that a row gives."""
    return [target, *(doc.get("references") or ()), *(doc.get("answers") or ())]


def _corpus_figures(results: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of CORPUS_METRICS from lm-eval's results, which call them `name,filter`."""
    figures = {key.partition(",")[0]: value for key, value in results.items()}
    return {name: float(figures[name]) for name in CORPUS_METRICS if name in figures}


def _request(instance: Instance) -> Request:
    context, generation, *rest = instance.args
    if isinstance(generation, Request):
        return generation
    if generation.get("do_sample"):
        raise UserError(f"Task {instance.task_name!r} asks for sampling: set do_sample: false, generation is greedy.")
    images = rest[0].get("visual") if rest else None
    max_new_tokens, stop = request_limits(generation)
    return Request(context, images or (), max_new_tokens, stop)


def request_limits(generation: Mapping[str, Any] | None) -> tuple[int, tuple[str, ...]]:
    """Return the number of new tokens and the stop strings of generation_kwargs, under any name that lm-eval knows."""
    generation = dict(generation or {})
    until = generation.get("until") or ()
    stop = (until,) if isinstance(until, str) else tuple(until)
    return normalize_gen_kwargs(generation, DEFAULT_MAX_NEW_TOKENS)["max_gen_toks"], stop


def _scores(task: Task, samples: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """Return each sample's score by the task's first metric that it has."""
    first = metric_of(task)
    if first is None:
        return [None] * len(samples)
    metric = next((name for name in task.aggregation() if name in samples[0]), first)
    values: Sequence[Any] = [sample.get(metric) for sample in samples]
    highest = 1.0
    if metric in CORPUS_METRICS:
        values, highest = CORPUS_METRICS[metric].per_sample(values), CORPUS_METRICS[metric].highest
    scores: list[float | None] = []
    for sample, value in zip(samples, values, strict=True):
        # Some tasks hand their aggregation more than a number: on one sample it gives that sample's score.
        score = float(value if isinstance(value, int | float) else task.aggregation()[metric]([value]))
        if not (isfinite(score) and 0 <= score <= highest):
            raise UserError(
                f"Metric {metric!r} of task {task.task_name!r} gives {score} for sample"
                f" {sample_id(sample['doc'], sample['doc_id'])!r}: expected a score from 0 to {highest:g}."
            )
        scores.append(score)
    return scores
