"""What the parts of `check_gpu` take, as docs/models.md counts it, and which of them fit a card, a disk and a time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.shapes import SHAPES, VOCABULARY
from hpa_bench.machine.disk import peak_bytes

GB = 1e9
WIDE = "7b"
SMALL = "few"
"""The shape for a card or a disk that is too small for two blocks of the other."""
HIDDEN, MLP = (SHAPES[WIDE][name] for name in ("hidden", "intermediate"))
BLOCK = 4 * HIDDEN**2 + 3 * HIDDEN * MLP
"""Parameters in the linear layers of a decoder block."""
AROUND = 7_060_000_000 - SHAPES[WIDE]["layers"] * BLOCK
"""Parameters around the blocks: embeddings, head, projector, vision tower."""
RANK = 128
TOKENS = 588
"""Of a sample, as the embedded suite's questions and an image of 7B's come to."""
BATCH = 16
KEPT_PER_TOKEN = {False: 204_680, True: 8_192}
"""Bytes of activations a token and block of 7B, without and with recomputing (benchmarks/activation_memory.py)."""
EDITS = {"hpa": 4.0, "magnitude_columns": 1.1, "wise_ft": 1.4, "magmax": 1.7, "ties": 2.1, "resta": 2.2}
"""GB that docs/models.md says an edit holds beside a model of 7B."""
REQUESTS, NEW_TOKENS = 64, 64
"""That generation has in a batch, and for each."""
PREFILL = 2.8
"""GB that generation of a batch held on an H200 beside weights, keys and values."""
FLOOR = 1.7
"""GB of `edit` beside three float32 copies of its two blocks and an edit: 34,816 tokens twice, and one batch inside a
block (arithmetic)."""
SPARE = 1.05
"""What a card should have free for each byte that torch counts: its allocator does not use all that it takes."""
MEASURED = {
    "edit": 6,
    "edit_memory": 35,
    "training_memory": 41,
    "generation": 27,
    "run": 214,
    "embedded": 121,
    "methods": 118,
}
"""Seconds of parts with 32 blocks on an NVIDIA H200; `run` by hf alone, until it failed; the last two beside others."""
ESTIMATED = {"vllm": 240}
"""Seconds of those that no card has made to their ends."""
RUN_BY_VLLM = 180
"""Seconds that `run` takes more by vLLM, estimated."""


def weights(blocks: int) -> float:
    """Return the GB of a model in 16 bits."""
    return 2 * (AROUND + blocks * BLOCK) / GB


def trained(blocks: int, rank: int = RANK) -> int:
    """Return the parameters of LoRA."""
    return blocks * rank * (4 * 2 * HIDDEN + 3 * (HIDDEN + MLP))


def adapters(blocks: int, rank: int = RANK) -> float:
    """Return the GB of LoRA in training: weights, gradients and Adam's two moments in float32."""
    return 16 * trained(blocks, rank) / GB


def per_sample(blocks: int, tokens: float, recomputing: bool) -> float:
    """Return the GB that one more sample of a batch takes in training."""
    block = tokens * KEPT_PER_TOKEN[False] if recomputing else 0
    return (tokens * (blocks * KEPT_PER_TOKEN[recomputing] + VOCABULARY * 14) + block) / GB


def on_card(blocks: int) -> dict[str, float]:
    """Return the GB that torch holds at most in each part that has a model of this shape."""
    model, two = weights(blocks), 2 * BLOCK / GB
    training = model + adapters(blocks)
    cache = 2 * 2 * HIDDEN * blocks / GB
    recomputed = training + BATCH * per_sample(blocks, TOKENS, recomputing=True)
    return {
        "edit": 3 * 4 * two + EDITS["hpa"] + FLOOR,
        "edit_memory": 2 * two + EDITS["hpa"],
        "training_memory": max(recomputed, training + 3 * per_sample(blocks, TOKENS, recomputing=False)),
        "generation": model + REQUESTS * (TOKENS + NEW_TOKENS) * cache + PREFILL,
        "run": max(2 * model, recomputed, model + EDITS["hpa"] + 1),
        "vllm": model + 4096 * cache + PREFILL,
    }


def on_disk(blocks: int) -> dict[str, float]:
    """Return the GB that each part writes at its fullest: `run` a model and two stages, `vllm` a model."""
    model = weights(blocks)
    return {"run": model + peak_bytes(int(model * GB), trained(blocks), 2) / GB, "vllm": model}


class Size(NamedTuple):
    """Of the models that are checked, and why."""

    shape: str
    blocks: int
    why: str


def largest(free: float, disk: float, parts: Collection[str]) -> Size:
    """Return the largest size that fits.

    Args:
        free: GB of the card.
        disk: GB of the disk that models and runs are written to.
        parts: names of those that are to be made.
    """
    most = int(SHAPES[WIDE]["layers"])
    refused = ""
    for blocks in range(most, 1, -1):
        card, room = _most(on_card(blocks), parts, SPARE), _most(on_disk(blocks), parts)
        if card[0] <= free and room[0] <= disk:
            why = (
                f"{_said(card)} of the {free:.1f} GB that are free on the card, {_said(room)} of {disk:.1f} GB of disk"
            )
            return Size(WIDE, blocks, why + (f"; {blocks + 1} would take {refused}" if refused else ""))
        refused = f"{_said(card)} of the card" if card[0] > free else f"{_said(room)} of the disk"
    why = f"two blocks of {WIDE} would take {refused}; {free:.1f} GB of the card and {disk:.1f} GB of the disk are free"
    return Size(SMALL, int(SHAPES[SMALL]["layers"]), why)


def _most(needs: dict[str, float], parts: Collection[str], spare: float = 1.0) -> tuple[float, str]:
    return max(((spare * value, part) for part, value in needs.items() if part in parts), default=(0.0, "no part"))


def _said(need: tuple[float, str]) -> str:
    return f"{need[0]:.1f} GB ({need[1]})"


@dataclass
class Minutes:
    """What is left of a time limit for parts whose seconds are expected.

    Attributes:
        seconds: of all parts together.
        pace: whether the parts so far tell how fast this card is beside the one that was measured.
    """

    seconds: float
    pace: bool
    _spent: float = 0.0
    _expected: float = 0.0

    def too_long(self, part: str, with_vllm: bool) -> str:
        """Return why there is no time for a part; empty where there is."""
        left = self.seconds - self._spent
        factor = self._spent / self._expected if self.pace and self._expected else 1.0
        expected = factor * expected_seconds(part, with_vllm)
        if expected <= left:
            return ""
        how = "measured on an NVIDIA H200" if part in MEASURED and not (part == "run" and with_vllm) else "estimated"
        by = f", times {factor:.1f} as the parts so far took" if factor != 1 else ""
        return (
            f"it takes {expected:.0f} s ({how}{by}), and {max(left, 0):.0f} s are left of {self.seconds / 60:g} minutes"
        )

    def spend(self, part: str, seconds: float, with_vllm: bool) -> None:
        """Note what a part took."""
        self._spent += seconds
        self._expected += expected_seconds(part, with_vllm)


def expected_seconds(part: str, with_vllm: bool) -> int:
    """Return the seconds of a part on an NVIDIA H200."""
    return (MEASURED | ESTIMATED)[part] + (RUN_BY_VLLM if part == "run" and with_vllm else 0)
