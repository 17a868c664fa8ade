"""The manifest of a run: what was run, on what, with which versions. Manifests are read and written here alone."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from hpa_bench.errors import UserError
from hpa_bench.files import write_json
from hpa_bench.metrics import scored_tasks

MANIFEST = "manifest.json"
FORMAT = 2
READABLE = (1, 2)
"""Formats that are read: 1 has no `verdicts`, `numerics`, `model_digest` and `plugins`, and less of the hardware."""
SOURCES = ("model_digest", "unaligned_digest", "plugins")
"""What decides a run beside its settings and its data: a manifest of an older version does not have it."""
NO_PART_OF_TRAINING = {"gradient_checkpointing", "keep_weights", "save_steps", "workers"}
"""Keys of a training recipe that change no weight: the same steps taken with less memory, or more often kept."""
UNKNOWN = "unknown"
"""Shown in the place of what a manifest does not say."""


class _Part(BaseModel):
    """A part of a manifest. What a later version of the same format adds is read past."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def said(self) -> dict[str, Any]:
        """Return what the file says, by key, as JSON holds it."""
        return self.model_dump(mode="json", exclude_unset=True)


class Hardware(_Part):
    """The machine of a run; None is unknown."""

    device: str | None = None
    """The GPU's name, or "cpu"."""
    driver: str | None = None
    """The version of the GPU's driver."""
    cpu: str | None = None
    """The model of the processor."""
    instruction_sets: tuple[str, ...] | None = None
    """Those of the processor's instruction sets that decide how sums are rounded."""
    machine: str | None = None
    """The architecture, such as x86_64."""
    cores: int | None = None
    threads: int | None = None
    """Threads of torch."""
    processes: int | None = None


class Numerics(_Part):
    """What decides the last bits of a run's numbers beside its seed; None is unknown."""

    device: str | None = None
    """cpu or cuda."""
    threads: int | None = None
    """Threads of torch, which share out a CPU's sums."""
    torch: str | None = None
    transformers: str | None = None
    cpu_capability: str | None = None
    """The instruction set that torch's own kernels take, such as AVX2."""
    variables: dict[str, str] = {}
    """Environment variables that choose kernels, where they are set."""
    products: str | None = None
    """What computes matrix products, where it is not torch's own choice."""


class Environment(_Part):
    """What may differ between two runs that are the same."""

    versions: dict[str, str] = {}
    """Of Python and of the packages that decide results."""
    git_commit: str | None = None
    """The last that changed the code of the package's checkout, where it has one."""
    uncommitted: bool | None = None
    """Whether the checkout's code was another than that commit's."""
    hardware: Hardware = Hardware()
    numerics: Numerics = Numerics()
    started: str | None = None
    """ISO 8601, in UTC."""


class Record(Environment):
    """What a folder says that it was made from; `IDENTITY` are the fields that make two the same."""

    IDENTITY: ClassVar[tuple[str, ...]]

    def write(self, path: Path) -> None:
        """Write the record as JSON."""
        write_json(path, self.said())

    def compared(self) -> dict[str, Any]:
        """Return what two records are compared by."""
        return self.said()

    def difference(self, other: Self) -> str:
        """Return the first part of the identity in which another differs, in words; empty where it is the same."""
        mine, theirs = self.compared(), other.compared()
        for key in self.IDENTITY:
            if key in SOURCES and mine.get(key) is None:
                continue  # Of an older version, which did not note it.
            if found := _difference(mine.get(key), theirs.get(key), key):
                return found
        return ""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a record.

        Raises:
            UserError: there is no such file, or it is torn, or it is another program's.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{path} does not exist: expected the folder of a run.") from None
        except ValueError as error:
            raise UserError(
                f"{path} is no JSON ({error}): it was not written to its end, or not by hpa-bench; remove its folder"
                " and run it again."
            ) from None
        return cls.parse(values, path)

    @classmethod
    def parse(cls, values: Any, path: Path) -> Self:
        """Return the record that a file's values are.

        Raises:
            UserError: they are none; the message names the file.
        """
        if not isinstance(values, dict):
            raise UserError(f"{path} is no manifest of hpa-bench: it holds no object.")
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            lacking = [_name(each["loc"]) for each in error.errors() if each["type"] == "missing"]
            if lacking:
                reason = f"lacks {', '.join(lacking)}"
            else:
                first = error.errors()[0]
                told = first["msg"][0].lower() + first["msg"][1:]
                reason = f"has {_name(first['loc'])} {first['input']!r} ({told})"
            raise UserError(f"{path} is no manifest of hpa-bench: it {reason}.") from None


