"""Checkpoints as an edit reads them: every value looked at, one decoder block at work and the next read meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from torch import Tensor

from hpa_bench.errors import UserError
from hpa_bench.models.decoder import Decoder
from hpa_bench.models.weights import Checkpoint, not_finite


class Sound(Mapping[str, Tensor]):
    """The weights of a checkpoint, each refused where it holds a value that is none."""

    def __init__(self, checkpoint: Checkpoint, what: str) -> None:
        """Read nothing yet.

        Args:
            checkpoint: the weights.
            what: the checkpoint, for messages.
        """
        self._checkpoint = checkpoint
        self._what = what

    def __getitem__(self, name: str) -> Tensor:
        tensor = self._checkpoint[name]
        if tensor.is_floating_point() and (count := not_finite(tensor)):
            raise UserError(
                f"The weight {name!r} of {self._what} ({self._checkpoint.folder}) has {count} of {tensor.numel()}"
                " values that are NaN or infinite: save or fetch the model again."
            )
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._checkpoint)

    def __len__(self) -> int:
        return len(self._checkpoint)

    def __contains__(self, name: object) -> bool:
        return name in self._checkpoint


class ReadAhead(Mapping[str, Tensor]):
    """Weights for whoever goes through them block by block, as often as they like.

    In memory are the decoder block that was last asked for and the one after it; after the last, the first.
    """

    def __init__(self, weights: Sound, decoder: Decoder) -> None:
        """Read nothing yet.

        Args:
            weights: of a checkpoint.
            decoder: where the blocks are.
        """
        self._weights = weights
        self._names: list[list[str]] = [[] for _ in decoder.layers]
        self._block: dict[str, int] = {}
        for name in weights:
            if name.startswith(f"{decoder.prefix}."):
                self._block[name] = block = int(name.removeprefix(f"{decoder.prefix}.").partition(".")[0])
                self._names[block].append(name)
        self._reader = ThreadPoolExecutor(1, "read ahead")
        self._held: dict[int, Future[dict[str, Tensor]]] = {}

    def __getitem__(self, name: str) -> Tensor:
        block = self._block.get(name)
        if block is None:
            return self._weights[name]
        # After the last the first: whoever goes through them again finds it, and memory is that of any other block.
        wanted = (block, (block + 1) % len(self._names))
        self._held = {each: self._held[each] for each in self._held if each in wanted}
        for each in wanted:
            if each not in self._held:
                self._held[each] = self._reader.submit(self._read, each)
        # A copy, since whoever asked may change it.
        return self._held[block].result()[name].clone()

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)

    def __contains__(self, name: object) -> bool:
        return name in self._weights

    def _read(self, block: int) -> dict[str, Tensor]:
        return {name: self._weights[name] for name in self._names[block]}
