"""The real vLLM says what Hugging Face says, greedily, whatever the weights; in bfloat16 nearly."""

from dataclasses import replace
from pathlib import Path
from statistics import mean

import pytest
import torch

import hpa_bench
from hpa_bench.engines.base import Request
from hpa_bench.engines.hf import HFEngine
from hpa_bench.engines.vllm_client import VLLMConfig
from hpa_bench.errors import UserError
from hpa_bench.models.loading import load_model
from hpa_bench.models.prompts import encode, prompt_ids, render_prompt
from hpa_bench.models.weights import Checkpoint
from tests.support.models import save_random_llava
from tests.support.real_vllm import (
    NEAR_TIE,
    NEAR_TIE_HALF,
    TINY,
    gap,
    gone,
    members,
    needs_vllm,
    tiny_requests,
    two_images,
    unexplained,
)

pytestmark = needs_vllm


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    from hpa_bench.engines.vllm import VLLMEngine

    engine = VLLMEngine(*load_model(TINY), folder=tmp_path_factory.mktemp("engine"))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def requests(engine):
    return [*tiny_requests(engine.processor), two_images(engine.processor)]


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """The weights after one and after two stages of real training."""
    folder = tmp_path_factory.mktemp("runs")
    found = []
    for tasks in ("[tiny_ad]", "[tiny_ad, tiny_fin]"):
        settings = [f"tasks={tasks}", "training.limit=200", "training.learning_rate=3e-3", "evaluation.limit=1"]
        settings += ["training.epochs=1"]
        run = hpa_bench.run(method="seqft", settings=settings, engine="hf", out=folder / str(len(found)))
        found.append(run.stage(len(found) + 1).weights)
    return found


def test_256_requests_stage_after_stage_and_back(engine, requests, stages):
    model, processor = engine.model, engine.processor
    said = []
    for folder in (TINY, *stages, TINY):
        engine.load(Checkpoint(folder, model))
        ours = engine.generate(requests)
        theirs = HFEngine(model, processor).generate(requests)

        assert unexplained(model, processor, requests, ours, theirs) == []
        assert sum(a == b for a, b in zip(ours, theirs, strict=True)) >= len(requests) - 3
        said.append(ours)

    assert len(requests) >= 256
    assert said[0] == said[3]
    assert all(sum(a != b for a, b in zip(said[0], other, strict=True)) > 20 for other in said[1:3]), "stages differ"


def test_in_bfloat16_the_two_are_near_enough(requests, stages, tmp_path):
    """A run on a GPU is in bfloat16, and so is what its probe compares."""
    from hpa_bench.engines.vllm import VLLMEngine
    from hpa_bench.engines.vllm_client import HALF_TOLERANCE

    model, processor = load_model(TINY, dtype="bfloat16")
    some = requests[::3]
    engine = VLLMEngine(model, processor, folder=tmp_path / "engine")
    try:
        for folder in (TINY, *stages):
            engine.load(Checkpoint(folder, model))
            ours, theirs = engine.generate(some), HFEngine(model, processor).generate(some)

            assert unexplained(model, processor, some, ours, theirs, NEAR_TIE_HALF) == []
            assert sum(a == b for a, b in zip(ours, theirs, strict=True)) >= len(some) - 5
            distances = [distance(engine, request) for request in some if request.images]
            assert len(distances) > 50 and 1e-3 < max(distances) < HALF_TOLERANCE
    finally:
        engine.close()


def distance(engine, request):
    """Return how far vLLM's log-probabilities of its likeliest tokens are from Hugging Face's on average, in nats."""
    (said,) = engine.client.probe(engine._prompt(replace(request, max_new_tokens=1, stop=())))
    inputs = encode(engine.processor, [request.prompt], [request.images])
    with torch.inference_mode():
        expected = engine.model(**inputs).logits[0, -1].float().log_softmax(dim=-1)
    return mean(abs(value - float(expected[token])) for token, value in said.items())