class Manifest(Record):
    """What was run. What a manifest of an older format does not have is empty or None."""

    IDENTITY = ("suite", "suite_config", "method", "config", "seed", "noise", "harmful_ratio", "data", *SOURCES)

    format: int
    suite: str
    suite_config: dict[str, Any] = {}
    """Every value of the suite that makes a run, defaults included."""
    method: str
    method_kind: str | None = None
    """What kind of method it says that it is; None in a manifest of an older version."""
    config: dict[str, Any]
    """Every hyper-parameter of the method, defaults included."""
    changed: dict[str, Any] | None = None
    """What the user set, dotted names for the suite's."""
    seed: int
    noise: int = 0
    """The number of a noise run, all of whose training begins a rounding error away; 0: it is none."""
    harmful_ratio: float
    """Share of each task's training samples that harmful pairs replace, as a fraction."""
    tasks: list[str]
    """In training order."""
    stages: list[list[str]]
    """The tasks of each stage from 1 on."""
    safety_sets: list[str]
    benign_sets: list[str]
    judges: list[str]
    """Labels of the suite's judges."""
    verdicts: dict[str, dict[str, bool]] = {}
    """By judge: each verdict that it can give, and whether it is a success of the attack."""
    training: dict[str, Any] = {}
    """The training recipe."""
    poisoned: dict[str, dict[str, str]] = {}
    """By task: the id of the harmful pair by the id of the sample that it replaced."""
    data: dict[str, str] = {}
    """SHA-256 of what each set holds."""
    model_digest: str | None = None
    """SHA-256 of the weights that the run starts from."""
    unaligned_digest: str | None = None
    """The same of the model before its alignment, where the method needs it."""
    plugins: dict[str, str] = {}
    """SHA-256 of the source of each plugin, by its name."""

    def compared(self) -> dict[str, Any]:
        """Return what the file says; where it does not say so, its suite is of version 1 and it is no noise run."""
        return self.said() | {"noise": self.noise, "suite_config": {"version": 1} | self.suite_config}

    def difference(self, other: Self) -> str:
        """Return the first part of the identity in which another differs; older versions hashed fewer sets."""
        return Record.difference(self._of_sets(other.data), other._of_sets(self.data))

    def _of_sets(self, names: Collection[str]) -> Self:
        data = {name: digest for name, digest in self.data.items() if name in names}
        return self.model_copy(update={"data": data})

    @property
    def matrix(self) -> str:
        """How much of the accuracy matrix is measured (`evaluation.matrix` of the suite)."""
        return str(self.suite_config.get("evaluation", {}).get("matrix", "full"))

    def scored_tasks(self, stage: int) -> list[str]:
        """Return the tasks that are scored after a stage."""
        return scored_tasks(self.matrix, stage, self.stages, self.tasks)

    @property
    def judged_sets(self) -> list[str]:
        """The sets that judges look at."""
        return [*self.safety_sets, *self.benign_sets]

    def kind_of(self, name: str) -> str:
        """Return what a set is: task, safety or benign."""
        return "safety" if name in self.safety_sets else "benign" if name in self.benign_sets else "task"

    @property
    def suite_version(self) -> int:
        """The version of the suite."""
        return int(self.suite_config.get("version", 1))

    @property
    def suite_title(self) -> str:
        """The suite with its version, as reports name it."""
        return f"{self.suite} version {self.suite_version}"

    @property
    def code(self) -> str:
        """The commit of the code, as reports show it."""
        return (self.git_commit or UNKNOWN)[:12] + (" with uncommitted changes" if self.uncommitted else "")

    def changed_source(self, other: Self) -> str:
        """Return what has changed in the model's files or in a plugin since this was written, in words; else ""."""
        if self.model_digest is not None and self.model_digest != other.model_digest:
            return "the files of its model have changed since"
        if self.unaligned_digest is not None and self.unaligned_digest != other.unaligned_digest:
            return "the files of its unaligned model have changed since"
        known = self.said().get("plugins")
        for name in sorted({*(known or {}), *other.plugins}) if known is not None else ():
            if self.plugins.get(name) != other.plugins.get(name):
                return f"the source of its plugin {name!r} has changed since"
        return ""

    planned: bool = False
    """The run ended before it read its data; what only the data and the machine say is not there."""

    @classmethod
    def parse(cls, values: Any, path: Path) -> Self:
        """Return the manifest that a file's values are, of a format that is read."""
        found = values.get("format") if isinstance(values, dict) else None
        if type(found) is int and found not in READABLE:
            raise UserError(
                f"{path} has format {found}, and this version reads {' and '.join(map(str, READABLE))}: update"
                " hpa-bench."
            )
        return super().parse(values, path)


class AlignmentManifest(Record):
    """What an aligned checkpoint was made from, and how."""

    IDENTITY = ("model", "recipe", "seed", "data")

    model: str
    data: dict[str, str]
    """SHA-256 of what was trained on, by data set."""
    samples: dict[str, int]
    """Rows that were trained on, by data set."""
    recipe: dict[str, Any]
    training: dict[str, Any] = {}
    seed: int
    command: str
    """The command line."""
    steps: int | None = None
    """Optimiser steps, once it is finished."""
    seconds: float | None = None
    """Of training, once it is finished."""


class EditedLayer(_Part):
    """What an edit left of the change of one weight, W0 before, W1 after, W^ as it is written."""

    name: str
    """The parameter's."""
    norm: float | None
    """||W^ - W0|| / ||W1 - W0||; None where W1 is W0."""
    columns: int | None = None
    """Of the weight, where a method gives whole columns back."""
    kept: int | None = None
    """Those of them that are as before though W1 changed them."""


class EditManifest(Record):
    """What an edited checkpoint was made from, and what the edit did."""

    IDENTITY = ("method", "config", "models", "data", "recipe", "seed", "stage")

    method: str
    config: dict[str, Any]
    """Every hyper-parameter of the method, defaults included."""
    models: dict[str, str]
    """SHA-256 of names, sizes and times of the files of each model, by its part: before, after, start, unaligned."""
    data: dict[str, str]
    """SHA-256 of the calibration samples that the method may see, by their part: safety, task."""
    recipe: dict[str, Any]
    seed: int
    stage: int
    command: str
    """The command line."""
    layers: list[EditedLayer] = []
    """The weights that the method changed, once it is finished."""
    norm: float | None = None
    """||W^ - W0|| / ||W1 - W0|| over these weights together."""
    seconds: float | None = None
    """Of the last process that worked on it."""
    peak_memory_bytes: int | None = None
    """Of that process, on a CPU its resident set, on a GPU what torch held there."""


def _name(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location))


def _difference(old: Any, new: Any, name: str) -> str:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            found = _difference(old.get(key), new.get(key), f"{name}.{key}")
            if found:
                return found
        return ""
    return "" if old == new else f"{name} is {old!r} there and {new!r} here"
