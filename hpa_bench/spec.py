"""What is to be run: a suite, a method with its hyper-parameters and a seed, all checked before anything is loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpa_bench.config import keys, override, parse, parse_settings, split_settings
from hpa_bench.data.rules import CAPTION, RULES
from hpa_bench.engines.base import EngineConfig, engines
from hpa_bench.errors import UserError, unknown
from hpa_bench.judges.base import make_judge
from hpa_bench.method import Method, MethodConfig, methods
from hpa_bench.models.config import read_chat_template
from hpa_bench.suite import NO_PART_OF_TRAINING, Suite, make_suite, read_suite

NO_PART: Any = {
    **dict.fromkeys(("description", "model_note", "data_root", "data_folders", "gpu"), True),
    "training": NO_PART_OF_TRAINING,
    "evaluation": {"engine": True, "engines": True},
}
"""Keys of a suite that are no part of what makes a run: the same data may lie elsewhere (their hashes are a part), the
same steps may be taken with less memory or more often kept, and engines say the same but for near-ties (each stage's
cost.json names its engine)."""

PATHS = ("chat_template", "data_folders", "include_paths")
NAMES_OR_PATHS = ("model", "unaligned_model", "harmful_data")
"""Keys of a suite that hold paths, or names of a hub or of tasks unless they start with `.` or `~`."""


@dataclass(frozen=True)
class RunSpec:
    """One run, fully determined."""

    suite: Suite
    method: type[Method]
    config: MethodConfig
    seed: int
    harmful_ratio: float = 0.0
    """Share of each task's training samples that is replaced by harmful pairs, as a fraction."""
    changed: Mapping[str, Any] | None = None
    """The settings of `--set`, as the user gave them."""

    def identity(self) -> dict[str, Any]:
        """Return what makes it the same run, as in the manifest."""
        return {
            "suite": self.suite.name,
            "suite_config": _values(self.suite),
            "method": self.method.name,
            "config": self.config.model_dump(mode="json"),
            "seed": self.seed,
            "harmful_ratio": self.harmful_ratio,
        }

    def default_folder(self, root: Path) -> Path:
        """Return `<root>/<suite>/<method>-<config hash>/seed<k>`; the hash covers what differs from the defaults."""
        settings = [
            _values(self.suite, exclude_defaults=True),
            self.config.model_dump(mode="json", exclude_defaults=True),
            self.harmful_ratio,
        ]
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
        return root / self.suite.name / f"{self.method.name}-{digest}" / f"seed{self.seed}"


def _values(suite: Suite, **options: Any) -> dict[str, Any]:
    """Return a suite's values that make a run, with the SHA-256 of its chat template in place of the file's name."""
    values = suite.model_dump(mode="json", exclude=NO_PART, **options)
    if (template := suite.chat_template_path()) is not None:
        values["chat_template"] = hashlib.sha256(read_chat_template(template).encode()).hexdigest()
    return values


def make_spec(
    suite: str = "tiny",
    method: str = "hpa",
    seed: int = 0,
    settings: Sequence[str] = (),
    order: str | None = None,
    harmful_ratio: float = 0.0,
    *,
    data_root: str | None = None,
    harmful_data: str | None = None,
    needs: bool = True,
    model: bool = True,
) -> RunSpec:
    """Resolve and check what the command line says.

    Args:
        suite: a bundled suite's name, or the path of a YAML file.
        method: a registered name, with settings of its own after colons, such as `hpa:p_max=20:p_min=5`.
        seed: of data order, adapter init and calibration samples.
        settings: `key=value` for the method's hyper-parameters or, dotted, for the suite.
        order: the training order, as task names or as their numbers in the suite, separated by commas.
        harmful_ratio: share of each task's training samples to replace by harmful pairs, 0 to 1.
        data_root: the folder of the user's downloads, for suites on downloaded data.
        harmful_data: a LLaVA-format JSON file of harmful pairs, instead of the suite's own.
        needs: whether to check that the suite offers what the method needs.
        model: whether there must be a model; data can be checked without.

    Raises:
        UserError: anything unknown or out of range.
    """
    method_name, own_settings = split_settings(method)
    method_class = methods.get(method_name)
    values, folder = read_suite(suite)
    for_suite: dict[str, Any] = {}
    for key, value in parse_settings(list(settings)).items():
        if key in method_class.Config.model_fields:
            own_settings.setdefault(key, value)
        elif key.split(".")[0] in Suite.model_fields:
            for_suite[key] = value
        else:
            known = [*method_class.Config.model_fields, *keys(Suite)]
            raise unknown("key", key, known, f"in --set (method {method_name!r}, suite {suite!r})")
    for_suite = {key: _from_here(key.split(".")[0], value) for key, value in for_suite.items()}
    config = parse(method_class.Config, own_settings, f"of method {method_name!r}")
    if data_root is not None:
        values = {**values, "data_root": data_root}
    if harmful_data is not None:
        if not harmful_ratio:
            raise UserError("--harmful-data changes nothing without --harmful-ratio: give both.")
        file = Path(harmful_data)
        if file.suffix != ".json" or not file.is_file():
            raise UserError(f"--harmful-data {file} is no file: expected LLaVA-format rows in a .json file.")
        values = {**values, "harmful_data": str(file.resolve())}
    resolved = make_suite(override(values, for_suite), folder, f"in suite {suite!r}")
    if order is not None:
        resolved = _reordered(resolved, order)
    spec = RunSpec(resolved, method_class, config, seed, harmful_ratio, own_settings | for_suite)
    _check_suite(spec)
    if model:
        resolved.model_path()
    if needs:
        _check_needs(spec)
    return spec


