"""The other side of vLLM's processes (see `hpa_bench.engines.vllm_server`): started, talked to and ended here."""

from __future__ import annotations

import logging
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple, TypeVar

import torch
from pydantic import Field

from hpa_bench.engines.base import EngineConfig
from hpa_bench.engines.vllm_server import Prompt, Tensors
from hpa_bench.errors import UserError

T = TypeVar("T")
log = logging.getLogger(__name__)

CPU_CACHE_BYTES = 2**30
"""Keys and values on a CPU, where vLLM would otherwise take a share of the machine's memory at once."""
TOLERANCE = {"float32": 1e-3}
"""How far the probe's log-probabilities (nats) may be from Hugging Face's, on average of its tokens, by dtype."""
HALF_TOLERANCE = 0.3
"""The same in 16-bit dtypes: of 612 probes with the right weights none was over 0.2, of others' 84% are over 0.3."""
STEP = {"float32": 0.0}
"""What Hugging Face's log-probabilities must change by, in nats and by dtype, before vLLM's must have changed."""
HALF_STEP = 0.125
"""The same in 16-bit dtypes: a training that changes less may leave rounded logits as they were."""
SPARE = 0.03
"""The share of a GPU that is left free: vLLM's own context comes on top of what it is granted."""
START_SECONDS = 1800.0
"""The time limit of everything but generation: a large model is compiled, and its weights may lie on a slow disk."""
GRACE_SECONDS = 20.0
"""An idle engine that is told to end gets so long before it is killed."""
LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Variables of a distributed training, of which the engine is no part."""


class VLLMConfig(EngineConfig):
    """How vLLM is set up, where it generates."""

    tensor_parallel_size: int = Field(1, ge=1, le=1024)
    """GPUs that one engine is spread over."""
    data_parallel_size: int = Field(1, ge=1, le=1024)
    """Engines, each with its share of the requests."""
    gpu_memory_utilization: float = Field(0.85, gt=0, le=1)
    """The share of a GPU's memory that an engine takes while it generates."""
    max_model_len: int | None = Field(None, ge=1, le=2**30)
    """Tokens of a prompt and its response; by default what the model allows and the memory holds."""
    enforce_eager: bool = False
    """Do without compilation and CUDA graphs: a faster start, a slower engine. On a CPU always so."""
    timeout_seconds: float = Field(600, gt=0, le=604800)
    """An engine that finishes no request for so long is killed, and started again once."""
    probe_tolerance: float | None = Field(None, gt=0)
    """How far a probe's log-probabilities (nats) may be from Hugging Face's, on average of its likeliest tokens; by
    default 0.001 in float32, else 0.3."""


class Delivery(NamedTuple):
    """Weights as the engines get them, and how it is seen that they have them."""

    parts: list[Tensors]
    """Where the tensors are."""
    probe: Prompt
    """A prompt that every part of the model takes part in."""
    expected: list[float]
    """The log-probability of every token after it, by Hugging Face with the same weights."""


class Failure(Exception):
    """An engine did not do what it was told."""


