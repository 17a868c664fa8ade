"""Generation by vLLM: one engine for a whole run, in a process of its own, given each stage's weights in place."""

from __future__ import annotations

import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from pydantic import Field

from hpa_bench.data.samples import PLACEHOLDER
from hpa_bench.engines.base import Engine, EngineConfig, Progress, Request
from hpa_bench.engines.hf import cut, end_tokens, eval_mode
from hpa_bench.engines.vllm_server import Prompt, Tensors
from hpa_bench.errors import UserError
from hpa_bench.models.loading import checkpoint_folder
from hpa_bench.models.prompts import encode, prompt_ids, render_prompt, tokenizer_of
from hpa_bench.models.weights import Checkpoint

if TYPE_CHECKING:
    from torch import Tensor

    from hpa_bench.models.weights import Weights

T = TypeVar("T")
log = logging.getLogger(__name__)

CHUNK = 1024
"""Requests that all engines together are given at a time: their images are copied to them."""
CPU_CACHE_BYTES = 2**30
"""Keys and values on a CPU, where vLLM would otherwise take a share of the machine's memory at once."""
TOLERANCE = {"float32": 1e-3}
"""How far the probe's log-probabilities (nats) may be from Hugging Face's, by dtype."""
HALF_TOLERANCE = 0.5
"""The same in 16-bit dtypes: logits of 16 and more are rounded to steps of 1/8."""
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

    tensor_parallel_size: int = Field(1, ge=1)
    """GPUs that one engine is spread over."""
    data_parallel_size: int = Field(1, ge=1)
    """Engines, each with its share of the requests."""
    gpu_memory_utilization: float = Field(0.85, gt=0, le=1)
    """The share of a GPU's memory that an engine takes while it generates."""
    max_model_len: int | None = Field(None, ge=1)
    """Tokens of a prompt and its response; by default what the model allows and the memory holds."""
    enforce_eager: bool = False
    """Do without compilation and CUDA graphs: a faster start, a slower engine. On a CPU always so."""
    timeout_seconds: float = Field(600, gt=0)
    """An engine that finishes no request for so long is killed, and started again once."""
    probe_tolerance: float | None = Field(None, gt=0)
    """How far a probe's log-probabilities (nats) may be from Hugging Face's; by default 0.001 in float32, else 0.5."""


