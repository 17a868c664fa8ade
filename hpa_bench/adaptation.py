"""What `hpa-bench adapt` is asked for: a method's edit on two checkpoints, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from hpa_bench.config import MOST, BaseConfig, keys, override, parse, parse_settings, split_settings
from hpa_bench.data.task_files import check_names
from hpa_bench.errors import UserError, unknown
from hpa_bench.files import check_vacant
from hpa_bench.method import Method, MethodConfig, Need, methods
from hpa_bench.models.config import ADAPTER_CONFIG, local_folder, read_chat_template
from hpa_bench.suite import DecoderConfig, TrainingConfig, given_task_folders, package_task_folders

ROWS = "llava_file"
"""The task that reads a LLaVA-format file."""
TRAINING = ("curriculum", "training_data", "wrap", "penalty", "token_penalty")
EDITING = ("adapt", "evaluated", "edit_adapter")
"""Hooks of a method that train, and those that edit."""
OPTIONS: Mapping[Need, tuple[str, str, str]] = {
    "safety_calibration": ("safety", "--safety FILE|TASK", "harmful requests that the aligned model refuses"),
    "task_calibration": ("task", "--task FILE|TASK", "training samples of the new task"),
    "unaligned_model": ("unaligned", "--unaligned DIR", "the model before its safety alignment"),
}
"""By need: the field of an adaptation that meets it, the option, and what it is."""


class Recipe(BaseConfig):
    """What `--set` may say beside the method's own hyper-parameters, by the names that a suite has for it."""

    safety_samples: int = Field(8, ge=1, le=MOST)
    """How many safety calibration samples, of those that the aligned model refuses."""
    task_samples: int = Field(128, ge=1, le=MOST)
    """How many task calibration samples; all of a smaller task."""
    batch_size: int = Field(16, ge=1, le=MOST)
    """Requests that the aligned model answers at a time."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """What calibration samples run through the models in; auto: bfloat16 on a GPU, float32 on a CPU."""
    chat_template: str | None = None
    """A Jinja file in place of the model's own chat template; it is written with the checkpoint."""
    decoder: DecoderConfig | None = None
    """Which layers are edited; by default every linear layer of the language model."""
    cpu_threads: int | None = Field(None, ge=1, le=1024)
    """Threads of torch on a CPU."""
    numerics: Literal["portable", "native"] = "native"
    """How a CPU rounds: `portable` on every x86-64 processor alike, slower; `native` as this one is fastest."""

    def precision(self, device: str) -> Literal["float32", "bfloat16"]:
        """Return the dtype on a torch device, as a run has it."""
        return TrainingConfig(dtype=self.dtype).precision(device)


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """What is to be edited, by which method, from what, and where to."""

    method: str
    """A method that edits weights, options after colons as in `hpa:p_max=20`."""
    before: str
    """theta_{t-1}: a checkpoint folder, or a name on the Hugging Face hub."""
    after: str
    """The same model after it was tuned: a checkpoint, or the folder of a LoRA adapter that is not merged."""
    out: Path
    """The edited checkpoint's folder, which must not hold anything yet."""
    safety: str | None = None
    """Harmful requests: a LLaVA-format JSON file, a folder with one, or an lm-eval task with a training split."""
    task: str | None = None
    """Training samples of the new task, likewise."""
    unaligned: str | None = None
    """The model before its safety alignment."""
    start: str | None = None
    """theta_0, the aligned model; by default `before`, as in a first stage."""
    state: Path | None = None
    """What the method keeps from stage to stage; by default it is not kept."""
    answers: Path | None = None
    """The aligned model's answers to `safety`, one {"id", "response"} a line."""
    stage: int = 1
    """t: the first tuning after the alignment is 1."""
    settings: Sequence[str] = ()
    """`key=value` for the method's hyper-parameters, or for `Recipe`."""
    seed: int = 0
    """Of the choice of calibration samples, and of methods that draw."""
    data_root: str | None = None
    """The folder of the user's downloads, for tasks on downloaded data."""
    include_paths: Sequence[Path] = ()
    """Further folders of lm-eval YAMLs."""
    device: str = "auto"
    """cpu, cuda, or "auto" for a GPU where there is one."""
    command: str = ""
    """The command line, for the record."""

    @property
    def work(self) -> Path:
        """Where what is not finished lies."""
        return self.out.with_name(f"{self.out.name}.unfinished")

    @cached_property
    def editor(self) -> type[Method]:
        """The method.

        Raises:
            UserError: there is no such method, or it does its work in training.
        """
        name, _ = split_settings(self.method)
        found = methods.get(name)
        if not _edits(found):
            known = [each for each in methods.names() if _edits(methods.get(each))]
            raise UserError(
                f"Method {name!r} does its work while it trains, and there is nothing to train here: expected one that"
                f" edits weights ({', '.join(known)})."
            )
        return found

    @cached_property
    def config(self) -> MethodConfig:
        """The method's hyper-parameters.

        Raises:
            UserError: an unknown key or a value that does not fit.
        """
        return parse(self.editor.Config, self._divided[0], f"of method {self.editor.name!r}")

    @cached_property
    def recipe(self) -> Recipe:
        """Everything else that `--set` says; errors are those of `config`."""
        return parse(Recipe, override({}, self._divided[1]), "in --set")

    @property
    def template(self) -> Path | None:
        """The file of a chat template in place of the model's own."""
        named = self.recipe.chat_template
        return None if named is None else Path(named).expanduser()

    @property
    def template_text(self) -> str | None:
        """What that file holds."""
        return None if self.template is None else read_chat_template(self.template)

    @property
    def needs(self) -> frozenset[Need]:
        """What the method needs with these hyper-parameters."""
        return self.editor(self.config).needs

    @property
    def edits_adapters(self) -> bool:
        """Whether the method edits the adapter before it is merged."""
        return _overrides(self.editor, ("edit_adapter",))

    @property
    def has_adapter(self) -> bool:
        """Whether `after` is an adapter."""
        return (Path(self.after).expanduser() / ADAPTER_CONFIG).is_file()

    def check(self) -> None:
        """Check all that can be checked before anything is loaded.

        Raises:
            UserError: something is unknown, or not there, or not given though the method needs it.
        """
        check_vacant(self.out)
        if self.stage < 1:
            raise UserError(f"--stage {self.stage} is none: expected 1 or more, 1 for the first tuning.")
        name = self.editor.name
        for need, (field, option, what) in OPTIONS.items():
            if need in self.needs and getattr(self, field) is None:
                raise UserError(f"Method {name!r} needs {what}: give {option}.")
        if self.edits_adapters and not self.has_adapter:
            raise UserError(
                f"Method {name!r} edits an adapter before it is merged, and --after {self.after} is none: give the"
                f" folder that peft saved it in, with {ADAPTER_CONFIG}."
            )
        for model in filter(None, (self.before, None if self.has_adapter else self.after, self.start, self.unaligned)):
            local_folder(model)
        if self.answers is not None and not self.answers.is_file():
            raise UserError(f"--answers {self.answers} is no file: expected one {{id, response}} of JSON a line.")
        _ = self.template_text
        for source in filter(None, (self.safety, self.task)):
            if rows_file(source) is None:
                check_names([source], self.task_folders())

    def task_folders(self) -> list[Path]:
        """Return the folders of lm-eval YAMLs.

        Raises:
            UserError: one does not exist.
        """
        return [*package_task_folders(), *given_task_folders(self.include_paths)]

    @cached_property
    def _divided(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The settings that are the method's, and the others."""
        own = dict(split_settings(self.method)[1])
        others: dict[str, Any] = {}
        for key, value in parse_settings(list(self.settings)).items():
            if key in self.editor.Config.model_fields:
                own[key] = value
            elif key.split(".")[0] in Recipe.model_fields:
                others[key] = value
            else:
                known = {*keys(Recipe), *self.editor.Config.model_fields}
                raise unknown("key", key, known, f"in --set (method {self.editor.name!r})")
        return own, others


def hands_on_another(method: type[Method]) -> bool:
    """Return whether a method may hand on another model than the one that is scored."""
    return all(_overrides(method, (hook,)) for hook in ("adapt", "evaluated"))


def rows_file(source: str) -> Path | None:
    """Return the LLaVA-format file that a source is; None where it is the name of a task.

    Raises:
        UserError: a folder that holds none, or several; or a path that is not there.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        found = sorted(path.glob("*.json"))
        train = [file for file in found if file.name == "train.json"] or found
        if len(train) != 1:
            names = ", ".join(file.name for file in found) or "none"
            raise UserError(f"{path} holds no train.json, nor one JSON file alone ({names}): name the file.")
        return train[0].resolve()
    if path.is_file():
        return path.resolve()
    if path.suffix == ".json" or len(path.parts) > 1:
        raise UserError(f"There is no {path}: expected a LLaVA-format JSON file, a folder with one, or a task's name.")
    return None


def _edits(method: type[Method]) -> bool:
    return method.mergeable and not _overrides(method, TRAINING) and _overrides(method, EDITING)


def _overrides(method: type[Method], hooks: Sequence[str]) -> bool:
    return any(getattr(method, hook) is not getattr(Method, hook) for hook in hooks)
