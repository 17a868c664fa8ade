"""Engines that die, hang or hold wrong weights, and runs that end in every way: real processes, really killed."""

import logging
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from hpa_bench.engines import vllm
from hpa_bench.engines.base import Request
from hpa_bench.engines.hf import HFEngine
from hpa_bench.engines.vllm_client import VLLMConfig
from hpa_bench.errors import UserError
from hpa_bench.models.loading import load_model
from hpa_bench.models.weights import Checkpoint
from tests.support.real_vllm import TINY, gone, needs_vllm, tiny_requests

pytestmark = needs_vllm
LIMIT = 15.0
"""Seconds of silence; the requests take one."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    model, processor = load_model(TINY)
    engine = vllm.VLLMEngine(
        model, processor, config=VLLMConfig(timeout_seconds=LIMIT), folder=tmp_path_factory.mktemp("engine")
    )
    engine.load(Checkpoint(TINY, model))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def requests(engine):
    return tiny_requests(engine.processor, 24)


@pytest.fixture
def expected(engine, requests):
    return HFEngine(engine.model, engine.processor).generate(requests)


def process_of(engine) -> int:
    return engine.client.processes[0].pid


def test_a_killed_engine_is_restarted_once_and_answers(engine, requests, expected, caplog):
    before = process_of(engine)
    os.kill(before, signal.SIGKILL)
    with caplog.at_level(logging.WARNING):
        assert engine.generate(requests) == expected

    assert [record.getMessage() for record in caplog.records] == [
        "vLLM: its process ended during 'generate'; 24 of 24 requests are not answered, the first is"
        f" {requests[0].prompt[:100]!r}; restarting it once."
    ]
    assert process_of(engine) != before and gone(before)


def test_a_silent_engine_is_killed_at_the_time_limit_and_restarted(engine, requests, expected, caplog):
    before = process_of(engine)
    os.kill(before, signal.SIGSTOP)
    begun = time.monotonic()

    assert engine.generate(requests) == expected
    assert time.monotonic() - begun > LIMIT
    assert f"no answer to 'generate' for {LIMIT:g} s" in caplog.text
    assert process_of(engine) != before and gone(before)


def test_wrong_weights_are_found_by_the_probe(engine, monkeypatch, caplog):
    stage = TINY.parent / "unaligned"
    right = vllm.tensors_of(Checkpoint(TINY, engine.model), {}, engine._changes)
    monkeypatch.setattr(vllm, "tensors_of", lambda *_: right)

    with pytest.raises(UserError, match="vLLM failed twice: a probe's log-probabilities are .* from Hugging Face's"):
        engine.load(Checkpoint(stage, engine.model))
    assert "restarting it once" in caplog.text


def test_old_weights_are_found_even_where_they_are_close(engine, requests, monkeypatch, caplog):
    checkpoint = Checkpoint(TINY, engine.model)
    engine.load(checkpoint)
    old = vllm.tensors_of(checkpoint, {}, engine._changes)
    monkeypatch.setattr(vllm, "tensors_of", lambda *_: old)
    before = process_of(engine)

    engine.load(checkpoint, {name: tensor * (1 + 1e-6) for name, tensor in checkpoint.items() if "mlp" in name})

    assert "it answers a probe exactly as with the weights before; restarting it once" in caplog.text
    assert process_of(engine) != before


def test_a_prompt_that_is_too_long_is_named_at_once(engine, requests):
    endless = Request("how " + requests[1].prompt * 300, max_new_tokens=4)

    with pytest.raises(UserError, match=r"does not take the prompt that begins 'how <s><user>.*context length is 256"):
        engine.generate([requests[0], endless])


def test_a_second_failure_is_an_error(engine):
    requests = tiny_requests(engine.processor)
    answers = []

    def kill(done, total):
        answers.append(done)
        os.kill(process_of(engine), signal.SIGKILL)

    with pytest.raises(UserError, match="vLLM failed twice: its process ended .* of 256 .*--engine hf does without"):
        engine.generate(requests, kill)
    assert engine.client.processes == []
    assert 2 <= len(answers) < 256, "both tries got somewhere"


@pytest.mark.parametrize(
    ("number", "when"),
    [
        (signal.SIGINT, "engine/vllm-0.log"),
        (signal.SIGKILL, "engine/vllm-0.log"),
        (signal.SIGTERM, "stage0/responses/*.jsonl"),
    ],
)
def test_nothing_is_left_of_a_run_that_is_stopped(tmp_path, number, when):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "hpa_bench", "run", "--method", "seqft", "--engine", "vllm", "--out", str(run)]
    command += ["--set", "evaluation.limit=4"]
    # Where the tests are a shell's background job they ignore SIGINT, and so would the run.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not any(run.glob(when)):
        time.sleep(0.05)
    engines = [child.pid for child in psutil.Process(process.pid).children() if os.getpgid(child.pid) == child.pid]
    process.send_signal(number)

    assert process.wait(60) == (130 if number == signal.SIGINT else -number)
    assert len(engines) == 1 and gone(engines[0])
