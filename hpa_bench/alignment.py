"""What is to be aligned: a base, data and a recipe, all checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from hpa_bench.config import BaseConfig, override, parse, parse_settings
from hpa_bench.data.task_files import check_names
from hpa_bench.files import check_vacant
from hpa_bench.models.config import LoRAConfig, local_folder, read_chat_template
from hpa_bench.suite import DecoderConfig, TrainingConfig, given_task_folders, package_task_folders

ALIASES = {"vlguard": "vlguard_alignment", "spa-vl": "spa_vl_alignment"}
"""Data sets by the names that papers give them, in lower case."""


class Recipe(BaseConfig):
    """How an alignment trains: as a stage does."""

    lora: LoRAConfig = LoRAConfig()
    training: TrainingConfig = TrainingConfig()
    full: list[str] = []
    """Modules trained in full beside the adapter, by the last part of their names: `embed_tokens` for refusals in words
    that the base never used, the projector for a base that reads images badly."""
    chat_template: str | None = None
    """A Jinja file in place of the base's own chat template, or for a base without one; it is written with it."""
    decoder: DecoderConfig | None = None
    """Which layers get an adapter; by default every linear layer of the language model."""
    cpu_threads: int | None = Field(None, ge=1, le=1024)
    """Threads of torch on a CPU."""


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """What is to be aligned, on what, and where to."""

    model: str
    """The base: a checkpoint folder, or a name on the Hugging Face hub."""
    data: Sequence[str]
    """Names of lm-eval tasks with a training split, or of `ALIASES`."""
    out: Path
    """The aligned checkpoint's folder, which must not hold anything yet."""
    settings: Sequence[str] = ()
    """`key=value` for `Recipe`, dotted."""
    seed: int = 0
    """Of data order and adapter init."""
    data_root: str | None = None
    """The folder of the user's downloads, for tasks on downloaded data."""
    include_paths: Sequence[Path] = ()
    """Further folders of lm-eval YAMLs."""
    device: str = "auto"
    """cpu, cuda, or "auto" for a GPU where there is one."""
    command: str = ""
    """The command line, for the manifest."""

    @property
    def tasks(self) -> list[str]:
        """The names of the tasks."""
        return [ALIASES.get(name.strip().lower(), name.strip()) for name in self.data]

    def check(self) -> None:
        """Check all that can be checked before anything is loaded.

        Raises:
            UserError: something that the alignment names is unknown or not there, or its folder holds something.
        """
        check_vacant(self.out)
        recipe = self.recipe()
        check_names(self.tasks, self.task_folders())
        local_folder(self.model)
        if recipe.chat_template:
            read_chat_template(Path(recipe.chat_template).expanduser())

    def recipe(self) -> Recipe:
        """Return how to train.

        Raises:
            UserError: an unknown key or a value that does not fit.
        """
        return parse(Recipe, override({}, parse_settings(list(self.settings))), "in --set")

    def task_folders(self) -> list[Path]:
        """Return the folders of lm-eval YAMLs.

        Raises:
            UserError: one does not exist.
        """
        return [*package_task_folders(), *given_task_folders(self.include_paths)]
