"""Which engine generates for a run."""

from __future__ import annotations

from importlib.util import find_spec

LARGE = 100_000_000
"""Parameters from which vLLM is clearly faster and its start is soon repaid (docs/engines.md)."""


def choose(asked: str, *, mergeable: bool, device: str, parameters: int, processes: int = 1) -> tuple[str, str]:
    """Return the name of the engine for a run, and the reason.

    Args:
        asked: the suite's `evaluation.engine`.
        mergeable: whether the method's weights are all in the model; vLLM loads no method's own adapter.
        device: the run's torch device.
        parameters: of the model.
        processes: of the run; only Hugging Face's requests are shared out among several.
    """
    if not mergeable and asked in ("auto", "vllm"):
        return "hf", "the method carries an adapter of its own, which vLLM cannot load"
    if asked != "auto":
        return asked, "as asked"
    if not device.startswith("cuda"):
        return "hf", f"on {device}"
    if processes > 1:
        return "hf", f"{processes} processes share the requests out"
    if parameters < LARGE:
        return "hf", f"{parameters / 1e6:.1f} M parameters; vllm pays from {LARGE / 1e6:.0f} M"
    if find_spec("vllm") is None:
        return "hf", "vllm is not installed"
    return "vllm", f"{parameters / 1e9:.1f} B parameters on a GPU"