def test_weights_that_only_evaluation_sees(engine, requests):
    """As of RESTA: a checkpoint with some tensors exchanged, the tied embeddings and head among them."""
    checkpoint = Checkpoint(TINY, engine.model)
    changes = {name: tensor * 1.02 for name, tensor in checkpoint.items() if "mlp" in name or "embed_tokens" in name}
    engine.load(checkpoint, changes)
    theirs = HFEngine(engine.model, engine.processor).generate(requests)

    assert unexplained(engine.model, engine.processor, requests, engine.generate(requests), theirs) == []


def test_progress_and_equal_calls(engine, requests):
    engine.load(Checkpoint(TINY, engine.model))
    seen = []
    first = engine.generate(requests, lambda done, total: seen.append((done, total)))

    assert engine.generate(requests) == first
    assert [done for done, _ in seen] == list(range(1, len(requests) + 1))
    assert engine.generate([]) == []


def test_a_prompt_begins_once(engine):
    processor = engine.processor
    rendered = render_prompt(processor, "what is this ?")
    bos = processor.tokenizer.bos_token

    assert rendered.startswith(bos), "this template writes it"
    assert prompt_ids(processor, rendered).count(processor.tokenizer.bos_token_id) == 1


def test_a_difference_that_is_no_near_tie_is_found(engine):
    engine.load(Checkpoint(TINY, engine.model))
    request = two_images(engine.processor)
    (expected,) = engine.generate([request])

    assert gap(engine.model, engine.processor, request, "not " + expected) > NEAR_TIE
    assert len(unexplained(engine.model, engine.processor, [request], ["not " + expected], [expected])) == 1


def test_engines_side_by_side_and_untied_weights(tmp_path):
    """Two engines share the requests; the model is one that transformers 5 has just saved, with a head of its own."""
    from hpa_bench.engines.vllm import VLLMEngine

    folders = [save_random_llava(tmp_path / str(seed), seed=seed, hidden=128) for seed in (0, 1)]
    model, processor = load_model(folders[0])
    engine = VLLMEngine(model, processor, config=VLLMConfig(data_parallel_size=2), folder=tmp_path / "engine")
    requests = [
        Request(render_prompt(processor, "what colour is" + " this" * (i % 5)), max_new_tokens=12) for i in range(9)
    ]
    try:
        for folder in (*folders, folders[0]):
            engine.load(Checkpoint(folder, model))
            theirs = HFEngine(model, processor).generate(requests)

            assert unexplained(model, processor, requests, engine.generate(requests), theirs) == []
        groups = [process.pid for process in engine.client.processes]
    finally:
        engine.close()
    assert len(groups) == 2 and all(gone(group) for group in groups)


def test_more_gpus_than_there_are(tmp_path, monkeypatch):
    from hpa_bench.engines.vllm import VLLMEngine

    model, processor = load_model(TINY)
    engine = VLLMEngine(model, processor, config=VLLMConfig(tensor_parallel_size=4), folder=Path(tmp_path))
    engine.client.device = torch.device("cuda", 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")

    with pytest.raises(UserError, match=r"1 engines on 4 GPU\(s\) each, from GPU 1 on, but only 4 are visible"):
        engine.client.start()
    assert engine.client.processes == []


def test_one_engine_over_two_processes(requests, stages, tmp_path):
    """Tensor parallelism: each worker takes its share of every stage's weights."""
    from hpa_bench.engines.vllm import VLLMEngine

    model, processor = load_model(TINY)
    some = requests[::4]
    engine = VLLMEngine(model, processor, config=VLLMConfig(tensor_parallel_size=2), folder=tmp_path / "engine")
    try:
        for folder in (TINY, stages[1]):
            engine.load(Checkpoint(folder, model))
            theirs = HFEngine(model, processor).generate(some)

            assert unexplained(model, processor, some, engine.generate(some), theirs) == []
        group = engine.client.processes[0].pid
        assert len(members(group)) >= 3, "the engine and its two workers"
    finally:
        engine.close()
    assert gone(group)
