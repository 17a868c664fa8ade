"""One run from Python, as `hpa-bench run` does it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpa_bench.errors import UserError
from hpa_bench.machine.processes import is_main
from hpa_bench.plugins import load_plugins
from hpa_bench.results.run_folder import MANIFEST, RunFolder
from hpa_bench.spec import make_spec

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
    out: Path | None = None,
    resume: bool = True,
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
        plugins: Python files that define methods, engines or judges.
        out: the run's own folder; by default `runs/<suite>/<method>-<config hash>/seed<k>`.
        resume: False starts again from nothing, if the folder holds a run.
        device: cpu, cuda, or "auto" for a GPU where there is one.
        observers: are told what happens in this run, beside those that are registered.

    Returns:
        The finished run on disk.

    Raises:
        UserError: one sentence on what is wrong, where, and what to do.
    """
    load_plugins(plugins)
    if engine is not None:
        settings = [*settings, f"evaluation.engine={engine}"]
    spec = make_spec(
        suite, method, seed, settings, order, harmful_ratio, data_root=data_root, harmful_data=harmful_data
    )
    folder = spec.default_folder(RUNS) if out is None else Path(out)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder} is a file: expected a folder.")
    from hpa_bench.runner.run import execute

    if not resume and is_main() and (folder / MANIFEST).exists():
        with RunFolder(folder).locked():
            shutil.rmtree(folder)
    return execute(spec, folder, device, observers)
