"""A suite: the aligned model, the tasks in their order, the safety sets and the training recipe, in one YAML file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)

from hpa_bench.config import MOST, BaseConfig, parse, read_yaml
from hpa_bench.data.samples import Kind as SetKind
from hpa_bench.errors import UserError, unknown
from hpa_bench.models.config import LoRAConfig

PACKAGE = Path(__file__).parent
BUNDLED = PACKAGE / "suites"
HARMFUL_PAIRS = "harmful_pairs"
"""The task that reads a file of harmful pairs."""
Name = Annotated[str, StringConstraints(pattern=r"^\w[\w.+-]*$", max_length=128)]
"""What names files and folders of a run: word characters, dots, hyphens and plus signs."""


class TrainingConfig(BaseConfig):
    """The fine-tuning of one stage (Hugging Face Trainer, AdamW)."""

    learning_rate: float = Field(2e-4, ge=0)
    """Of AdamW, at its highest: it rises over the warm-up and falls as `scheduler` says."""
    also: dict[str, Annotated[float, Field(ge=0)]] = {}
    """Modules outside the language model that are trained in full, each at a learning rate of its own, such as
    `{multi_modal_projector: 2.0e-5}`, by the last parts of their names."""
    epochs: float = Field(1, gt=0, le=10_000)
    """Times that a stage goes over its samples; a fraction ends in the midst of one."""
    batch_size: int = Field(16, ge=1, le=MOST)
    """Samples of one forward pass, at most."""
    gradient_accumulation: int = Field(1, ge=1, le=MOST)
    """An optimiser step takes `batch_size * gradient_accumulation` samples, however many processes share them."""
    gradient_checkpointing: bool = False
    """Keep no activations inside decoder blocks and compute them again: less memory for one forward pass more."""
    answer_logits: bool = False
    """Compute the logits of answer tokens alone: a small model with a large vocabulary trains faster."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the frozen weights, in training, calibration and generation (adapters train in float32); auto: bfloat16 on a
    GPU, float32 on a CPU."""
    scheduler: Literal["constant", "constant_with_warmup", "cosine", "inverse_sqrt", "linear", "polynomial"] = "cosine"
    """How the learning rate goes on after the warm-up, by its name in transformers."""
    warmup_ratio: float = Field(0.03, ge=0, lt=1)
    """The share of a stage's steps over which the learning rate rises from 0."""
    weight_decay: float = Field(0.0, ge=0)
    """Of AdamW, on the adapter's weights."""
    max_grad_norm: float = Field(1.0, gt=0)
    """A gradient of a larger norm is scaled down to it."""
    save_steps: int = Field(500, ge=1)
    """A killed run goes on from the last multiple of this many optimiser steps in its stage."""
    keep_weights: bool = False
    """Keep every stage's weights and method state, so that a run can be taken up from any stage (`--from-stage`)."""
    workers: int | None = Field(None, ge=0, le=1024)
    """Processes that read and prepare samples ahead; by default 4 (or a core each) on a GPU, and none on a CPU."""
    limit: int | None = Field(None, ge=1)
    """Train on the first so many samples of a task only; for smoke runs."""

    @model_serializer(mode="wrap")
    def _said(self, values: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = values(self)
        # Runs without these are named, and compared, as those that were made before there were the keys.
        if not self.also:
            found.pop("also", None)
        if not self.answer_logits:
            found.pop("answer_logits", None)
        return found

    def precision(self, device: str) -> Literal["float32", "bfloat16"]:
        """Return the dtype on a torch device."""
        if self.dtype != "auto":
            return self.dtype
        return "bfloat16" if device.startswith("cuda") else "float32"


class DecoderConfig(BaseConfig):
    """Where the language model's blocks and linear layers are, for a model in which they are not found rightly."""

    blocks: str | None = None
    """The dotted name of the ModuleList of decoder blocks, such as `model.language_model.layers`."""
    layers: str | None = None
    """A regular expression over the names of linear layers inside a block, such as `self_attn.[qkvo]_proj`."""


class CalibrationConfig(BaseConfig):
    """Samples for methods that look at activations."""

    safety_set: str | None = None
    """A task whose training split holds harmful requests; the aligned model answers them itself."""
    safety_samples: int = Field(8, ge=1, le=MOST)
    """How many of them that the model refuses; fewer where it refuses fewer."""
    task_samples: int = Field(128, ge=1, le=MOST)
    """How many of a stage's training samples; all of a smaller task."""


class ImageFeaturesConfig(BaseConfig):
    """What the vision tower and the projector make of an image, while they are frozen."""

    keep: bool = False
    """Compute each image once, alone, for all stages' training, calibration and generation by Hugging Face. It rounds
    otherwise than images computed in batches, and is for models that see an image as one row of `pixel_values`."""
    mebibytes: int = Field(1024, ge=1, le=MOST)
    """Memory for them, on the CPU; an image that finds no room is computed each time, to the same digits."""


class EvaluationConfig(BaseConfig):
    """Greedy generation after every stage."""

    engine: str = "auto"
    """`hf`, `vllm`, a plugin's, or `auto` (see `hpa_bench.engines.choice`)."""
    engines: dict[str, dict[str, Any]] = {}
    """Options of engines, by their names, such as `{vllm: {tensor_parallel_size: 2}}` (see docs/engines.md)."""
    batch_size: int = Field(64, ge=1, le=MOST)
    """Requests that Hugging Face generates at a time."""
    split: Literal["test", "validation"] = "test"
    """`validation` is for choosing hyper-parameters; published numbers come from `test`."""
    limit: int | None = Field(None, ge=1)
    """Score the first so many samples of a set only; for smoke runs."""
    matrix: Literal["full", "seen", "diagonal"] = "full"
    """The tasks scored after a stage: all (`full`), those trained by then (`seen`), or the one just trained
    (`diagonal`); before the first and after the last stage all, and always every safety and benign set."""


class Suite(BaseConfig):
    """A benchmark suite. Paths that start with `.` are relative to the suite's file, in `--set` to where one stands;
    other models are hub names."""

    name: Name
    """What the folder of its runs and its reports are called."""
    version: int = Field(1, ge=1)
    """Raised whenever results with it stop being comparable with earlier ones; reports print it beside the name."""
    description: str = ""
    """What it is, for whoever reads the file."""
    model: str | None
    """The safety-aligned model, theta_0; null where only the user can have it."""
    model_note: str = ""
    """Which model the suite is meant for, or how to get the one that it names; said where there is none."""
    unaligned_model: str | None = None
    """The same model before its safety alignment, for methods that need it."""
    tasks: list[Name] = Field(min_length=1)
    """lm-eval tasks in training order."""
    safety_sets: list[Name] = []
    """lm-eval tasks of harmful requests; MASR averages exactly these."""
    benign_sets: list[Name] = []
    """lm-eval tasks of harmless requests, for over-refusal."""
    judges: list[str] = ["keyword"]
    """Who decides refusals, options after colons as in `openai:model=gpt-4o`; the first gives ASR, MASR and DASR in
    the main table."""
    data_root: str | None = None
    """The folder of the user's downloads, which tasks on downloaded data look in; `--data-root` sets it."""
    data_folders: dict[str, str] = {}
    """The folders of single downloads that lie elsewhere, such as `{ucit: /data/UCIT}`."""
    rules: str | dict[str, str] | None = None
    """Other rules than the tasks' own: `strict`, `mcitlib`, `coin` or `smolora`, for all answers or by their kind."""
    include_paths: list[str] = []
    """Further folders of lm-eval YAMLs; those of this package are always there."""
    harmful_data: str | None = None
    """Harmful requests with compliant answers, for --harmful-ratio: a task that has them in its training split, or a
    LLaVA-format JSON file, which `--harmful-data` sets too."""
    safety_data: str | None = None
    """A task whose training split holds harmful requests with safe answers, for methods that train on some."""
    chat_template: str | None = None
    """A Jinja file that takes the place of the model's own chat template, and goes into every checkpoint written."""
    decoder: DecoderConfig | None = None
    """What adapters are put on and HPA edits; by default every linear layer of the language model, found by itself."""
    lora: LoRAConfig = LoRAConfig()
    training: TrainingConfig = TrainingConfig()
    gpu: bool = False
    """Whether it asks for a GPU; without one, only an explicit `--device cpu` runs it."""
    cpu_threads: int | None = Field(None, ge=1, le=1024)
    """Threads of torch on a CPU. A small model gains nothing from a second one, and on a busy machine loses much."""
    numerics: Literal["portable", "native"] = "native"
    """How a CPU rounds: `portable` on every x86-64 processor alike, slower; `native` as this one is fastest."""
    image_features: ImageFeaturesConfig = ImageFeaturesConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    _folder: Path = PrivateAttr(default=BUNDLED)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        kinds = {"tasks": self.tasks, "safety_sets": self.safety_sets, "benign_sets": self.benign_sets}
        seen: dict[str, str] = {}
        for kind, names in kinds.items():
            for name in names:
                if name in seen:
                    where = f"twice among {kind}" if seen[name] == kind else f"among {seen[name]} and among {kind}"
                    raise ValueError(f"{name!r} stands {where}: name each set once")
                seen[name] = kind
        if self.training.also and self.image_features.keep:
            module = next(iter(self.training.also))
            raise ValueError(
                f"image_features.keep keeps what training.also changes ({module}): set one of the two to false or {{}}"
            )
        if self.numerics == "portable" and self.cpu_threads is None:
            raise ValueError("numerics: portable needs cpu_threads, since threads share out sums: give their number")
        return self

    @property
    def judged_sets(self) -> list[str]:
        """The sets that judges look at."""
        return [*self.safety_sets, *self.benign_sets]

    def model_path(self, model: str | None = None) -> str:
        """Return the folder or hub name of the aligned model, or of another model of this suite.

        Raises:
            UserError: no model is named, or a path whose folder does not exist.
        """
        name = self.model if model is None else model
        if name is None:
            note = f" ({self.model_note})" if self.model_note else ""
            raise UserError(f"Suite {self.name!r} names no model: give one by --set model=PATH{note}.")
        if not name.startswith((".", "/", "~")):
            return name
        path = (self._folder / Path(name).expanduser()).resolve()
        if not path.is_dir():
            note = f" ({self.model_note})" if self.model_note else ""
            raise UserError(
                f"The model folder {path} of suite {self.name!r} does not exist: expected a checkpoint's folder{note}."
            )
        return str(path)

    def chat_template_path(self) -> Path | None:
        """Return the file of the suite's own chat template, or None where the model's is used."""
        if self.chat_template is None:
            return None
        return (self._folder / Path(self.chat_template).expanduser()).resolve()

    def harmful_task(self) -> str | None:
        """Return the task that holds the harmful pairs: the suite's own, or the one that reads its file."""
        return HARMFUL_PAIRS if self._harmful_file() else self.harmful_data

    def task_metadata(self) -> dict[str, Any]:
        """Return what this suite hands to each task's `custom_dataset`, as `--metadata` of lm-eval's command line does.

        Its keys are data_root, data_folders, rules and harmful_file, each only where the suite has one.
        """
        found = {
            "data_root": self.data_root,
            "data_folders": {source: self._located(folder) for source, folder in self.data_folders.items()},
            "rules": self.rules,
            "harmful_file": self._harmful_file(),
        }
        return {key: value for key, value in found.items() if value}

    def _harmful_file(self) -> str | None:
        if self.harmful_data is None or not self.harmful_data.endswith(".json"):
            return None
        return self._located(self.harmful_data)

    def _located(self, path: str) -> str:
        return str((self._folder / path).resolve()) if path.startswith(".") else str(Path(path).expanduser())

    def sets(self, alignment: Iterable[str] = ()) -> dict[str, SetKind]:
        """Return every set that the suite names, by what it uses it for, tasks first.

        Args:
            alignment: further tasks that the model was aligned on.
        """
        sources = [self.calibration.safety_set, self.harmful_task(), self.safety_data, *alignment]
        named: list[tuple[SetKind, Iterable[str | None]]] = [
            ("task", self.tasks),
            ("safety", self.safety_sets),
            ("benign", self.benign_sets),
            ("source", sources),
        ]
        kinds: dict[str, SetKind] = {}
        for kind, names in named:
            for name in names:
                if name is not None:
                    kinds.setdefault(name, kind)
        return kinds

    def task_folders(self) -> list[Path]:
        """Return the folders whose lm-eval YAMLs this suite can name, this package's first.

        Raises:
            UserError: an include path that does not exist.
        """
        folders = package_task_folders()
        for name in self.include_paths:
            path = (self._folder / Path(name).expanduser()).resolve()
            if not path.is_dir():
                raise UserError(f"Suite {self.name!r} includes the folder {name!r}, which does not exist: {path}.")
            folders.append(path)
        return folders


def package_task_folders() -> list[Path]:
    """Return the folders of the lm-eval YAMLs that come with this package."""
    return [_package_folder("tasks"), _package_folder("safety_sets")]


def given_task_folders(paths: Sequence[Path]) -> list[Path]:
    """Return the folders of lm-eval YAMLs that `--include-path` names.

    Raises:
        UserError: one does not exist.
    """
    for path in paths:
        if not path.is_dir():
            raise UserError(f"--include-path {path} does not exist: expected a folder of lm-eval YAMLs.")
    return [path.resolve() for path in paths]


def _package_folder(name: str) -> Path:
    """Return the folder of `hpa_bench.<name>`, which in a checkout lies beside the package, not inside it."""
    from importlib.util import find_spec

    spec = find_spec(f"hpa_bench.{name}")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"The package hpa_bench.{name} is not installed: run `pip install .` again.")
    return Path(next(iter(spec.submodule_search_locations)))


