"""One run from Python, as `hpa-bench run` does it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hpa_bench.errors import UserError
from hpa_bench.machine.disk import refusals_told
from hpa_bench.machine.imports import without_collections
from hpa_bench.machine.processes import is_main, processes
from hpa_bench.plugins import load_plugins
from hpa_bench.results.run_folder import MANIFEST, RunFolder, discard
from hpa_bench.spec import RunOptions, RunSpec, check_spec, choose_numerics, make_spec

if TYPE_CHECKING:
    from hpa_bench.runner.events import Observer

RUNS = Path("runs")


def run(
    suite: str = "tiny",
    method: str = "hpa",
    seed: int = 0,
    *,
    settings: Sequence[str] = (),
    order: str | None = None,
    harmful_ratio: float = 0.0,
    data_root: str | None = None,
    harmful_data: str | None = None,
    engine: str | None = None,
    plugins: Sequence[Path] = (),
    noise: int = 0,
    out: Path | None = None,
    resume: bool = True,
    again: bool = False,
    from_stage: int | None = None,
    device: str = "auto",
    observers: Sequence[Observer] = (),
) -> RunFolder:
    """Train a method across a suite's tasks and score it after every stage; go on with a run that was stopped.

    Args:
        suite: a bundled suite's name, or the path of a YAML file.
        method: a registered name, with settings of its own after colons, such as `hpa:p_max=20:p_min=5`.
        seed: of data order, adapter init and calibration samples.
        settings: `key=value` for the method's hyper-parameters or, dotted, for the suite.
        order: the training order, as task names or as their numbers in the suite, separated by commas.
        harmful_ratio: share of each task's training samples to replace by harmful pairs, 0 to 1.
        data_root: the folder of the user's downloads, for suites on downloaded data.
        harmful_data: a LLaVA-format JSON file of harmful pairs, instead of the suite's own.
        engine: who generates: "auto", "hf", "vllm" or a plugin's; short for the setting `evaluation.engine`.
        plugins: Python files that define methods, engines, judges or observers.
        noise: the number of a noise run, which begins every stage a rounding error away; 0: none.
        out: the run's own folder; by default `runs/<suite>/<method>-<config hash>/seed<k>`.
        resume: False starts again from nothing, if the folder holds a run.
        again: where the model's files or a plugin have changed since the folder's run was made, set that run aside.
        from_stage: redo a run from this stage on, which takes the weights and the state of the stage before
            (`training.keep_weights` keeps every stage's), and set aside what there was; to go on with it if it is
            stopped, leave this out.
        device: cpu, cuda, or "auto" for a GPU where there is one.
        observers: are told what happens in this run, beside those that are registered.

    Returns:
        The finished run on disk.

    Raises:
        UserError: one sentence on what is wrong, where, and what to do.
    """
    options = RunOptions(
        suite, method, seed, settings, order, harmful_ratio, harmful_data, data_root, engine, plugins, noise
    )
    choose_numerics(options)
    load_plugins(plugins)
    spec = make_spec(options)
    return run_spec(spec, out, resume=resume, again=again, from_stage=from_stage, device=device, observers=observers)


def run_spec(
    spec: RunSpec,
    out: Path | None = None,
    *,
    resume: bool = True,
    again: bool = False,
    from_stage: int | None = None,
    device: str = "auto",
    observers: Sequence[Observer] = (),
) -> RunFolder:
    """Make the run that a spec says, or go on with it; the arguments are as of `run`.

    Raises:
        UserError: one sentence on what is wrong, where, and what to do.
    """
    folder = spec.default_folder(RUNS) if out is None else Path(out)
    with refusals_told(folder):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"--out {folder} is a file: expected a folder.")
    if from_stage is not None and (again or not resume):
        raise UserError(
            f"--from-stage {from_stage} keeps the stages before it and cannot stand beside --again or --no-resume:"
            " leave out one."
        )
    if from_stage is not None and not (folder / MANIFEST).exists():
        raise UserError(f"--from-stage {from_stage}: there is no run in {folder}; leave it out to make one.")
    with without_collections():
        from hpa_bench.runner.launch import missing
        from hpa_bench.runner.run import execute

    if is_main() and (folder / MANIFEST).exists():
        if not resume:
            discard(RunFolder(folder))
        elif again:
            missing({folder: spec}, again=True)
    if spec.cwd == Path.cwd():
        return execute(spec, folder, device, observers, from_stage)
    folder = folder.resolve()
    with _standing_in(spec.cwd):
        return execute(spec, folder, device, observers, from_stage)


def read_spec(file: str) -> RunSpec:
    """Read and check a spec, with the plugins that it needs.

    Args:
        file: the path of what `RunSpec.to_json` wrote, or "-" for standard input.

    Raises:
        UserError: one sentence on what is wrong, where, and what to do.
    """
    if file == "-" and processes() > 1:
        raise UserError(f"--spec -: {processes()} processes cannot share standard input: give a file.")
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--spec {file} cannot be read ({error}): expected what RunSpec.to_json wrote.") from None
    spec = RunSpec.from_json(text, "standard input" if file == "-" else file, load_plugins)
    with _standing_in(spec.cwd):
        check_spec(spec)
    return spec


@contextmanager
def _standing_in(folder: Path) -> Iterator[None]:
    """Work where a run was planned, so that what is relative in it means the same."""
    if not folder.is_dir():
        raise UserError(
            f"The run was planned in {folder}, which does not exist here: make it, or set `cwd` in its spec."
        )
    with chdir(folder):
        yield
