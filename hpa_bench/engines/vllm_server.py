"""The process that holds one vLLM engine. `hpa_bench.engines.vllm` starts it and talks to it over a socket.

It has a process group of its own and ends it, vLLM's workers included, once its parent is gone, however that went.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NamedTuple

from safetensors import safe_open

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

LOGPROBS = 5
"""Most likely tokens whose log-probabilities a probe compares."""


class Prompt(NamedTuple):
    """One request as it is sent to the process."""

    token_ids: list[int]
    """The prompt, with one placeholder an image."""
    images: list[Image]
    max_new_tokens: int
    stop: tuple[str, ...]
    ends: list[int]
    """The tokens that end a response."""


class Tensors(NamedTuple):
    """Tensors of one safetensors file."""

    file: str
    names: list[str]


class WorkerExtension:
    """What vLLM's workers learn; they call it by name (vLLM's `worker_extension_cls`)."""

    def load_tensors(self, parts: Sequence[Tensors]) -> None:
        """Load weights in place.

        vLLM's own reading of a folder is not used: it wants other names for a vision tower than transformers 5 writes.
        """
        worker: Any = self
        worker.reload_weights(weights_iterator=self._read(parts))
        for module in worker.model_runner.get_model().modules():
            # A tied head has no tensors of its own to load, and on a CPU it works on a packed copy of the old ones.
            if type(module).__name__ == "ParallelLMHead":
                module.quant_method.process_weights_after_loading(module)

    def _read(self, parts: Sequence[Tensors]) -> Iterator[tuple[str, Tensor]]:
        known = {name for name, _ in self.model_runner.get_model().named_modules()}  # type: ignore[attr-defined]
        for part in parts:
            with safe_open(part.file, framework="pt") as file:
                for name in part.names:
                    yield vllm_name(name, known), file.get_tensor(name)


def vllm_name(name: str, modules: Iterable[str]) -> str:
    """Return a checkpoint's name of a tensor as vLLM wants it.

    Transformers 5 writes `vision_tower.encoder...` where older checkpoints, and vLLM, have
    `vision_tower.vision_model.encoder...`.
    """
    head, tower, rest = name.rpartition("vision_tower.")
    if tower and not rest.startswith("vision_model.") and "vision_tower.vision_model" in modules:
        return f"{head}{tower}vision_model.{rest}"
    return name


class _Served:
    """What the parent may call: each method yields its answers."""

    llm: Any = None

    def start(self, options: dict[str, Any]) -> Iterator[None]:
        from vllm import LLM

        self.llm = LLM(**options)
        return iter(())

    def stop(self) -> None:
        if self.llm is not None:
            self.llm.llm_engine.engine_core.shutdown()

    def load(self, parts: Sequence[Tensors]) -> Iterator[None]:
        self.llm.collective_rpc("load_tensors", args=(parts,))
        # All three: what any of them keeps was computed by the old weights.
        self.llm.reset_prefix_cache()
        self.llm.reset_mm_cache()
        self.llm.llm_engine.reset_encoder_cache()
        return iter(())

    def sleep(self) -> Iterator[None]:
        self.llm.sleep(level=2)
        return iter(())

    def wake(self) -> Iterator[None]:
        self.llm.wake_up()
        return iter(())

    def probe(self, prompt: Prompt) -> Iterator[dict[int, float]]:
        """Yield the log-probabilities of the most likely next tokens."""
        (output,) = self.llm.generate(_inputs(prompt), _sampling(prompt, logprobs=LOGPROBS), use_tqdm=False)
        yield {token: entry.logprob for token, entry in output.outputs[0].logprobs[0].items()}

    def generate(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, list[int] | str]]:
        """Yield the index and the new tokens of each prompt, whichever is done first; or why vLLM takes one not."""
        # All are known before the first step, so equal calls make equal batches, and those equal roundings.
        places = {}
        for index, prompt in enumerate(prompts):
            try:
                (key,) = self.llm.enqueue(_inputs(prompt), _sampling(prompt), use_tqdm=False)
            except Exception as error:  # it only renders the prompt and queues it
                yield index, str(error)
                return
            places[key.partition("-")[0]] = index
        while self.llm.llm_engine.has_unfinished_requests():
            for output in self.llm.llm_engine.step():
                if output.finished:
                    yield places[output.request_id.partition("-")[0]], list(output.outputs[0].token_ids)


def _inputs(prompt: Prompt) -> dict[str, Any]:
    images = {"multi_modal_data": {"image": prompt.images}} if prompt.images else {}
    return {"prompt_token_ids": prompt.token_ids, **images}


def _sampling(prompt: Prompt, logprobs: int | None = None) -> Any:
    from vllm import SamplingParams

    return SamplingParams(
        temperature=0.0,
        max_tokens=prompt.max_new_tokens,
        stop=list(prompt.stop) or None,
        stop_token_ids=prompt.ends,
        ignore_eos=True,  # the ends are those above, whatever the checkpoint's generation config says
        logprobs=logprobs,
        detokenize=bool(prompt.stop),  # responses are made of the tokens, as Hugging Face's are
    )


def _end_with_parent(parent: int) -> None:
    """End this process and its group once its parent is another than the one that started it, which may be by now."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Serve calls on the socket of the first argument until the parent, the second argument, hangs up or ends."""
    _end_with_parent(int(sys.argv[2]))
    served = _Served()
    with Connection(int(sys.argv[1])) as connection:
        while True:
            try:
                method, *arguments = connection.recv()
            except EOFError:
                break
            try:
                for answer in getattr(served, method)(*arguments):
                    connection.send(("answer", answer))
                connection.send(("done", None))
            except Exception as error:
                traceback.print_exc()
                connection.send(("failed", " ".join(f"{type(error).__name__}: {error}".split())))
    served.stop()
    os._exit(0)  # the interpreter's own end takes vLLM ten seconds


if __name__ == "__main__":
    main()
