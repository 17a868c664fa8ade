"""lm-eval tasks: loaded by name, their rows rendered and checked. What is changed in lm-eval itself is changed here."""

from __future__ import annotations

import copy
import io
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from functools import cache, cached_property, lru_cache
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment
from lm_eval import utils
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager

from hpa_bench.data.forms import form_of
from hpa_bench.data.images import ImageReader, start_no_program
from hpa_bench.data.samples import PLACEHOLDER, Sample
from hpa_bench.data.task_files import check_names, unknown_task
from hpa_bench.data.texts import LONGEST, LONGEST_NAME, check_text, text_of
from hpa_bench.errors import UserError, shown

log = logging.getLogger(__name__)

Split = Literal["training", "validation", "test"]

LABELS = ("category", "cluster")
ABOUT = (*LABELS, "request")
"""Keys of a row that go on to judges and reports."""
GRADED_BY = ("answers", "references", "choices", "answer_bbox", "size")
"""Keys of a row that its score may depend on beside its answer (see `hpa_bench.data.rules`)."""
BESIDE_THE_PROMPT = ("description", "num_fewshot", "gen_prefix")
"""Keys of a task by which lm-eval writes more into a request than doc_to_text returns; no training has that."""


def load_tasks(
    names: Iterable[str],
    include_paths: Iterable[Path],
    split: Split = "test",
    data_root: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Task]:
    """Load lm-eval tasks by name, from the given folders first, then from lm-eval's own.

    Args:
        names: names of tasks that generate.
        include_paths: folders of lm-eval YAMLs.
        split: what evaluation of these tasks will read: "test", or "validation" where a task has it.
        data_root: the folder of the user's downloads, handed to each task's `custom_dataset` as the keyword
            `data_root`; the same as `--metadata '{"data_root": ...}'` of lm-eval's own command line.
        metadata: more keywords for `custom_dataset` (see `hpa_bench.suite.Suite.task_metadata`).

    Returns:
        The tasks by name, in the order given.

    Raises:
        UserError: a name is unknown, or its task cannot be loaded, or does not generate, or its requests are more than
            its doc_to_text.
    """
    names, folders = list(dict.fromkeys(names)), list(include_paths)
    check_names(names, folders)
    loader = TaskLoader(folders, split, dict(metadata or {}) | ({"data_root": data_root} if data_root else {}))
    return {name: loader.load(name) for name in names}


class TaskLoader:
    """Loads lm-eval tasks one by one, reading the index of the folders once (see `load_tasks`)."""

    def __init__(self, include_paths: Iterable[Path], split: Split, metadata: Mapping[str, Any]) -> None:
        _compile_templates_once()
        start_no_program()
        self._folders = list(include_paths)
        self._split: Split = split
        self._metadata: Any = metadata
        self._own = self._manager(include_defaults=False)

    def load(self, name: str) -> Task:
        """Load a task.

        Raises:
            UserError: as of `load_tasks`.
        """
        manager = self._own
        if name not in manager.all_subtasks:
            # Reading the index of lm-eval's own tasks takes many seconds, so only for a name that stands in one.
            check_names([name], self._folders)
            manager = self._all
        if name not in manager.all_subtasks:
            raise unknown_task(name, self._folders)
        with quiet():
            return _load(manager, name, self._split)

    @cached_property
    def _all(self) -> Any:
        return self._manager(include_defaults=True)

    def _manager(self, include_defaults: bool) -> Any:
        with quiet():
            folders: list[str | Path] = [*self._folders]
            return TaskManager(include_path=folders, include_defaults=include_defaults, metadata=self._metadata)


def training_samples(task: Task) -> list[Sample]:
    """Return the rows that a task trains on (see `check_task`)."""
    return check_task(task, "training")


def check_task(task: Task, split: Split) -> list[Sample]:
    """Render and check every row of one split of a task (see `inspect_task`).

    Raises:
        UserError: the first thing that is wrong.
    """
    samples: list[Sample] = []
    for found in inspect_task(task, split):
        if isinstance(found, UserError):
            raise found
        samples.append(found)
    return samples


