"""Each tested architecture through a whole run of two tasks: images of different sizes, and rows without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from hpa_bench import run
from hpa_bench.data.samples import Sample
from hpa_bench.data.tasks import check_task, load_tasks, training_samples
from hpa_bench.engines.base import Request
from hpa_bench.engines.hf import HFEngine
from hpa_bench.files import read_jsonl
from hpa_bench.hpa import keep_percent_at
from hpa_bench.method import Method
from hpa_bench.models.activations import ActivationStream
from hpa_bench.models.decoder import find_decoder
from hpa_bench.models.loading import load_model
from hpa_bench.models.prompts import end_of_turn, render_prompt, training_batch
from hpa_bench.models.weights import Checkpoint
from hpa_bench.results.run_folder import RunFolder, StageFolder
from hpa_bench.runner.training import Training, train
from hpa_bench.suite import TrainingConfig
from tests.support.architectures import ARCHITECTURES, LAYERS, Architecture, save
from tests.support.simulated_gpu import simulated_gpu
from tests.support.suites import REFUSAL, teach, write_suite

pytestmark = pytest.mark.slow

LINEAR = [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
IMAGES = [Image.new("RGB", size, "red") for size in ((30, 24), (70, 20), (10, 13), (90, 110))]


class Finished(NamedTuple):
    """An architecture's aligned checkpoint, and its runs."""

    architecture: Architecture
    folder: Path
    model: Path
    runs: dict[str, RunFolder]

    def weights(self, method: str, stage: int) -> dict[str, torch.Tensor]:
        folder = self.runs[method].stage(stage).weights if stage else self.model
        return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp(request.param)
    suite = write_suite(
        folder,
        text_only=True,
        calibration={"safety_set": "refusals", "safety_samples": 2, "task_samples": 8},
        training={"learning_rate": 1e-3, "batch_size": 4, "epochs": 1, "limit": 8},
        evaluation={"limit": 4},
    )
    path = save(request.param, folder / "model")
    model, processor = load_model(path)
    teach(model, processor, training_samples(load_tasks(["refusals"], [folder / "tasks"])["refusals"]), until=0.25)
    model.save_pretrained(path)
    with pytest.MonkeyPatch.context() as patch:
        # Every stage's weights are looked at.
        patch.setattr(StageFolder, "drop_weights", lambda stage: None)
        runs = {method: run(str(suite), method, out=folder / method, device="cpu") for method in ("seqft", "hpa")}
    return Finished(ARCHITECTURES[request.param], folder, path, runs)


def decoder_weights(architecture: Architecture) -> set[str]:
    return {f"{architecture.blocks}.{layer}.{name}.weight" for layer in range(LAYERS) for name in LINEAR}


@pytest.mark.parametrize("stage", [1, 2])
def test_lora_changes_the_decoders_linear_layers_and_nothing_else(finished: Finished, stage: int) -> None:
    before, after = finished.weights("seqft", stage - 1), finished.weights("seqft", stage)

    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}

    assert before.keys() == after.keys()
    assert changed == decoder_weights(finished.architecture)


def test_the_blocks_are_the_text_models(finished: Finished) -> None:
    model, _ = load_model(finished.model)

    blocks = model.get_submodule(find_decoder(model).prefix)

    assert len(blocks) == model.config.get_text_config().num_hidden_layers == LAYERS


@pytest.mark.parametrize("stage", [1, 2])
def test_hpa_keeps_its_columns_of_each_layer(finished: Finished, stage: int) -> None:
    before, after = finished.weights("hpa", stage - 1), finished.weights("hpa", stage)

    for layer in range(LAYERS):
        for name in LINEAR:
            weight = f"{finished.architecture.blocks}.{layer}.{name}.weight"
            kept = (after[weight] == before[weight]).all(dim=0)
            share = keep_percent_at(layer, LAYERS, 15, 5) / 100
            assert kept.sum() == round(share * len(kept)), weight
    assert {name for name in after if not torch.equal(after[name], before[name])} == decoder_weights(
        finished.architecture
    )


def test_a_gpu_computes_what_the_cpu_does(finished: Finished, tmp_path: Path) -> None:
    suite, settings = str(finished.folder / "small.yaml"), ["training.dtype=float32", "training.workers=0"]
    with simulated_gpu():
        done = run(suite, "hpa", settings=settings, out=tmp_path / "run", device="cuda")

    ours, theirs = load_file(done.stage(2).weights / "model.safetensors"), finished.weights("hpa", 2)
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-5)


def test_a_written_checkpoint_loads_with_transformers_alone_and_answers_as_the_run_did(finished: Finished) -> None:
    stage = finished.runs["hpa"].stage(2)
    recorded = {row["id"]: row["response"] for row in read_jsonl(stage.path / "responses" / "colours.jsonl")}

    _, loading = AutoModelForImageTextToText.from_pretrained(stage.weights, output_loading_info=True)
    model, processor = load_model(stage.weights)
    samples = check_task(load_tasks(["colours"], [finished.folder / "tasks"])["colours"], "test")[: len(recorded)]
    asked = [Request(render_prompt(processor, sample.prompt), sample.images, 6) for sample in samples]

    assert not any(loading.values()), loading
    assert {len(sample.images) for sample in samples} == {0, 1}
    answers = HFEngine(model, processor).generate(asked)
    assert recorded == {sample.id: answer for sample, answer in zip(samples, answers, strict=True)}