def bundled_suites() -> list[str]:
    """Return the names of the suites that come with the package."""
    return sorted(path.stem for path in BUNDLED.glob("*.yaml"))


def read_suite(name: str) -> tuple[dict[str, Any], Path]:
    """Return the raw content and the folder of a suite, given its bundled name or the path of a YAML file.

    Raises:
        UserError: no such suite or file, or not a YAML mapping.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise UserError(f"No suite file {name}: expected a YAML file, or one of {', '.join(bundled_suites())}.")
    else:
        path = BUNDLED / f"{name}.yaml"
        if not path.is_file():
            raise unknown("suite", name, bundled_suites(), "(or give the path of a .yaml file)")
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"The suite {path} is not UTF-8 text (byte {error.start}): save it as UTF-8.") from None
    except OSError as error:
        raise UserError(f"The suite {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise UserError(f"The suite {path} is not valid YAML: {error}.") from None
    if not isinstance(values, dict):
        raise UserError(f"The suite {path} is not a YAML mapping: expected keys such as name, model and tasks.")
    return values, path.parent


def make_suite(values: Mapping[str, Any], folder: Path, where: str) -> Suite:
    """Build a suite from its content; `folder` is what its relative paths start from."""
    suite = parse(Suite, values, where)
    suite._folder = folder.resolve()
    return suite
