"""An edit of two checkpoints from their files equals a run's stage, byte by byte, and goes on wherever it is killed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.shapes import write_pair
from hpa_bench import run
from hpa_bench.adaptation import Adaptation
from hpa_bench.engines.hf import HFEngine
from hpa_bench.files import write_jsonl
from hpa_bench.method import StageContext, methods
from hpa_bench.models.decoder import find_decoder
from hpa_bench.models.weights import Checkpoint, Weights, overlaid, write_checkpoint
from hpa_bench.plugins import load_plugins
from hpa_bench.results.manifest import EditManifest
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.runner.adapt import RECORD, Watch, adapt
from hpa_bench.spec import RunOptions, make_spec
from tests.support.adaptations import TWO_HOOKS, adaptation, edit_in_process, write_models, write_rows
from tests.support.models import random_llama, random_llava
from tests.support.simulated_gpu import simulated_gpu
from tests.support.suites import REFUSAL, write_suite

METHODS = {
    "hpa": [],
    "hpa, other models": ["hessian_model=before", "selection=balanced"],
    "magnitude_columns": [],
    "magmax": [],
    "model_tailor": [],
    "random_columns": ["match=norm"],
    "relative_columns": [],
    "resta": ["dare_on=both"],
    "resta, each": ["apply=each"],
    "safe_delta": ["s=1000", "calibration_samples=4"],
    "safe_delta, init": ["s=1000", "calibration_samples=4", "reference=init"],
    "safelora": ["share=0.5"],
    "scaled_update": [],
    "ties": [],
    "ties, previous": ["train_from=previous"],
    "two_hooks": [],
    "wise_ft": [],
    "wise_ft, aligned": ["reference=aligned"],
}
IN_16_BITS = ["hpa", "safe_delta", "safelora", "ties"]
SUITE = ["training.keep_weights=true", "calibration.task_samples=6", "calibration.safety_samples=3"]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    training = {"learning_rate": 1e-2, "batch_size": 3, "epochs": 1}
    calibration = {"safety_set": "refusals"}
    folder = tmp_path_factory.mktemp("suite")
    return write_suite(folder, aligned=True, training=training, calibration=calibration, unaligned_model="./unaligned")


@pytest.fixture(scope="module")
def suite_in_16_bits(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(suite.parent, tmp_path_factory.mktemp("suite") / "in 16 bits"))
    for file in folder.glob("*/model.safetensors"):
        tensors = {name: tensor.bfloat16() for name, tensor in load_file(file).items()}
        save_file(tensors, file, metadata={"format": "pt"})
    return folder / suite.name


@pytest.fixture(autouse=True)
def two_hooks() -> None:
    load_plugins([TWO_HOOKS])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


def asked_of_files(suite: Path, done: RunFolder, stage: int, out: Path, settings: list[str]) -> Adaptation:
    """What a stage of a run does to its weights, as it is asked of `adapt`."""
    method = done.manifest.method
    needs = make_spec(RunOptions(str(suite), method, settings=settings)).needs
    answers = next(iter(done.path.glob("calibration*/safety.jsonl")), None)
    return Adaptation(
        method=method,
        before=str(done.stage(stage - 1).weights if stage > 1 else suite.parent / "model"),
        after=str(out.parent / f"adapter{stage}"),
        out=out,
        safety="refusals" if "safety_calibration" in needs else None,
        task=done.manifest.tasks[stage - 1] if "task_calibration" in needs else None,
        unaligned=str(suite.parent / "unaligned"),
        start=str(suite.parent / "model"),
        state=out.parent / "state",
        answers=answers,
        stage=stage,
        settings=[*settings, "task_samples=6", "safety_samples=3"],
        include_paths=[suite.parent / "tasks"],
        device="cpu",
    )


def run_keeping_what_is_scored(suite: Path, method: str, settings: list[str], folder: Path) -> RunFolder:
    """Take a run; `folder/adapter<t>` is what a stage has trained, `folder/scored<t>` what is scored."""
    kind = methods.get(method)
    load, edit, stages = HFEngine.load, kind.edit_adapter, iter(range(100))

    def editing(self: Any, model: nn.Module, ctx: StageContext) -> None:
        model.save_pretrained(folder / f"adapter{ctx.stage}")  # type: ignore[operator]
        edit(self, model, ctx)

    def loading(engine: HFEngine, weights: Checkpoint, changes: Weights | None = None) -> None:
        write_checkpoint(folder / f"scored{next(stages)}", weights, overlaid(changes or {}, weights))
        load(engine, weights, changes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HFEngine, "load", loading)
        patch.setattr(kind, "edit_adapter", editing)
        return run(str(suite), method, out=folder / "run", settings=[*SUITE, *settings], device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_an_edit_of_files_equals_a_runs(name: str, suite: Path, tmp_path: Path) -> None:
    equals_a_runs(name, suite, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_16_BITS)
def test_an_edit_of_files_in_16_bits_equals_a_runs(name: str, suite_in_16_bits: Path, tmp_path: Path) -> None:
    equals_a_runs(name, suite_in_16_bits, tmp_path)

    for stage in (1, 2):
        assert {tensor.dtype for tensor in load_file(tmp_path / f"out{stage}" / "model.safetensors").values()} == {
            torch.bfloat16
        }


def equals_a_runs(name: str, suite: Path, tmp_path: Path) -> None:
    method, settings = name.partition(",")[0], METHODS[name]
    done = run_keeping_what_is_scored(suite, method, settings, tmp_path)

    for stage in (1, 2):
        question = asked_of_files(suite, done, stage, tmp_path / f"out{stage}", settings)
        record = adapt(question)

        assert record.layers and not question.work.exists()
        assert contents(question.out) == contents(tmp_path / f"scored{stage}")


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def contents(folder: Path) -> dict[str, bytes]:
    own = (RECORD, "SEAL.json")
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.name not in own}


BLOCK = [f"write {count}" for count in range(7)]
KILLED = {
    "hpa": [
        *("open journal.jsonl.partial", "os.rename journal.jsonl", "write 0", "open journal.jsonl"),
        *("write 10", "write 16", "write 30", "open config.json", "open adapt.json.partial", "os.rename adapt.json"),
        *("os.rename broken", "shutil.rmtree broken.unfinished", "os.remove journal.jsonl"),
    ],
    "magmax": ["os.rename block1.safetensors", "write 10", "write 30"],
    "model_tailor": ["write 10", "write 16"],
    "resta": ["write 10", "write 30"],
    "resta:apply=each": ["write 10", "write 30"],
    "safe_delta": ["write 16"],
    "safelora": ["open adapter_config.json", "os.rename adapter", "write 10", "write 30"],
    "ties": [
        *("os.rename block1.safetensors", "open model.safetensors.index.json.partial", "write 10", "write 22"),
        *("write 5", "write 12", "write 30"),
    ],
    # At every weight of three blocks of the one hook and of two of the other: the first of a block ends the one before.
    "two_hooks": [*BLOCK, *(["write 7", *BLOCK[1:]] * 4), "write 20"],
    "wise_ft": ["write 10", "write 30"],
}
"""By method: where it is killed, each time going on. A block has 7 layers, the model 3 blocks and 66 weights."""


@pytest.mark.faults
@pytest.mark.parametrize("method", KILLED)
def test_a_killed_edit_goes_on_and_ends_the_same(method: str, models: Path, tmp_path: Path) -> None:
    adapt(adaptation(models, tmp_path / "unbroken", method))
    asked = adaptation(models, tmp_path / "broken", method)

    goes_on_and_ends_the_same(asked, KILLED[method], tmp_path / "unbroken")


@pytest.mark.faults
@pytest.mark.parametrize("method", ["magmax", "ties"])
def test_a_killed_later_stage_leaves_the_state_of_earlier_ones(method: str, models: Path, tmp_path: Path) -> None:
    states = tmp_path / "unbroken state", tmp_path / "broken state"
    adapt(adaptation(models, tmp_path / "first", method, state=states[0]))
    shutil.copytree(*states)
    later = {"stage": 2, "start": str(models / "before"), "before": str(tmp_path / "first")}
    adapt(adaptation(models, tmp_path / "unbroken", method, state=states[0], **later))
    asked = adaptation(models, tmp_path / "broken", method, state=states[1], **later)

    places = ["os.rename block1.safetensors", "os.rename model.safetensors.index.json", "write 10", "write 30"]
    goes_on_and_ends_the_same(asked, places, tmp_path / "unbroken")

    left = [{path.relative_to(state): path.read_bytes() for path in files(state)} for state in states]
    assert left[0] == left[1]


def goes_on_and_ends_the_same(asked: Adaptation, places: list[str], unbroken: Path) -> None:
    for place in places:
        assert edit_in_process(asked, place) == -signal.SIGKILL, place
        assert asked.out.exists() == place.startswith(("shutil.rmtree", "os.remove"))
    assert edit_in_process(asked) == 0

    assert contents(asked.out) == contents(unbroken)
    assert not asked.work.exists()
    told = [EditManifest.read(each / RECORD).layers for each in (asked.out, unbroken)]
    assert told[0] == told[1]


@pytest.mark.slow
def test_what_is_finished_is_not_made_again(models: Path, tmp_path: Path) -> None:
    asked = adaptation(models, tmp_path / "out")
    assert edit_in_process(asked, "write 16") == -signal.SIGKILL
    written: list[str] = []

    adapt(asked, Watch(written=lambda done, total, name: written.append(name)))

    edited = [name for name in written if "language_model.layers" in name and "norm" not in name]
    assert len(edited) == 7 and all(".layers.2." in name for name in edited)


@pytest.mark.slow
@pytest.mark.parametrize("after", ["after", "adapter"])
def test_shards_tied_tensors_and_other_files_are_as_before(after: str, tmp_path: Path) -> None:
    models = write_models(tmp_path, max_shard_size="60KB")
    asked = adaptation(models, tmp_path / "out", after=str(models / after))

    record = adapt(asked)

    beside = {file.name for file in (models / "before").iterdir()}
    assert {file.name for file in asked.out.iterdir()} == {*beside, RECORD} and len(beside) > 6
    model = random_llava(layers=3)[0]
    before, edited, tuned = (Checkpoint(at, model) for at in (models / "before", asked.out, models / "after"))
    layers = [layer.name for layer in record.layers]
    assert layers == [f"{name}.weight" for name in find_decoder(model).linear_layers]
    for name in before:
        assert edited.form(name) == before.form(name)
        assert (name in layers) != torch.equal(edited[name], tuned[name])
    for layer in record.layers:
        kept = (edited[layer.name] == before[layer.name]).all(0)
        assert layer.kept == int(kept.sum()) > 0 and layer.columns == len(kept)


@pytest.mark.slow
@pytest.mark.parametrize("stored", ["model.embed_tokens.weight", "lm_head.weight"])
def test_a_tied_head_is_stored_once_as_it_was_before(stored: str, tmp_path: Path) -> None:
    """Also where the tuned model is stored under the other name of the two."""
    model, tokenizer = random_llama()
    model.config.tie_word_embeddings = True
    model = LlamaForCausalLM(model.config)
    model.save_pretrained(tmp_path / "before", max_shard_size="20KB")
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(0.1 * torch.randn_like(tensor))
    model.save_pretrained(tmp_path / "after")
    tuned = load_file(tmp_path / "after" / "model.safetensors")
    words = tuned.pop("model.embed_tokens.weight")
    save_file({**tuned, stored: words}, tmp_path / "after" / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(tmp_path / "before")
    write_rows(tmp_path / "rows.json", "harm", 6, REFUSAL, images=False)
    write_jsonl(tmp_path / "answers.jsonl", [{"id": f"harm{index}", "response": REFUSAL} for index in range(6)])
    rows, after = str(tmp_path / "rows.json"), str(tmp_path / "after")

    record = adapt(adaptation(tmp_path, tmp_path / "out", after=after, safety=rows, task=rows, unaligned=None))

    index = "model.safetensors.index.json"
    assert (tmp_path / "out" / index).read_bytes() == (tmp_path / "before" / index).read_bytes()
    places = json.loads((tmp_path / "out" / index).read_text())["weight_map"]
    assert len(set(places.values())) > 2 and set(places) == {*tuned, "model.embed_tokens.weight"}
    for file in set(places.values()):
        assert set(load_file(tmp_path / "out" / file)) == {name for name in places if places[name] == file}
    edited = LlamaForCausalLM.from_pretrained(tmp_path / "out")
    assert edited.lm_head.weight is edited.model.embed_tokens.weight and torch.equal(edited.lm_head.weight, words)
    layers = {layer.name for layer in record.layers}
    assert len(layers) == 14
    for name, tensor in tuned.items():
        assert torch.equal(edited.state_dict()[name], tensor) == (name not in layers)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["hpa", "model_tailor", "safelora", "ties"])
def test_a_gpu_holds_a_block_and_gives_the_same(method: str, models: Path, tmp_path: Path) -> None:
    settings = ["dtype=float32", "safety_samples=3", "task_samples=6"]
    on_cpu, on_gpu = (
        adaptation(models, tmp_path / device, method, device=device, settings=settings) for device in ("cpu", "cuda")
    )
    adapt(on_cpu)
    with simulated_gpu() as gpu:
        adapt(on_gpu)

    assert 0 == gpu.used < gpu.peak
    theirs = load_file(on_cpu.out / "model.safetensors")
    for name, tensor in load_file(on_gpu.out / "model.safetensors").items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_peak_of_memory_does_not_grow_with_the_blocks(tmp_path: Path) -> None:
    """At the widths of a 7B model; one layer of a block is edited, since to invert the H of the widest takes long."""
    peaks = [edited_peak(tmp_path, blocks, 4096, 11008, r"self_attn\.o_proj") for blocks in (2, 6)]

    block = 2 * (4 * 4096**2 + 3 * 4096 * 11008)
    assert 4 * block < peaks[0] < 10 * block, "two blocks of both checkpoints, one in float32, H, and Python"
    assert peaks[1] == pytest.approx(peaks[0], rel=0.05)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nor_where_every_layer_is_edited(tmp_path: Path) -> None:
    """At narrower widths, at which H of `down_proj`, and its inverse, can be had in seconds."""
    h, m = 1536, 3072
    peaks = [edited_peak(tmp_path, blocks, h, m, ".*") for blocks in (2, 6)]

    b = 4 * h**2 + 3 * h * m
    assert peaks[0] == pytest.approx(8 * b + 4 * (3 * h**2 + m**2) + 12 * m**2 + 6e8, rel=0.2), "as in docs/adapt.md"
    assert peaks[1] == pytest.approx(peaks[0], rel=0.05)


def edited_peak(folder: Path, blocks: int, hidden: int, mlp: int, layers: str) -> int:
    """Return the peak of a process that edits a Llama of these widths in bfloat16, in bytes."""
    at = folder / str(blocks)
    tokenizer = random_llama()[1]
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=mlp,
        num_hidden_layers=blocks,
        num_attention_heads=hidden // 128,
    )
    write_pair(LlamaForCausalLM, config, at, shard=10**9)
    tokenizer.save_pretrained(at / "before")
    write_rows(at / "rows.json", "harm", 2, REFUSAL, images=False)
    write_jsonl(at / "answers.jsonl", [{"id": f"harm{index}", "response": REFUSAL} for index in range(2)])
    asked = ["--before", at / "before", "--after", at / "after", "--out", at / "out", "--device", "cpu"]
    asked += ["--safety", at / "rows.json", "--task", at / "rows.json", "--answers", at / "answers.jsonl"]
    command = [sys.executable, "-m", "hpa_bench", "adapt", *map(str, asked), "--set", f"decoder.layers={layers}"]
    subprocess.run([*command, "--set", "cpu_threads=1"], check=True, stdout=subprocess.DEVNULL)
    peak = EditManifest.read(at / "out" / RECORD).peak_memory_bytes
    assert peak is not None
    shutil.rmtree(at)
    return peak
