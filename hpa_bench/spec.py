"""What is to be run: a suite, a method with its hyper-parameters and a seed, all checked before anything is loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from hpa_bench.config import BaseConfig, keys, override, parse, parse_settings, split_settings
from hpa_bench.data.captions import KINDS as CAPTIONS
from hpa_bench.data.rules import RULES
from hpa_bench.data.task_files import check_names
from hpa_bench.engines.base import EngineConfig, engines
from hpa_bench.errors import UserError, unknown
from hpa_bench.judges.base import make_judge
from hpa_bench.machine.numerics import pin
from hpa_bench.method import Method, MethodConfig, MethodKind, Need, methods
from hpa_bench.models.config import read_chat_template
from hpa_bench.names import short_names
from hpa_bench.results.manifest import NO_PART_OF_TRAINING
from hpa_bench.suite import BUNDLED, Suite, make_suite, read_suite

NO_PART: Any = {
    **dict.fromkeys(("description", "model_note", "data_root", "data_folders", "gpu"), True),
    "training": NO_PART_OF_TRAINING,
    "image_features": {"mebibytes": True},
    "evaluation": {"engine": True, "engines": True},
}
"""Keys of a suite that are no part of what makes a run: the same data may lie elsewhere (their hashes are a part), the
same steps may be taken with less memory or more often kept, and engines say the same but for near-ties (each stage's
cost.json names its engine)."""

PATHS = ("chat_template", "data_folders", "include_paths")
NAMES_OR_PATHS = ("model", "unaligned_model", "harmful_data")
"""Keys of a suite that hold paths, or names of a hub or of tasks unless they start with `.` or `~`."""

SPEC_FORMAT = 1
"""The number that a written spec begins with; another one is refused."""


@dataclass(frozen=True)
class RunOptions:
    """What a user says of one run, as the options of `hpa-bench run`."""

    suite: str = "tiny"
    """A bundled suite's name, or the path of a YAML file."""
    method: str = "hpa"
    """A registered name, with settings of its own after colons, such as `hpa:p_max=20:p_min=5`."""
    seed: int = 0
    """Of data order, adapter init and calibration samples."""
    settings: Sequence[str] = ()
    """`key=value` for the method's hyper-parameters or, dotted, for the suite."""
    order: str | None = None
    """The training order, as task names or as their numbers in the suite, separated by commas."""
    harmful_ratio: float = 0.0
    """Share of each task's training samples to replace by harmful pairs, 0 to 1."""
    harmful_data: str | None = None
    """A LLaVA-format JSON file of harmful pairs, instead of the suite's own."""
    data_root: str | None = None
    """The folder of the user's downloads, for suites on downloaded data."""
    engine: str | None = None
    """Short for the setting `evaluation.engine`."""
    plugins: Sequence[Path] = ()
    """The files that define what is named here; whoever makes a spec has loaded them before."""
    noise: int = 0
    """The number of a noise run, which begins a rounding error away from others (`hpa_bench.runner.noise`); 0: none."""


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
    plugins: tuple[Path, ...] = ()
    """The plugin files that it needs, absolute."""
    cwd: Path = field(default_factory=Path.cwd)
    """Where it was planned: what is relative, such as a path among a judge's options, starts there."""
    noise: int = 0
    """The number of a noise run; 0: it is none."""

    @cached_property
    def _asked(self) -> Method:
        """A method object to ask what depends on the hyper-parameters; it is never trained."""
        return self.method(self.config)

    @cached_property
    def needs(self) -> frozenset[Need]:
        """What the suite must offer."""
        return self._asked.needs

    @cached_property
    def stages(self) -> tuple[tuple[str, ...], ...]:
        """The tasks of each stage, in training order."""
        return tuple(tuple(tasks) for tasks in self._asked.curriculum(self.suite.tasks))

    def unaligned_path(self) -> str | None:
        """Return the folder or hub name of the model before its alignment; None where the method needs none."""
        name = self.suite.unaligned_model if "unaligned_model" in self.needs else None
        return self.suite.model_path(name) if name else None

    def identity(self) -> dict[str, Any]:
        """Return what makes it the same run, as in the manifest."""
        return {
            "suite": self.suite.name,
            "suite_config": _values(self.suite),
            "method": self.method.name,
            "config": self.config.model_dump(mode="json"),
            "seed": self.seed,
            "noise": self.noise,
            "harmful_ratio": self.harmful_ratio,
        }

    def default_folder(self, root: Path) -> Path:
        """Return `<root>/<suite>/<method>-<config hash>/seed<k>`; the hash covers what differs from the defaults.

        A noise run's last part is `seed<k>-noise<n>`.
        """
        settings = [
            _values(self.suite, exclude_defaults=True),
            self.config.model_dump(mode="json", exclude_defaults=True),
            self.harmful_ratio,
        ]
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
        repeat = f"-noise{self.noise}" if self.noise else ""
        return root / self.suite.name / f"{self.method.name}-{digest}" / f"seed{self.seed}{repeat}"

    def to_json(self) -> str:
        """Return the run as JSON: every value, defaults included, so that no later default changes it."""
        folder = self.suite._folder
        written = {
            "format": SPEC_FORMAT,
            "method": self.method.name,
            "config": self.config.model_dump(mode="json"),
            "seed": self.seed,
            "noise": self.noise,
            "harmful_ratio": self.harmful_ratio,
            "suite": self.suite.model_dump(mode="json"),
            # What comes with the package lies elsewhere on another machine.
            "suite_folder": None if folder.resolve() == BUNDLED.resolve() else str(folder),
            "changed": None if self.changed is None else dict(self.changed),
            "plugins": [str(path) for path in self.plugins],
            "cwd": str(self.cwd),
        }
        return json.dumps(written, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(
        cls, text: str, where: str = "the spec", load: Callable[[Iterable[Path]], None] | None = None
    ) -> RunSpec:
        """Read back what `to_json` wrote; what the run finds on its disk is left to `check_spec`.

        Args:
            text: the JSON.
            where: its origin, for messages.
            load: registers what plugin files define (`hpa_bench.plugins.load_plugins`); None: they are loaded already.

        Raises:
            UserError: not JSON, another format, an unknown key or method, or a value that does not fit.
        """
        written = _read(text, where)
        plugins = tuple(Path(path) for path in written.plugins)
        pin(str(written.suite.get("numerics")))
        if load is not None:
            load(plugins)
        method = methods.get(written.method)
        folder = BUNDLED if written.suite_folder is None else Path(written.suite_folder)
        suite = make_suite(written.suite, folder, f"in the suite of {where}")
        config = parse(method.Config, written.config, f"of method {written.method!r} in {where}")
        return cls(
            suite,
            method,
            config,
            written.seed,
            written.harmful_ratio,
            written.changed,
            plugins,
            Path(written.cwd),
            written.noise,
        )


class _Written(BaseConfig):
    """A spec as it stands in JSON."""

    format: int
    method: str
    config: dict[str, Any]
    seed: int
    noise: int = 0
    harmful_ratio: float
    suite: dict[str, Any]
    suite_folder: str | None
    changed: dict[str, Any] | None
    plugins: list[str]
    cwd: str


def _read(text: str, where: str) -> _Written:
    remedy = "expected what RunSpec.to_json wrote, whole"
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:  # Not JSON, or a number of thousands of digits, or too deep.
        raise UserError(f"{where} is not valid JSON ({error}): {remedy}.") from None
    if not isinstance(values, dict):
        raise UserError(f"{where} is not a JSON object: {remedy}.")
    if values.get("format") != SPEC_FORMAT:
        raise UserError(
            f"{where} has the format {values.get('format')!r}, and this version of hpa-bench reads {SPEC_FORMAT}: write"
            " it again with this version."
        )
    return parse(_Written, values, f"in {where}")


def _values(suite: Suite, **options: Any) -> dict[str, Any]:
    """Return a suite's values that make a run, with the SHA-256 of its chat template in place of the file's name."""
    values = suite.model_dump(mode="json", exclude=NO_PART, **options)
    if values.get("evaluation", {}).get("matrix") == "full":
        del values["evaluation"]["matrix"]  # As runs have it that were made before there was a choice.
    if (template := suite.chat_template_path()) is not None:
        values["chat_template"] = hashlib.sha256(read_chat_template(template).encode()).hexdigest()
    return values


def make_spec(options: RunOptions, *, beside: Sequence[str] = (), needs: bool = True, model: bool = True) -> RunSpec:
    """Resolve and check what a user says.

    Args:
        options: what the user says.
        beside: the methods, as in `options.method`, that the settings are also for: a hyper-parameter of one of these
            is passed over.
        needs: whether to check that the suite offers what the method needs.
        model: whether there must be a model; data can be checked without.

    Raises:
        UserError: anything unknown or out of range.
    """
    name, own = split_settings(options.method)
    method = methods.get(name)
    given = [*options.settings, *([f"evaluation.engine={options.engine}"] if options.engine is not None else [])]
    where = "in --set" if beside else f"in --set (method {name!r}, suite {options.suite!r})"
    others = [methods.get(split_settings(other)[0]) for other in beside]
    for_method, for_suite = _divided(parse_settings(given), method, others, where)
    own = own | {key: value for key, value in for_method.items() if key not in own}
    for_suite = {key: _from_here(key.split(".")[0], value) for key, value in for_suite.items()}
    spec = RunSpec(
        _suite(options, for_suite),
        method,
        parse(method.Config, own, f"of method {name!r}"),
        options.seed,
        float(options.harmful_ratio),
        own | for_suite,
        tuple(Path(path).resolve() for path in options.plugins),
        noise=options.noise,
    )
    check_spec(spec, needs=needs, model=model)
    return spec


def check_spec(spec: RunSpec, *, needs: bool = True, model: bool = True) -> None:
    """Check all that can be checked before anything is loaded; the arguments are as of `make_spec`.

    Raises:
        UserError: something that the run names is unknown or not there, or the suite lacks what the method needs.
    """
    if spec.method.kind not in get_args(MethodKind):
        raise unknown("kind", spec.method.kind, get_args(MethodKind), f"of method {spec.method.name!r}")
    if spec.seed < 0:
        raise UserError(f"--seed {spec.seed} is no seed: expected 0 or more.")
    _check_noise(spec)
    _check_suite(spec)
    if model:
        spec.suite.model_path()
    if needs:
        _check_needs(spec)


def choose_numerics(options: RunOptions) -> None:
    """Choose the kernels that a run's suite asks for, before a plugin or a method loads torch.

    Raises:
        UserError: there is no such suite, or a setting is no `key=value`.
    """
    values, _ = read_suite(options.suite)
    pin(str(parse_settings(list(options.settings)).get("numerics", values.get("numerics"))))


def _divided(
    settings: Mapping[str, Any], method: type[Method], others: Sequence[type[Method]], where: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings that are the method's and those that are the suite's; each must be somebody's."""
    for_method: dict[str, Any] = {}
    for_suite: dict[str, Any] = {}
    for key, value in settings.items():
        if key in method.Config.model_fields:
            for_method[key] = value
        elif key.split(".")[0] in Suite.model_fields:
            for_suite[key] = value
        elif not any(key in other.Config.model_fields for other in others):
            known = {*keys(Suite), *(name for each in (method, *others) for name in each.Config.model_fields)}
            raise unknown("key", key, known, where)
    return for_method, for_suite


def _suite(options: RunOptions, settings: Mapping[str, Any]) -> Suite:
    values, folder = read_suite(options.suite)
    if options.data_root is not None:
        values = {**values, "data_root": options.data_root}
    if options.harmful_data is not None:
        if not options.harmful_ratio:
            raise UserError("--harmful-data changes nothing without --harmful-ratio: give both.")
        file = Path(options.harmful_data)
        if file.suffix != ".json" or not file.is_file():
            raise UserError(f"--harmful-data {file} is no file: expected LLaVA-format rows in a .json file.")
        values = {**values, "harmful_data": str(file.resolve())}
    suite = make_suite(override(values, settings), folder, f"in suite {options.suite!r}")
    return suite if options.order is None else _reordered(suite, options.order)


def engine_config(suite: Suite, name: str) -> EngineConfig:
    """Return an engine's own options, as a suite sets them.

    Raises:
        UserError: no such engine or option, or a value that does not fit.
    """
    if name not in engines.names():
        raise unknown("engine", name, engines.names(), "in evaluation.engines")
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
    shown = {short: name for name, short in short_names(suite.tasks).items()}
    known = shown | {name: name for name in suite.tasks} | numbers
    for name in names:
        if name not in known:
            raise unknown("task", name, {*suite.tasks, *shown}, "in --order")
    names = [known[name] for name in names]
    if sorted(names) != sorted(suite.tasks):
        raise UserError(
            f"--order {order!r} is not an order of the suite's {len(suite.tasks)} tasks: name each once"
            f" ({', '.join(suite.tasks)})."
        )
    return suite.model_copy(update={"tasks": names})


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
    check_names(suite.sets(), suite.task_folders())
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


def _check_noise(spec: RunSpec) -> None:
    if spec.noise < 0:
        raise UserError(f"--noise {spec.noise} is no number of a noise run: expected 1 or more, or 0 for none.")
    if spec.noise and not spec.stages:
        raise UserError(
            f"Method {spec.method.name!r} trains no parameter whose initial value noise could move: leave out --noise."
        )


def _check_rules(suite: Suite) -> None:
    kinds = {*CAPTIONS} | {kind for scored in RULES.values() for kind in scored}
    by_kind = suite.rules if isinstance(suite.rules, dict) else {CAPTIONS[0]: suite.rules or "strict"}
    for kind, rules in by_kind.items():
        if kind not in kinds:
            raise unknown("kind of answer", kind, kinds, f"in the rules of suite {suite.name!r}")
        if rules not in RULES:
            raise unknown("rules", rules, RULES, f"in suite {suite.name!r}")


def _check_needs(spec: RunSpec) -> None:
    suite = spec.suite
    needs, name = spec.needs, spec.method.name
    if suite.training.also and not spec.method.mergeable:
        raise UserError(
            f"Method {name!r} hands no weights on, so it cannot train {next(iter(suite.training.also))!r} beside what"
            " it adds: leave it out by --set training.also={}."
        )
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