class VLLMClient:
    """The vLLM engines of a run, each in a process of its own, from their start to their end.

    Args:
        checkpoint: the folder of the model; its configuration is read.
        dtype: of the weights, as vLLM names it.
        device: what vLLM computes on; of a GPU, the first of those that it gets.
        config: how vLLM is set up.
        folder: where the processes' logs are written.
    """

    def __init__(self, checkpoint: Path, dtype: str, device: torch.device, config: VLLMConfig, folder: Path) -> None:
        self.checkpoint = checkpoint
        self.dtype = dtype
        self.device = device
        self.config = config
        self.folder = folder
        self.processes: list[Process] = []
        """Those that run: none, or one a replica."""
        self.asleep = False
        self.tolerance = config.probe_tolerance or TOLERANCE.get(dtype, HALF_TOLERANCE)
        """How far a probe's log-probabilities (nats) may be from Hugging Face's, on average."""
        self.distance = 0.0
        """How far those of the last probe were, of the replica that was furthest."""
        self._said: tuple[list[float], list[dict[int, float]]] | None = None
        """What was expected of the engines that run now, and what they said."""

    def install(self, weights: Delivery) -> None:
        """Start the engines or wake them where needed, give every one the weights, and check that it has them.

        Raises:
            Failure: an engine fails, or holds other weights.
            UserError: vLLM cannot start.
        """
        if not self.processes:
            self.start()
        if self.asleep:
            self._each("wake")
            self.asleep = False
        self._each("load", weights.parts)
        answers = self.probe(weights.probe)
        distances = [mean(abs(value - weights.expected[token]) for token, value in each.items()) for each in answers]
        self.distance = max(distances)
        for distance in distances:
            if not distance <= self.tolerance:
                raise Failure(
                    f"a probe's log-probabilities are {distance:.3g} from Hugging Face's with the same weights"
                    f" (tolerance {self.tolerance:g}: evaluation.engines.vllm.probe_tolerance)"
                )
        if self._said and self._said[1] == answers:
            asked = {token for answer in answers for token in answer}
            moved = max(abs(weights.expected[token] - self._said[0][token]) for token in asked)
            if moved > STEP.get(self.dtype, HALF_STEP):
                raise Failure("it answers a probe exactly as with the weights before")
        self._said = weights.expected, answers

    def probe(self, prompt: Prompt) -> list[dict[int, float]]:
        """Return the log-probabilities (nats) of the most likely next tokens, by replica."""
        return self._each("probe", prompt)

    def generate(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, list[int] | str]]:
        """Yield the index and the new tokens of each prompt, whichever is done first; or why vLLM takes one not.

        Raises:
            Failure: an engine fails, or is silent for longer than its time limit.
        """
        replicas = len(self.processes)
        # A fixed share each, not whoever is free: see `enable_prefix_caching`.
        calls = [("generate", prompts[replica::replicas]) for replica in range(replicas)]
        for replica, (place, answer) in self._ask(calls):
            yield replica + place * replicas, answer

    def sleep(self) -> None:
        """Let the engines leave the GPU until the next `install`."""
        if not self.processes or self.asleep:
            return
        try:
            self._each("sleep")
            self.asleep = True
        except Failure as failure:
            log.warning("vLLM cannot sleep (%s); it will be started again.", failure)
            self.end()

    def twice(self, action: Callable[[], T]) -> T:
        """Do it; where an engine fails, start afresh and do it once more.

        Raises:
            UserError: it failed again.
        """
        try:
            try:
                return action()
            except Failure as failure:
                log.warning("vLLM: %s; restarting it once.", failure)
                self.end()
            return action()
        except BaseException as error:
            # What an engine would still answer must not be taken for the answer to a later call.
            self.end()
            if isinstance(error, Failure):
                raise self._given_up("failed twice", error) from error
            raise

    def start(self) -> None:
        """Start one process a replica, all at once.

        Raises:
            UserError: vLLM cannot start: no second try would change that.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for replica in range(self.config.data_parallel_size):
            log_file = self.folder / f"vllm-{replica}.log"
            environment = process_environment(self.device, self.config, replica)
            self.processes.append(Process(environment, log_file, self.config.timeout_seconds))
        try:
            self._each("start", llm_options(self.checkpoint, self.dtype, self.device, self.config))
        except Failure as failure:
            self.end()
            raise self._given_up("cannot start", failure) from failure

    def end(self, grace: float = 0.0) -> None:
        """End all processes, at once unless they are idle and get a time to leave by themselves, in seconds."""
        for process in self.processes:
            process.connection.close()
        for process in self.processes:
            process.end(grace)
        self.processes = []
        self.asleep = False
        self._said = None

    def _each(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of every engine; return what they answer, by replica."""
        answers = sorted(self._ask([(method, *arguments)] * len(self.processes)), key=lambda answer: answer[0])
        return [answer for _, answer in answers]

    def _ask(self, calls: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
        """Call every engine at once, and yield the replica and the answer as answers come.

        Raises:
            Failure: one fails or ends, or all that are still busy say nothing for the time limit.
        """
        limit = self.config.timeout_seconds if calls[0][0] == "generate" else START_SECONDS
        try:
            for process, call in zip(self.processes, calls, strict=True):
                process.connection.send(call)
            waiting: dict[Any, int] = {process.connection: index for index, process in enumerate(self.processes)}
            while waiting:
                ready: list[Any] = wait(list(waiting), limit)
                if not ready:
                    raise Failure(f"no answer to {calls[0][0]!r} for {limit:g} s")
                for connection in ready:
                    kind, value = connection.recv()
                    if kind == "failed":
                        raise Failure(value)
                    if kind == "done":
                        del waiting[connection]
                    else:
                        yield waiting[connection], value
        except (EOFError, OSError) as error:
            raise Failure(f"its process ended during {calls[0][0]!r}") from error

    def _given_up(self, what: str, failure: Failure) -> UserError:
        return UserError(f"vLLM {what}: {failure}. Its log is in {self.folder}; --engine hf does without it.")


class Process:
    """One process that holds a vLLM engine, and the socket to it.

    Args:
        environment: its environment variables.
        log: the file that what it prints is added to.
        timeout: seconds after which sending to it, or the rest of a message from it, is given up.
    """

    def __init__(self, environment: dict[str, str], log: Path, timeout: float) -> None:
        ours, theirs = socket.socketpair()
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(timeout), int(timeout % 1 * 1e6)))
        with theirs, log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hpa_bench.engines.vllm_server", str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,  # so that its workers can be ended with it, and Ctrl-C is ours alone
            )
        self.pid = self._process.pid
        """Its number, and that of its group."""
        self.connection = Connection(ours.detach())

    def end(self, grace: float) -> None:
        """Wait for the process so many seconds, then kill it, and whatever is left of its group."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(grace)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def llm_options(checkpoint: Path, dtype: str, device: torch.device, config: VLLMConfig) -> dict[str, Any]:
    """Return the arguments of `vllm.LLM`."""
    options: dict[str, Any] = {
        "model": str(checkpoint.resolve()),
        "load_format": "dummy",  # every weight comes by `load`, the first too
        "worker_extension_cls": "hpa_bench.engines.vllm_server.WorkerExtension",
        "dtype": dtype,
        "tensor_parallel_size": config.tensor_parallel_size,
        "distributed_executor_backend": "uni" if config.tensor_parallel_size == 1 else "mp",
        "max_model_len": config.max_model_len or -1,  # -1: as much as there is memory for
        "enforce_eager": config.enforce_eager,
        # Equal calls then make equal batches, whatever was asked before, and a resumed run the same responses.
        "enable_prefix_caching": False,
        "generation_config": "vllm",  # no sampling defaults of the checkpoint
        "seed": 0,
    }
    if device.type == "cpu":
        return options | {"kv_cache_memory_bytes": CPU_CACHE_BYTES, "enforce_eager": True}
    # As configured, or what a model or a sleeping engine leaves of the GPU.
    free, total = torch.cuda.mem_get_info(device)
    utilization = min(config.gpu_memory_utilization, free / total - SPARE)
    return options | {"gpu_memory_utilization": utilization, "enable_sleep_mode": True}


def process_environment(device: torch.device, config: VLLMConfig, replica: int) -> dict[str, str]:
    """Return the environment variables of a replica's process.

    Raises:
        UserError: the engines want more GPUs than are visible.
    """
    environment = {name: value for name, value in os.environ.items() if name not in LAUNCHER} | {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # our process is vLLM's engine core
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_NO_USAGE_STATS": "1",
    }
    if device.type == "cpu":
        return environment | {
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # other jobs may hold those cores
            "OMP_NUM_THREADS": str(torch.get_num_threads()),
        }
    listed = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    visible = listed.split(",") if listed else [str(index) for index in range(torch.cuda.device_count())]
    size, first = config.tensor_parallel_size, device.index or 0
    needed = first + size * config.data_parallel_size
    if needed > len(visible):
        raise UserError(
            f"evaluation.engines.vllm wants {config.data_parallel_size} engines on {size} GPU(s) each, from"
            f" GPU {first} on, but only {len(visible)} are visible:"
            " lower data_parallel_size or tensor_parallel_size."
        )
    mine = visible[first + replica * size : first + (replica + 1) * size]
    return environment | {"CUDA_VISIBLE_DEVICES": ",".join(mine)}