def inspect_task(task: Task, split: Split) -> Iterator[Sample | UserError]:
    """Render every row of one split of a task and yield its sample, or what is wrong with it.

    Wrong is a broken image (of a large set, beyond what is kept in memory, only one that is missing or no image), no
    answer, an id that an earlier row has, not as many `<image>` as images, or a text that is none, too long, or that
    no file can hold (see `hpa_bench.data.texts`); a split that is missing or empty is one
    error. An answer is asked for in training data and wherever the task's metric needs one: a metric `bypass` needs
    none. Where it does, each row's own answer is scored, so that no row stops a run once it has generated. A row may
    say under `problem` what its reader found wrong with it, in which `file` and `row` it stands, and under `further`
    the later exchanges of its conversation.
    """
    where = f"in the {split} split of task {task.task_name!r}"
    scored = split != "training" and metric_of(task) is not None
    needs_answer = split == "training" or scored
    seen: set[str] = set()
    empty = True
    try:
        docs = _docs(task, split)
        _check_columns(docs, where)
        reader = ImageReader(task, docs)
        for index, doc in _rows(docs, where):
            if empty:  # The first row: what no row can be scored for, such as a missing Java, is `check_scoring`'s.
                scored = scored and _scorable(task)
            empty = False
            try:
                sample = _checked(_render(task, doc, index, where, reader), seen, where, needs_answer)
                if split != "training":
                    sample = replace(sample, graded_by=_graded_by(task, doc, sample.target))
                if scored:
                    _score(task, doc, sample.target, row_name(doc, index, where))
                yield sample
            except UserError as error:
                yield error
    except UserError as error:
        yield error
    else:
        if empty:
            yield UserError(f"There are no rows {where} ({_source(task)}).")


def _checked(sample: Sample, seen: set[str], where: str, needs_answer: bool) -> Sample:
    _check_texts(sample, where)
    if sample.id in seen:
        raise UserError(f"Sample id {sample.id!r} stands twice {where}: ids must be unique, since results join by id.")
    seen.add(sample.id)
    if needs_answer and not all(answer.strip() for _, answer in sample.exchanges):
        raise UserError(f"Sample {sample.id!r} {where} has no answer: doc_to_target gives an empty text.")
    places = sample.prompt.count(PLACEHOLDER)
    if places != len(sample.images):
        raise UserError(
            f"Sample {sample.id!r} {where} has {places} {PLACEHOLDER} in its prompt and {len(sample.images)}"
            " images: doc_to_text must hold one for each image that doc_to_image returns."
        )
    return sample


def _check_texts(sample: Sample, where: str) -> None:
    """Check that a run can keep all texts of a sample; the first that it cannot is named."""
    here = f"sample {shown(sample.id)} {where}"
    texts = [("id", sample.id), ("prompt", sample.prompt), ("answer", sample.target), *sample.about.items()]
    texts += [("conversation", text) for exchange in sample.further for text in exchange]
    for name, text in texts:
        check_text(text, f"The {name} of {here}", LONGEST_NAME if name in ("id", *LABELS) else LONGEST)


def check_scoring(task: Task) -> None:
    """Score an empty response to a task's first row, so that what scoring lacks is found before anything is generated.

    Raises:
        UserError: the task cannot be scored here.
    """
    _score(task, task.eval_docs[0], "", f"task {task.task_name!r} ({_source(task)})")


def _scorable(task: Task) -> bool:
    try:
        check_scoring(task)
    except UserError:
        return False
    return True


def _score(task: Task, doc: Mapping[str, Any], response: str, what: str) -> None:
    try:
        task.process_results(doc, [response])
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{what[0].upper()}{what[1:]} cannot be scored: {_reason(error)}.") from error


def evaluated_samples(task: Task, limit: int | None = None) -> list[Sample]:
    """Render the first rows of what lm-eval evaluates of a task, unchecked (see `check_task`)."""
    docs, where = task.eval_docs, f"of task {task.task_name!r}"
    reader = ImageReader(task, docs)
    return [_render(task, doc, index, where, reader) for index, doc in islice(_rows(docs, where), limit)]


def built_once(task: Task, limit: int | None, chat_template: Callable[..., str], tokenizer_name: str) -> Task:
    """Return a copy of a task whose requests lm-eval builds now, without images, and not anew at every evaluation.

    Args:
        task: the task, which stays as it is.
        limit: only its first so many rows.
        chat_template: an lm-eval model's `apply_chat_template`.
        tokenizer_name: an lm-eval model's name for its tokenizer.
    """
    task = copy.copy(task)
    if task.config.doc_to_image is not None:
        # lm-eval would open the images of all requests at once.
        task.doc_to_image = lambda doc, *_: []  # type: ignore[method-assign]
    with redirect_stderr(io.StringIO()):  # a bar for every task
        task.build_all_requests(
            limit=limit, apply_chat_template=True, chat_template=chat_template, tokenizer_name=tokenizer_name
        )

    def rewind(**_: Any) -> None:
        for instance in task.instances:
            instance.resps, instance.filtered_resps = [], {}

    task.build_all_requests = rewind  # type: ignore[method-assign]
    return task


