"""What every registered method must keep, in real runs of a small LLaVA that refuses: neutrality, resuming, needs, and
what it may hold on a GPU."""

import gc
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hpa_bench import run
from hpa_bench.engines.hf import HFEngine
from hpa_bench.errors import UserError
from hpa_bench.method import methods
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.spec import RunOptions, make_spec
from tests.support.interruptions import run_process
from tests.support.simulated_gpu import simulated_gpu
from tests.support.suites import write_suite

NEUTRAL: dict[str, list[str]] = {
    "derpp": ["alpha=0", "beta=0"],
    "ewc": ["strength=0"],
    "hpa": ["p_max=0", "p_min=0", "orthogonal=false"],
    "l2": ["strength=0"],
    "lwf": ["strength=0"],
    "magnitude_columns": ["p_max=0", "p_min=0", "orthogonal=false"],
    "olora": ["lambda_1=0", "lambda_2=0"],
    "random_columns": ["p_max=0", "p_min=0", "orthogonal=false"],
    "relative_columns": ["p_max=0", "p_min=0", "orthogonal=false"],
    "replay": ["per_task=0"],
    "resta": ["gamma=0"],
    "safe_delta": ["never=0", "s=1e30"],
    "safelora": ["select=threshold", "threshold=-1"],
    "scaled_update": ["p_max=0", "p_min=0", "orthogonal=false"],
    "sefe": ["strength=0"],
    "seqft": [],
    "sppft": ["layers=[]"],
    "wise_ft": ["a=1"],
}
"""Settings at which a method equals `seqft` bit for bit."""

NOT_NEUTRAL = {
    "joint": "one stage of all tasks, not one a task",
    "magmax": "the scored model has the largest change of each entry over all tasks, not the last",
    "model_tailor": "at least one entry of a block is always reset, and the others are compensated for it",
    "moelora": "its experts are never merged, so a task starts from the adapter of the task before",
    "ties": "the scored model is theta_0 plus a vote over the tasks' changes",
    "zero_shot": "trains nothing",
}
"""Why a method has no such settings."""

SMALL: dict[str, list[str]] = {
    "derpp": ["per_task=4", "safety_samples=2"],
    "ewc": ["anchor_safety=true"],
    "moelora": ["experts=2"],
    "replay": ["per_task=4", "replay_safety=2"],
}
"""Settings under which a method does all its work on three small tasks, where its defaults do not."""

COPIES = {"ewc": 4}
"""How often a GPU must hold the model in 16 bits where twice is not enough. EWC's F has 32 bits a weight."""


def offers(suite: str) -> dict[str, str]:
    """Return the suite's setting that meets each need; the suite itself meets none that can be left out."""
    return {
        "safety_calibration": "calibration.safety_set=refusals",
        "safety_data": "safety_data=refusals",
        "task_calibration": "calibration.task_samples=6",
        "unaligned_model": f"unaligned_model={Path(suite).parent / 'unaligned'}",
    }


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> str:
    training = {"learning_rate": 1e-2, "batch_size": 3, "epochs": 1, "save_steps": 2}
    folder = tmp_path_factory.mktemp("suite")
    return str(write_suite(folder, aligned=True, tasks=["colours", "shades", "tints"], training=training))


@pytest.fixture(scope="module", autouse=True)
def little_garbage() -> Iterator[None]:
    """Trainer collects garbage after every training; without this it walks through every module that is imported."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def seqft(suite: str, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return run(suite, "seqft", out=tmp_path_factory.mktemp("runs") / "seqft")


def offered(suite: str, name: str, settings: list[str]) -> list[str]:
    """Return settings, and with them what the method then needs of the suite, and no more."""
    everything = make_spec(RunOptions(suite, name, settings=[*settings, *offers(suite).values()]))
    return [*settings, *(offers(suite)[need] for need in sorted(everything.needs))]


def contents(folder: Path) -> dict[str, bytes]:
    """Return what a run says and what it hands on, by file."""
    patterns = (
        "stage*/scores.json",
        "stage*/responses/*",
        "stage*/judgements/*/*",
        "stage*/state/*",
        "stage*/weights/*",
    )
    files = [file for pattern in (*patterns, "method/**/*") for file in folder.glob(pattern) if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def weights_and_responses(folder: Path) -> dict[str, bytes]:
    """Return what is left of `contents` where methods are compared that carry different things."""
    return {file: found for file, found in contents(folder).items() if "/responses/" in file or "/weights/" in file}


def differing(ours: dict[str, bytes], theirs: dict[str, bytes]) -> list[str]:
    """Return the files that are not the same; a comparison that fails says them, and not what is in them."""
    return sorted(file for file in ours.keys() | theirs.keys() if ours.get(file) != theirs.get(file))


def test_every_method_is_either_neutral_somewhere_or_has_a_reason() -> None:
    assert sorted([*NEUTRAL, *NOT_NEUTRAL]) == methods.names()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(NEUTRAL) - {"seqft"}))
def test_at_its_neutral_setting_a_method_is_seqft_bit_for_bit(
    name: str, suite: str, seqft: RunFolder, tmp_path: Path
) -> None:
    neutral = run(suite, name, out=tmp_path / "run", settings=offered(suite, name, NEUTRAL[name]))

    assert len(neutral.finished_stages()) == 4
    assert differing(weights_and_responses(neutral.path), weights_and_responses(seqft.path)) == []


@pytest.mark.faults
@pytest.mark.parametrize("name", sorted({*NEUTRAL, *NOT_NEUTRAL} - {"zero_shot"}))
def test_a_killed_run_ends_like_an_unbroken_one(name: str, suite: str, seqft: RunFolder, tmp_path: Path) -> None:
    settings = offered(suite, name, SMALL.get(name, []))
    unbroken = run(suite, name, out=tmp_path / "unbroken", settings=settings)
    acts = bool(differing(weights_and_responses(unbroken.path), weights_and_responses(seqft.path)))
    assert acts == (name != "seqft"), "a method that does nothing here shows nothing here"

    stage = min(2, len(unbroken.manifest.stages))
    for place in ("training", "edited", "adapted"):
        code = run_process(place, stage, suite, name, out=tmp_path / "broken", settings=settings)
        assert code == -signal.SIGKILL
    assert run_process(None, stage, suite, name, out=tmp_path / "broken", settings=settings) == 0

    assert differing(contents(tmp_path / "broken"), contents(unbroken.path)) == []


@pytest.fixture(scope="module")
def deep_suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite whose model, in bfloat16, is large beside one of its blocks and beside what training it keeps."""
    suite = write_suite(
        tmp_path_factory.mktemp("deep"),
        aligned=True,
        shape={"hidden": 128, "layers": 9},
        benign_sets=[],
        lora={"rank": 8, "alpha": 16},
        training={"batch_size": 1, "epochs": 1, "limit": 1, "gradient_checkpointing": True, "workers": 0},
        evaluation={"limit": 1},
    )
    in_bfloat16(suite.parent)
    for name in ("colours", "shades"):  # each token takes long, but refusals must be whole
        task = suite.parent / "tasks" / f"{name}.yaml"
        task.write_text(task.read_text().replace("max_gen_toks: 6", "max_gen_toks: 2"))
    return suite


