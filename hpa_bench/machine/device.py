"""The device that a run computes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hpa_bench.errors import UserError, unknown

DEVICES = ("auto", "cpu", "cuda")


def sees_gpu(name: str) -> bool:
    """Whether a run with this `--device` would compute on a GPU."""
    import torch

    return name != "cpu" and torch.cuda.is_available()


def choose_device(name: str, suite: str = "", wants_gpu: bool = False) -> str:
    """Return "cpu" or "cuda".

    Args:
        name: what the user asked for; "auto" is a GPU where there is one.
        suite: the suite's name, for messages.
        wants_gpu: whether the suite asks for a GPU, so that only an explicit "cpu" goes on without one.

    Raises:
        UserError: no such device, or no GPU where one is asked for.
    """
    import torch

    kind, _, index = name.partition(":")
    if index and kind == "cuda":
        raise UserError(
            f"--device {name}: choose a GPU by its number with CUDA_VISIBLE_DEVICES={index}, and cuda here."
        )
    if name not in DEVICES:
        raise unknown("device", name, DEVICES, "in --device")
    if name == "cpu" or sees_gpu(name):
        return "cuda" if name == "auto" else name
    if name == "cuda":
        raise UserError(
            f"--device cuda: torch {torch.__version__} finds no GPU here: check the driver (nvidia-smi) and that torch"
            " is a CUDA build, or use --device cpu."
        )
    if wants_gpu:
        raise UserError(
            f"Suite {suite!r} asks for a GPU and torch {torch.__version__} finds none here: run it on a machine with a"
            " GPU, or insist with --device cpu (float32 weights in main memory, and very slow)."
        )
    return "cpu"


@contextmanager
def explained_shortage(where: str, advice: str = "nvidia-smi shows who else is on it") -> Iterator[None]:
    """Say what to do where a GPU's memory is full.

    Raises:
        UserError: in place of torch's error, which becomes its cause.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"The GPU's memory is full in {where}: {advice}; what is finished is kept. (torch: {error})"
        ) from error