def sample_id(doc: Mapping[str, Any], index: int) -> str:
    """Return what a row is joined by: its `id`, else its `question_id`, else its place in the split."""
    return str(_given_id(doc, index))


def _given_id(doc: Mapping[str, Any], index: int) -> Any:
    return next((doc[key] for key in ("id", "question_id") if doc.get(key) is not None), index)


def target_text(task: Task, doc: Mapping[str, Any], what: str) -> str:
    """Return the answer of a row as text: the first of several, the chosen one of choices, "" where there is none.

    Raises:
        UserError: it is neither text nor a number; `what` names the row.
    """
    target: Any = task.doc_to_target(doc)
    if isinstance(target, int) and task.config.doc_to_choice is not None:
        target = task.doc_to_choice(doc)[target]  # type: ignore[attr-defined]
    if isinstance(target, Sequence) and not isinstance(target, str):
        target = target[0] if target else None
    # A Jinja template writes a missing value as the word None.
    if target is None or (target == "None" and None in doc.values()):
        return ""
    return text_of(target, f"The answer of {what}")


def metric_of(task: Task) -> str | None:
    """Return the metric that scores a task's samples, its first, or None where that is `bypass` (judged elsewhere)."""
    first = next(iter(task.aggregation()), None)
    return None if first == "bypass" else first


@contextmanager
def quiet() -> Iterator[None]:
    """Keep lm-eval's notices off the screen, but for errors."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _compile_templates_once() -> None:
    """Let lm-eval remember its compiled templates: it compiles one anew for every row, about half a millisecond."""
    if not hasattr(utils.env.from_string, "cache_info"):
        utils.env.from_string = lru_cache(maxsize=1024)(utils.env.from_string)


@cache
def _remark(folder: Path) -> None:
    """Say once, in a run's first process, that the YAMLs of a folder are code, unless it came with a package."""
    if os.environ.get("RANK", "0") == "0" and not any(folder.is_relative_to(own) for own in _installed()):
        log.warning("The tasks in %s are code, which `!function` runs: use folders that you trust.", folder)


@cache
def _installed() -> list[Path]:
    """Return the folders of the tasks that came with this package and with lm-eval."""
    specs = [find_spec(name) for name in ("hpa_bench.tasks", "hpa_bench.safety_sets", "lm_eval")]
    return [Path(place).resolve() for spec in specs if spec for place in spec.submodule_search_locations or ()]


def _load(manager: Any, name: str, split: Split) -> Task:
    source = manager.task_index[name].yaml_path
    _remark(Path(source).resolve().parent)
    try:
        task: Task = manager.load([name])["tasks"][name]
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"Task {name!r} ({source}) cannot be loaded: {type(error).__name__}: {error}.") from error
    if task.OUTPUT_TYPE != "generate_until":
        raise UserError(f"Task {name!r} ({source}) has output_type {task.OUTPUT_TYPE}: expected generate_until.")
    if beside := next((key for key in BESIDE_THE_PROMPT if getattr(task.config, key, None)), None):
        raise UserError(
            f"Task {name!r} ({source}) sets {beside}, which its test rows would have and its training rows not: put the"
            f" text into doc_to_text, and leave {beside} out."
        )
    try:
        form_of(task.config.metadata)
    except UserError as error:
        raise UserError(f"Task {name!r} ({source}): {error}") from None
    if split == "validation" and task.has_validation_docs():
        # Without a test split lm-eval evaluates the validation split.
        task.set_config("test_split", None)
    return task


def _docs(task: Task, split: Split) -> Any:
    """Return the rows of a split."""
    try:
        if split == "training" and task.has_training_docs():
            return task.training_docs()
        if split == "validation" and task.has_validation_docs():
            return task.validation_docs()
        if split == "test" and (task.has_test_docs() or task.has_validation_docs()):
            return task.eval_docs
    except KeyError as error:
        raise UserError(
            f"The {split} split that {_source(task)} names for task {task.task_name!r} is not in its data set: {error}."
        ) from error
    raise UserError(f"Task {task.task_name!r} ({_source(task)}) has no {split} split: set `{split}_split` in its YAML.")