def in_bfloat16(folder: Path) -> None:
    """Store the models of a suite in bfloat16, as published ones are."""
    for file in folder.glob("*/model.safetensors"):
        halves = {name: tensor.bfloat16() for name, tensor in load_file(file).items()}
        save_file(halves, file, metadata={"format": "pt"})


@pytest.fixture(scope="module")
def bfloat16_suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    training = {"learning_rate": 1e-2, "batch_size": 3, "epochs": 1, "dtype": "bfloat16"}
    lora = {"rank": 8, "alpha": 16}
    suite = write_suite(tmp_path_factory.mktemp("bfloat16"), aligned=True, lora=lora, training=training)
    in_bfloat16(suite.parent)
    return suite


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*NEUTRAL, *NOT_NEUTRAL} - {"zero_shot"}))
def test_in_bfloat16_a_method_trains_edits_and_hands_on_bfloat16(
    name: str, bfloat16_suite: Path, tmp_path: Path
) -> None:
    suite = str(bfloat16_suite)
    done = run(suite, name, out=tmp_path / "run", settings=offered(suite, name, SMALL.get(name, [])))

    stages = len(done.manifest.stages)
    assert len(done.finished_stages()) == stages + 1
    last = done.stage(stages)
    if name == "moelora":
        experts = load_file(last.state / "state.safetensors").values()
        assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in experts)
        return
    before, after = (load_file(at / "model.safetensors") for at in (bfloat16_suite.parent / "model", last.weights))
    assert all(tensor.dtype == torch.bfloat16 and tensor.isfinite().all() for tensor in after.values())
    handed_on = any(not torch.equal(before[weight], after[weight]) for weight in before)
    assert handed_on == (name != "ties"), "ties starts every task from theta_0"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*NEUTRAL, *NOT_NEUTRAL}))
def test_a_gpu_that_holds_the_model_twice_is_enough(
    name: str, deep_suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (deep_suite.parent / "model" / "model.safetensors").stat().st_size
    left = []

    def load(engine: HFEngine, *arguments: Any) -> None:
        gc.collect()
        left.append(torch.cuda.memory_allocated())
        loaded(engine, *arguments)

    loaded = HFEngine.load
    monkeypatch.setattr(HFEngine, "load", load)
    settings = offered(str(deep_suite), name, SMALL.get(name, []))
    with simulated_gpu(COPIES.get(name, 2) * size) as gpu:
        done = run(str(deep_suite), name, out=tmp_path / "run", settings=settings, device="cuda")
        gc.collect()

    stages = len(done.finished_stages())
    assert stages == len(done.manifest.stages) + 1 == len(left)
    assert max(left) < 1.05 * size, "an engine of its own finds nothing but the model, which can move"
    assert size < done.stage(stages - 1).cost["peak_memory_bytes"] <= gpu.capacity
    assert gpu.used == 0, "nothing outlives the run"


@pytest.mark.parametrize("need", ["safety_calibration", "safety_data", "unaligned_model"])
def test_a_need_that_the_suite_does_not_meet_is_refused_in_one_sentence(need: str, suite: str, tmp_path: Path) -> None:
    refused = 0
    for name in methods.names():
        settings = offered(suite, name, SMALL.get(name, []))
        if (offer := offers(suite)[need]) not in settings:
            continue
        settings.remove(offer)
        with pytest.raises(UserError) as caught:
            run(suite, name, out=tmp_path / name, settings=settings)
        message = str(caught.value)
        assert name in message and offer.partition("=")[0] in message
        assert message.endswith(".") and "\n" not in message
        assert not (tmp_path / name).exists()
        refused += 1

    assert refused