def requests(processor: Any, tokens: int = 8) -> list[Request]:
    """Return questions about no image, one image and two, of different sizes."""
    asked = [("<image>\nwhat colour is this ?", [image]) for image in IMAGES]
    asked += [("<image>\nhow many <image> are there ?", IMAGES[1:3]), ("how many ?", []), ("is this red there ?", [])]
    return [Request(render_prompt(processor, prompt), images, tokens) for prompt, images in asked]


def test_a_batch_generates_what_each_request_does_alone(finished: Finished) -> None:
    model, processor = load_model(finished.runs["seqft"].stage(2).weights)

    together = HFEngine(model, processor, batch_size=8).generate(requests(processor))
    alone = HFEngine(model, processor, batch_size=1).generate(requests(processor))

    assert together == alone


def test_generation_stops_where_training_says_an_answer_ends(finished: Finished) -> None:
    model, processor = load_model(finished.model)
    sample = Sample("1", "refusals", "<image>\nhow is this ?", REFUSAL, IMAGES[:1])

    last = training_batch(processor, [sample])["labels"][0, -1]
    prompt = render_prompt(processor, sample.prompt)
    response = HFEngine(model, processor).generate([Request(prompt, sample.images, 30)])

    assert processor.tokenizer.convert_ids_to_tokens([end_of_turn(processor)]) == [finished.architecture.end_of_turn]
    assert last == end_of_turn(processor)
    assert response == [REFUSAL]


def mixed() -> list[Sample]:
    """Return training samples without an image, with one and with two, of one and of two exchanges."""
    return [
        Sample("1", "t", "how many ?", "two", []),
        Sample("2", "t", "<image>\nwhat colour is this ?", "red", IMAGES[:1]),
        Sample("3", "t", "<image>\nis <image> the red one ?", "no", IMAGES[1:3]),
        Sample("4", "t", "<image>\nis this there ?", "yes , it is", IMAGES[3:], [("what colour is this ?", "red")]),
    ]


def test_a_mixed_batch_has_the_loss_of_its_rows(finished: Finished) -> None:
    model, processor = load_model(finished.model)

    def loss_sum(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return model(**batch).loss * (batch["labels"][:, 1:] != -100).sum()

    with torch.no_grad():
        together = loss_sum(training_batch(processor, mixed()))
        apart = sum(loss_sum(training_batch(processor, [sample])) for sample in mixed())
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)


def test_a_step_weighs_its_tokens_alike_however_it_is_split(finished: Finished, tmp_path: Path) -> None:
    def loss(size: int) -> float:
        model, processor = load_model(finished.model)
        wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=find_decoder(model).linear_layers))
        config = TrainingConfig(batch_size=size, gradient_accumulation=4 // size, epochs=1)
        found: list[float] = []
        training = Training(Method(), processor, config, seed=0, folder=tmp_path / str(size), where="stage 1")
        train(wrapped, mixed(), training, lambda step: found.append(step.loss))
        return found[0]

    assert len({len(sample.target.split()) for sample in mixed()}) > 1
    assert loss(1) == pytest.approx(loss(4), rel=1e-4) == pytest.approx(loss(2), rel=1e-4)


@torch.no_grad()
def test_moments_block_by_block_are_those_of_the_whole_model(finished: Finished) -> None:
    model, processor = load_model(finished.model)
    weights = Checkpoint(finished.model, model)
    inputs: dict[str, list[torch.Tensor]] = {}

    def note(name: str) -> Any:
        return lambda _, args: inputs.setdefault(name, []).append(args[0].flatten(0, -2))

    stream = ActivationStream(model, weights, [training_batch(processor, mixed())])
    streamed = [stream.second_moments(block) for block in range(LAYERS)]
    hooks = [
        model.get_submodule(name).register_forward_pre_hook(note(name))
        for block in find_decoder(model).layers
        for name in block
    ]
    for sample in mixed():
        model(**training_batch(processor, [sample]))
    for hook in hooks:
        hook.remove()

    assert {name for block in streamed for name in block} == set(inputs)
    for block in streamed:
        for name, moments in block.items():
            x = torch.cat(inputs[name]).double()
            expected = 2 * x.T @ x / len(x)
            scale = float(expected.abs().max())
            torch.testing.assert_close(moments.double(), expected, rtol=1e-3, atol=1e-4 * scale, msg=name)


def test_an_answer_depends_on_the_image(finished: Finished) -> None:
    model, processor = load_model(finished.model)
    red, blue = (
        training_batch(
            processor, [Sample("1", "t", "<image>\nwhat is this ?", "red", [Image.new("RGB", (40, 30), colour)])]
        )
        for colour in ("red", "blue")
    )

    with torch.no_grad():
        assert not torch.equal(model(**red).loss, model(**blue).loss)