class VLLMEngine(Engine):
    """Generates with vLLM, greedily, whatever weights it was given last; the batches are vLLM's own.

    Its processes start with the first `load` and live until `close`. On a GPU they and the model take turns: from
    `load` to `release` the model is in the CPU's memory; otherwise the engine sleeps and holds no weights.

    Args:
        model: the Hugging Face model, loaded from a folder or the hub. It gives the configuration, the dtype, the
            device, and what a probe must say.
        processor: its processor, or its tokenizer.
        batch_size: ignored; it is Hugging Face's.
        config: how vLLM is set up.
        folder: where logs and changed weights are written; by default a temporary folder.
    """

    Config: ClassVar[type[EngineConfig]] = VLLMConfig

    def __init__(
        self,
        model: Any,
        processor: Any,
        batch_size: int = 64,
        *,
        config: VLLMConfig | None = None,
        folder: Path | None = None,
    ) -> None:
        self.check()
        self.model = model
        self.processor = processor
        self.config = config or VLLMConfig()
        self._at_close = ExitStack()
        self._folder = folder or Path(self._at_close.enter_context(tempfile.TemporaryDirectory(prefix="hpa-bench-")))
        self._device = model.device
        self._dtype = str(model.dtype).removeprefix("torch.")
        self._ends = end_tokens(model, processor)
        self._processes: list[_Process] = []
        self._asleep = False
        self._parts: list[Tensors] = []
        self._expected: list[float] = []
        """The log-probability of every token after the probe, by Hugging Face with the weights last loaded."""
        self._said: tuple[list[float], list[dict[int, float]]] | None = None
        """What was expected of the engines that run now, and what they said."""

    @classmethod
    def check(cls) -> None:
        """Refuse where vLLM is not installed."""
        if find_spec("vllm") is None:
            raise UserError("Engine 'vllm' is not installed: run `pip install vllm`, or choose --engine hf.")

    @classmethod
    def for_run(cls, model: Any, processor: Any, *, batch_size: int, config: Any, folder: Path) -> Self:
        """Return the engine of a run (see `Engine.for_run`)."""
        return cls(model, processor, config=config, folder=folder)

    @classmethod
    def open(cls, path: str | Path, *, device: str = "auto", dtype: str | None = None, batch_size: int = 64) -> Self:
        """Return an engine with a checkpoint of its own (see `Engine.open`)."""
        cls.check()
        engine = super().open(path, device=device, dtype=dtype, batch_size=batch_size)
        engine.load(Checkpoint(checkpoint_folder(str(path)), engine.model))
        return engine

    def load(self, checkpoint: Checkpoint, changes: Weights | None = None) -> None:
        """Take new weights, in the model and in vLLM, and prove by a probe that vLLM generates with them.

        If vLLM cannot take them, or the probe disagrees, it is restarted once.

        Raises:
            UserError: vLLM cannot start, or cannot take the weights.
        """
        super().load(checkpoint, changes)
        self._parts = self._files(checkpoint, changes or {})
        self._expected = self._hf_probe()
        self._yield_gpu()
        self._twice(self._install)

    def generate(self, requests: Sequence[Request], on_progress: Progress | None = None) -> list[str]:
        """Return one response a request, in their order, without surrounding white space.

        Raises:
            UserError: a prompt is too long; or an engine failed, or was silent for longer than its time limit, twice.
        """
        answered: dict[int, list[int]] = {}

        def answer() -> None:
            if not self._processes:
                self._install()
            left = [index for index in range(len(requests)) if index not in answered]
            try:
                for start in range(0, len(left), CHUNK):
                    for index, tokens in self._answers(requests, left[start : start + CHUNK]):
                        answered[index] = tokens
                        if on_progress:
                            on_progress(len(answered), len(requests))
            except _Failure as failure:
                first = next(request.prompt for index, request in enumerate(requests) if index not in answered)
                unanswered = f"{len(requests) - len(answered)} of {len(requests)} requests are not answered"
                raise _Failure(f"{failure}; {unanswered}, the first is {first[:100]!r}") from failure

        if not self._parts:
            raise RuntimeError("load() comes before generate()")
        self._twice(answer)
        decode = tokenizer_of(self.processor).decode
        texts = (decode(answered[index], skip_special_tokens=True) for index in range(len(requests)))
        return [cut(text, request.stop).strip() for text, request in zip(texts, requests, strict=True)]

    def release(self) -> None:
        """Give the GPU back to the model; the next `load` wakes the engine."""
        if self._device.type == "cpu":
            return
        if self._processes and not self._asleep:
            try:
                self._each("sleep")
                self._asleep = True
            except _Failure as failure:
                log.warning("vLLM cannot sleep (%s); it will be started again.", failure)
                self._end()
        self.model.to(self._device)

    def close(self) -> None:
        """End the engine; nothing of it is left running."""
        self._end(GRACE_SECONDS)
        self._changes.unlink(missing_ok=True)
        self._at_close.close()

    @property
    def _changes(self) -> Path:
        return self._folder / "changes.safetensors"

    def _files(self, checkpoint: Checkpoint, changes: Weights) -> list[Tensors]:
        """Return where the tensors are; changed ones are written to a file, under the checkpoint's names for them."""
        from safetensors.torch import save_file

        names: dict[str, list[str]] = {}
        for name, (file, stored_name) in checkpoint.places.items():
            if name not in changes:
                names.setdefault(str(checkpoint.folder.resolve() / file), []).append(stored_name)
        if changes:
            self._folder.mkdir(parents=True, exist_ok=True)
            changed = {checkpoint.places[name][1]: tensor.contiguous().cpu() for name, tensor in changes.items()}
            save_file(changed, self._changes, metadata={"format": "pt"})
            names[str(self._changes.resolve())] = list(changed)
        return [Tensors(file, inside) for file, inside in names.items()]

    def _yield_gpu(self) -> None:
        if self._device.type == "cpu":
            return
        import gc

        import torch

        self.model.to("cpu")
        gc.collect()  # a trainer is a cycle, and would keep its part of the GPU
        torch.cuda.empty_cache()

    def _install(self) -> None:
        """Give every engine the current weights, and check that it has them."""
        if not self._processes:
            self._start()
        if self._asleep:
            self._each("wake")
            self._asleep = False
        self._each("load", self._parts)
        answers = [answer for _, answer in self._each("probe", self._prompt(self._probe))]
        tolerance = self.config.probe_tolerance or TOLERANCE.get(self._dtype, HALF_TOLERANCE)
        for answer in answers:
            distance = max(abs(value - self._expected[token]) for token, value in answer.items())
            if not distance <= tolerance:
                raise _Failure(
                    f"a probe's log-probabilities are {distance:.3g} from Hugging Face's with the same weights"
                    f" (tolerance {tolerance:g}: evaluation.engines.vllm.probe_tolerance)"
                )
        if self._said and self._said[1] == answers and self._said[0] != self._expected:
            raise _Failure("it answers a probe exactly as with the weights before")
        self._said = self._expected, answers

    def _twice(self, action: Callable[[], T]) -> T:
        """Do it; where an engine fails, start afresh and do it once more."""
        try:
            try:
                return action()
            except _Failure as failure:
                log.warning("vLLM: %s; restarting it once.", failure)
                self._end()
            return action()
        except BaseException as error:
            # What an engine would still answer must not be taken for the answer to a later call.
            self._end()
            if isinstance(error, _Failure):
                raise self._given_up("failed twice", error) from error
            raise

    def _given_up(self, what: str, failure: _Failure) -> UserError:
        return UserError(f"vLLM {what}: {failure}. Its log is in {self._folder}; --engine hf does without it.")

    def _start(self) -> None:
        """Start one process a replica, all at once.

        Raises:
            UserError: vLLM cannot start: no second try would change that.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        for replica in range(self.config.data_parallel_size):
            log_file = self._folder / f"vllm-{replica}.log"
            self._processes.append(_Process(self._environment(replica), log_file, self.config.timeout_seconds))
        try:
            self._each("start", self._options())
        except _Failure as failure:
            self._end()
            raise self._given_up("cannot start", failure) from failure

    def _options(self) -> dict[str, Any]:
        """Return the arguments of `vllm.LLM`."""
        config = self.config
        options: dict[str, Any] = {
            "model": str(checkpoint_folder(self.model.name_or_path).resolve()),
            "load_format": "dummy",  # every weight comes by `load`, the first too
            "worker_extension_cls": "hpa_bench.engines.vllm_server.WorkerExtension",
            "dtype": self._dtype,
            "tensor_parallel_size": config.tensor_parallel_size,
            "distributed_executor_backend": "uni" if config.tensor_parallel_size == 1 else "mp",
            "max_model_len": config.max_model_len or -1,  # -1: as much as there is memory for
            "enforce_eager": config.enforce_eager,
            # Equal calls then make equal batches, whatever was asked before, and a resumed run the same responses.
            "enable_prefix_caching": False,
            "generation_config": "vllm",  # no sampling defaults of the checkpoint
            "seed": 0,
        }
        if self._device.type == "cpu":
            return options | {"kv_cache_memory_bytes": CPU_CACHE_BYTES, "enforce_eager": True}
        return options | {"gpu_memory_utilization": self._utilization(), "enable_sleep_mode": True}

    def _utilization(self) -> float:
        """Return the share of the GPU to ask for: as configured, or what a model or a sleeping engine leaves of it."""
        import torch

        free, total = torch.cuda.mem_get_info(self._device)
        return min(self.config.gpu_memory_utilization, free / total - SPARE)

    def _environment(self, replica: int) -> dict[str, str]:
        import torch

        environment = {name: value for name, value in os.environ.items() if name not in LAUNCHER} | {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # our process is vLLM's engine core
            "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
            "VLLM_NO_USAGE_STATS": "1",
        }
        if self._device.type == "cpu":
            return environment | {
                "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # other jobs may hold those cores
                "OMP_NUM_THREADS": str(torch.get_num_threads()),
            }
        listed = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        visible = listed.split(",") if listed else [str(index) for index in range(torch.cuda.device_count())]
        size, first = self.config.tensor_parallel_size, self._device.index or 0
        needed = first + size * self.config.data_parallel_size
        if needed > len(visible):
            raise UserError(
                f"evaluation.engines.vllm wants {self.config.data_parallel_size} engines on {size} GPU(s) each, from"
                f" GPU {first} on, but only {len(visible)} are visible:"
                " lower data_parallel_size or tensor_parallel_size."
            )
        mine = visible[first + replica * size : first + (replica + 1) * size]
        return environment | {"CUDA_VISIBLE_DEVICES": ",".join(mine)}

    def _each(self, method: str, *arguments: Any) -> list[tuple[int, Any]]:
        """Call a method of every engine; return what they answer, by replica."""
        return sorted(self._ask([(method, *arguments)] * len(self._processes)), key=lambda answer: answer[0])

    def _answers(self, requests: Sequence[Request], indices: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
        """Yield the index and the new tokens of requests, whichever is done first."""
        replicas = len(self._processes)
        # A fixed share each, not whoever is free: see `enable_prefix_caching`.
        shares = [indices[replica::replicas] for replica in range(replicas)]
        calls = [("generate", [self._prompt(requests[index]) for index in share]) for share in shares]
        for replica, (place, answer) in self._ask(calls):
            index = shares[replica][place]
            if isinstance(answer, str):
                prompt = requests[index].prompt
                raise UserError(f"vLLM does not take the prompt that begins {prompt[:100]!r}: {answer}")
            yield index, answer

    def _ask(self, calls: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
        """Call every engine at once, and yield the replica and the answer as answers come.

        Raises:
            _Failure: one fails or ends, or all that are still busy say nothing for the time limit.
        """
        limit = self.config.timeout_seconds if calls[0][0] == "generate" else START_SECONDS
        try:
            for process, call in zip(self._processes, calls, strict=True):
                process.connection.send(call)
            waiting: dict[Any, int] = {process.connection: index for index, process in enumerate(self._processes)}
            while waiting:
                ready: list[Any] = wait(list(waiting), limit)
                if not ready:
                    raise _Failure(f"no answer to {calls[0][0]!r} for {limit:g} s")
                for connection in ready:
                    kind, value = connection.recv()
                    if kind == "failed":
                        raise _Failure(value)
                    if kind == "done":
                        del waiting[connection]
                    else:
                        yield waiting[connection], value
        except (EOFError, OSError) as error:
            raise _Failure(f"its process ended during {calls[0][0]!r}") from error

    def _end(self, grace: float = 0.0) -> None:
        """End all processes, at once unless they are idle and get a time to leave by themselves, in seconds."""
        for process in self._processes:
            process.connection.close()
        for process in self._processes:
            process.end(grace)
        self._processes = []
        self._asleep = False
        self._said = None

    def _prompt(self, request: Request) -> Prompt:
        images = [image if image.mode == "RGB" else image.convert("RGB") for image in request.images]
        ids = prompt_ids(self.processor, request.prompt)
        return Prompt(ids, images, request.max_new_tokens, request.stop, self._ends)

    @property
    def _probe(self) -> Request:
        """A request that every part of the model takes part in."""
        from PIL import Image

        if tokenizer_of(self.processor) is self.processor:
            # Not by its chat template: a guard's may take other turns than a question's.
            return Request("What is this?", max_new_tokens=1)
        picture = Image.linear_gradient("L").convert("RGB")
        return Request(render_prompt(self.processor, f"{PLACEHOLDER} What is this?"), [picture], max_new_tokens=1)

    def _hf_probe(self) -> list[float]:
        import torch

        inputs: dict[str, Tensor] = encode(self.processor, [self._probe.prompt], [self._probe.images])
        with eval_mode(self.model), torch.inference_mode():
            outputs = self.model(**{name: tensor.to(self.model.device) for name, tensor in inputs.items()})
        return outputs.logits[0, -1].float().log_softmax(dim=-1).tolist()


class _Failure(Exception):
    """An engine did not do what it was told."""


class _Process:
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
                [sys.executable, "-m", "hpa_bench.engines.vllm_server", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,  # so that its workers can be ended with it, and Ctrl-C is ours alone
            )
        self.connection = Connection(ours.detach())

    def end(self, grace: float) -> None:
        """Wait for the process so many seconds, then kill it, and whatever is left of its group."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(grace)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