def engine_config(suite: Suite, name: str) -> EngineConfig:
    """Return an engine's own options, as a suite sets them.

    Raises:
        UserError: no such engine or option, or a value that does not fit.
    """
    options = suite.evaluation.engines.get(name, {})
    return parse(engines.get(name).Config, options, f"of engine {name!r} (evaluation.engines.{name})")


def _from_here(key: str, value: Any) -> Any:
    """Return a setting of the suite whose paths start where the command is given, and not at the suite's file."""
    if isinstance(value, list):
        return [_from_here(key, each) for each in value]
    if isinstance(value, dict):
        return {name: _from_here(key, each) for name, each in value.items()}
    is_path = key in PATHS or (key in NAMES_OR_PATHS and str(value).startswith((".", "~")))
    return str(Path(value).expanduser().resolve()) if is_path and isinstance(value, str) else value


def _reordered(suite: Suite, order: str) -> Suite:
    names = [part.strip() for part in order.split(",")]
    numbers = {str(number): name for number, name in enumerate(suite.tasks, 1)}
    names = [numbers.get(name, name) for name in names]
    for name in names:
        if name not in suite.tasks:
            raise unknown("task", name, suite.tasks, "in --order")
    if sorted(names) != sorted(suite.tasks):
        raise UserError(
            f"--order {order!r} is not an order of the suite's {len(suite.tasks)} tasks: name each once"
            f" ({', '.join(suite.tasks)})."
        )
    ordered = suite.model_copy(update={"tasks": names})
    ordered._folder = suite._folder
    return ordered


def _check_suite(spec: RunSpec) -> None:
    suite = spec.suite
    if suite.evaluation.engine != "auto":
        engines.get(suite.evaluation.engine).check()
    for name in suite.evaluation.engines:
        engine_config(suite, name)
    labels = [make_judge(judge).label for judge in suite.judges]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise UserError(f"Suite {suite.name!r} names the judge {twice!r} twice: name each once.")
    suite.task_folders()
    if (template := suite.chat_template_path()) is not None:
        read_chat_template(template)
    _check_rules(suite)
    if not 0 <= spec.harmful_ratio <= 1:
        raise UserError(
            f"--harmful-ratio {spec.harmful_ratio} is not a share: expected 0 to 1, such as 0.001 for 0.1%."
        )
    if spec.harmful_ratio and not suite.harmful_data:
        raise UserError(
            f"--harmful-ratio needs harmful pairs: suite {suite.name!r} names no harmful_data; give a file of them by"
            " --harmful-data."
        )


def _check_rules(suite: Suite) -> None:
    kinds = {CAPTION} | {kind for scored in RULES.values() for kind in scored}
    by_kind = suite.rules if isinstance(suite.rules, dict) else {CAPTION: suite.rules or "strict"}
    for kind, rules in by_kind.items():
        if kind not in kinds:
            raise unknown("kind of answer", kind, kinds, f"in the rules of suite {suite.name!r}")
        if rules not in RULES:
            raise unknown("rules", rules, RULES, f"in suite {suite.name!r}")


def _check_needs(spec: RunSpec) -> None:
    suite = spec.suite
    needs = spec.method(spec.config).needs
    name = spec.method.name
    if "unaligned_model" in needs:
        if suite.unaligned_model is None:
            raise UserError(
                f"Method {name!r} needs the model before its alignment: suite {suite.name!r} names no unaligned_model."
            )
        suite.model_path(suite.unaligned_model)
    if "safety_data" in needs and suite.safety_data is None:
        raise UserError(f"Method {name!r} trains on safety data: suite {suite.name!r} names no safety_data.")
    if "safety_calibration" in needs and not suite.calibration.safety_set:
        raise UserError(
            f"Method {name!r} needs safety calibration samples: suite {suite.name!r} names no calibration.safety_set."
        )
