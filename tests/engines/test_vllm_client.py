"""vLLM's processes without vLLM: their options, their environment, what they are sent, and how they end."""

import os
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import torch
from pydantic import ValidationError

from hpa_bench.engines.vllm_client import (
    CPU_CACHE_BYTES,
    LAUNCHER,
    Failure,
    Process,
    VLLMClient,
    VLLMConfig,
    llm_options,
    process_environment,
)
from hpa_bench.errors import UserError

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[VLLMClient]:
    """A client with one process, in which no engine is started."""
    config = VLLMConfig(timeout_seconds=0.3)
    client = VLLMClient(tmp_path / "model", "float32", CPU, config, tmp_path)
    client.processes.append(Process(process_environment(CPU, config, 0), tmp_path / "vllm-0.log", 30))
    yield client
    client.end()


@pytest.mark.parametrize(
    "options",
    [
        *({"tensor_parallel_size": 0}, {"data_parallel_size": 0}, {"gpu_memory_utilization": 0}),
        *({"gpu_memory_utilization": 1.1}, {"max_model_len": 0}, {"timeout_seconds": 0}, {"speed": 1}),
    ],
)
def test_options_that_cannot_be(options: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        VLLMConfig.model_validate(options)


def test_arguments_of_vllm_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = llm_options(Path("model"), "bfloat16", CPU, VLLMConfig(max_model_len=512, tensor_parallel_size=2))

    assert options["model"] == str(tmp_path.resolve() / "model") and options["dtype"] == "bfloat16"
    assert options["max_model_len"] == 512 and options["distributed_executor_backend"] == "mp"
    assert options["kv_cache_memory_bytes"] == CPU_CACHE_BYTES and options["enforce_eager"] is True
    assert options["load_format"] == "dummy" and options["enable_prefix_caching"] is False
    assert "gpu_memory_utilization" not in options
    alone = llm_options(Path("model"), "float32", CPU, VLLMConfig())
    assert alone["distributed_executor_backend"] == "uni" and alone["max_model_len"] == -1


@pytest.mark.parametrize(("free", "share"), [(80, 0.85), (40, 0.47)])
def test_a_gpu_that_is_partly_taken_gives_less(free: int, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 80))

    options = llm_options(Path("model"), "float32", GPU, VLLMConfig())

    assert options["gpu_memory_utilization"] == pytest.approx(share) and options["enable_sleep_mode"] is True
    assert options["enforce_eager"] is False and "kv_cache_memory_bytes" not in options


def test_an_engine_is_no_part_of_the_training_that_starts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCHER:
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("MINE", "kept")

    environment = process_environment(CPU, VLLMConfig(), 0)

    assert not set(LAUNCHER) & set(environment) and environment["MINE"] == "kept"
    assert environment["OMP_NUM_THREADS"] == str(torch.get_num_threads())
    assert environment["VLLM_NO_USAGE_STATS"] == "1"


def test_each_replica_has_gpus_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,5,3,1,0")
    config = VLLMConfig(tensor_parallel_size=2, data_parallel_size=2)

    assert [process_environment(GPU, config, replica)["CUDA_VISIBLE_DEVICES"] for replica in (0, 1)] == ["7,5", "3,1"]
    second = torch.device("cuda", 1)
    assert process_environment(second, config, 1)["CUDA_VISIBLE_DEVICES"] == "1,0"
    with pytest.raises(UserError, match=r"wants 2 engines on 2 GPU\(s\) each, from GPU 2 on, but only 5 are visible"):
        process_environment(torch.device("cuda", 2), config, 0)


@pytest.mark.slow
def test_a_failed_call_is_told_in_one_line_and_the_next_one_is_answered_for_itself(client: VLLMClient) -> None:
    with pytest.raises(Failure, match=r"^AttributeError: .*no attribute 'nothing'"):
        client._each("nothing")
    with pytest.raises(Failure, match=r"^TypeError: ") as caught:
        client._each("generate")
    assert "\n" not in str(caught.value)
    with pytest.raises(Failure, match="has no attribute 'llm_engine'"):
        list(client.generate([]))


@pytest.mark.slow
def test_a_silent_process_is_given_up_after_its_time_limit_and_nothing_of_it_is_left(client: VLLMClient) -> None:
    (process,) = client.processes
    os.kill(process.pid, signal.SIGSTOP)

    with pytest.raises(Failure, match=r"^no answer to 'generate' for 0\.3 s$"):
        list(client.generate([]))
    client.end()

    assert client.processes == [] and not psutil.pid_exists(process.pid)


@pytest.mark.slow
def test_a_process_that_is_killed_is_a_failure_and_twice_ends_it(client: VLLMClient, tmp_path: Path) -> None:
    (process,) = client.processes
    os.kill(process.pid, signal.SIGKILL)
    tries = []

    def ask() -> None:
        tries.append(len(client.processes))
        if client.processes:
            client._each("sleep")
        raise Failure("no process")

    with pytest.raises(UserError) as caught:
        client.twice(ask)

    assert tries == [1, 0], "the second try begins without the first one's process"
    assert str(caught.value) == (
        f"vLLM failed twice: no process. Its log is in {tmp_path}; --engine hf does without it."
    )


@pytest.mark.slow
@pytest.mark.skipif(find_spec("vllm") is not None, reason="vllm is installed here")
def test_where_vllm_cannot_start_all_its_processes_end(tmp_path: Path) -> None:
    client = VLLMClient(tmp_path, "float32", CPU, VLLMConfig(data_parallel_size=2), tmp_path / "engine")
    before = psutil.Process().children()

    with pytest.raises(UserError, match=r"^vLLM cannot start: ModuleNotFoundError: No module named 'vllm'\. Its log"):
        client.start()

    assert client.processes == [] and set(psutil.Process().children()) <= set(before)
    logs = [(tmp_path / "engine" / f"vllm-{index}.log").read_text() for index in (0, 1)]
    assert any("No module named 'vllm'" in log for log in logs), "the one that is not first may have been ended before"