def _check_columns(docs: Any, where: str) -> None:
    """Refuse a column that `datasets` has made JSON of.

    Where a file has values of several types in a column that is text in the file before it, all of them become JSON,
    so that the answer red is the answer "red", quotes included.

    Raises:
        UserError: there is such a column.
    """
    for name, feature in (getattr(docs, "features", None) or {}).items():
        if getattr(feature, "dtype", None) == "string" and _is_json_of_several_types(docs[name]):
            raise UserError(f"The column {name!r} {where} has values of several types: expected a text in every row.")


def _is_json_of_several_types(values: Iterable[str | None]) -> bool:
    kinds = set()
    for value in values:
        if value is not None:
            try:
                kinds.add(type(json.loads(value)))
            except (ValueError, RecursionError):
                return False
    return str in kinds and len(kinds) > 1


def _rows(docs: Iterable[Mapping[str, Any]], where: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the rows of a split with their places."""
    rows = iter(docs)
    index = 0
    while True:
        try:
            doc = next(rows)
        except StopIteration:
            return
        # Data sets decode their image columns as a row is read.
        except Exception as error:
            raise UserError(f"Row {index} {where} cannot be read: {_reason(error)}.") from error
        yield index, doc
        index += 1


def row_name(doc: Mapping[str, Any], index: int, where: str) -> str:
    """Return a row as errors name it, with its file and its place there where it knows them."""
    place = f" ({doc['file']}:{doc['row']})" if isinstance(doc.get("file"), str) and "row" in doc else ""
    return f"sample {shown(sample_id(doc, index))} {where}{place}"


def _render(task: Task, doc: Mapping[str, Any], index: int, where: str, reader: ImageReader) -> Sample:
    what = row_name(doc, index, where)
    if doc.get("problem"):
        raise UserError(f"{what[0].upper()}{what[1:]}: {str(doc['problem'])[:LONGEST_NAME]}.")
    images = reader.images(doc, index, what)
    try:
        name = text_of(_given_id(doc, index), f"The id of {what}")
        prompt = _prompt(task, doc, f"The prompt of {what}")
        target = target_text(task, doc, what)
        further = [(str(question), str(answer)) for question, answer in doc.get("further") or ()]
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{what[0].upper()}{what[1:]} cannot be rendered by doc_to_text and doc_to_target: {_reason(error)}."
        ) from error
    about = {key: text_of(doc[key], f"The {key} of {what}") for key in ABOUT if doc.get(key) is not None}
    return Sample(name, task.task_name, prompt, target, images, further, about)


def _graded_by(task: Task, doc: Mapping[str, Any], target: str) -> str:
    """Return what decides the score of a row beside its first answer, as JSON; "" where nothing does."""
    answers = task.doc_to_target(doc)
    values = {"doc_to_target": answers if isinstance(answers, list) else None} | {
        key: doc.get(key) for key in GRADED_BY
    }
    found = {key: value for key, value in values.items() if value not in (None, [], target, [target])}
    return json.dumps(found, sort_keys=True, default=lambda value: type(value).__name__) if found else ""


def _prompt(task: Task, doc: Mapping[str, Any], what: str) -> str:
    """Return the prompt of a row, into which no null is written as the word None."""
    prompt, template = task.doc_to_text(doc), task.config.doc_to_text
    if isinstance(prompt, str) and "None" in prompt and isinstance(template, str) and None in doc.values():
        try:
            _strict(template).render(**doc)
        except _Null:
            nulls = ", ".join(key for key, value in doc.items() if value is None)
            raise UserError(f"{what} is made of a null (of {nulls}): expected a text.") from None
    return text_of(prompt, what)


class _Null(Exception):
    """A template writes a null."""


def _refuse_null(value: Any) -> Any:
    if value is None:
        raise _Null
    return value


@cache
def _strict(template: str) -> Any:
    """Return a template of lm-eval that raises `_Null` where it would write None."""
    return Environment.from_string(utils.env.overlay(finalize=_refuse_null), template)


def _source(task: Task) -> str:
    metadata = task.config.metadata
    return str(metadata.get("config_source", "inline")) if isinstance(metadata, dict) else "inline"


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).rstrip('.')}"
