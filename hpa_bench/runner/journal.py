"""What is on the disk of an edited checkpoint, so that a killed edit goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from hpa_bench.errors import UserError
from hpa_bench.files import write_jsonl
from hpa_bench.models.weights import Writer

HOOKS = ADAPTER, ADAPT, EVALUATED, REST = "edit_adapter", "adapt", "evaluated", "rest"
"""The hooks of a method whose edits are written, in their order, and what none edits."""
TOGETHER = 2**28
"""Bytes of weights outside the blocks that are noted together."""
Note = Mapping[str, Any]


class Journal:
    """Writes weights, and notes them once they are on the disk: those of a decoder block all together.

    A block that is not whole is edited again, since what its layers are made of is measured for all of them at once.
    """

    def __init__(self, path: Path, writers: Mapping[str, Writer], blocks: Sequence[Sequence[str]]) -> None:
        """Read what an earlier process noted; a torn last line is none.

        Args:
            path: of the notes, one JSON object a line.
            writers: of the checkpoint that the edits of a hook go to, by hook.
            blocks: the linear layers of each decoder block.

        Raises:
            UserError: a file that weights were written to is gone, or is another.
        """
        self.writers = writers
        self._path = path
        self._block = {f"{name}.weight": index for index, names in enumerate(blocks) for name in names}
        self._sizes = [len(names) for names in blocks]
        self._pending: list[dict[str, Any]] = []
        self._bytes = 0
        self._rows = _read(path)
        lost = next((file for writer in writers.values() for file in writer.new), None)
        if self._rows and lost:
            raise UserError(
                f"{lost} was gone or cut, to which {path} says that weights were written: delete {path.parent}, and the"
                " same command edits from the beginning."
            )
        write_jsonl(path, self._rows)

    def ended(self, hook: str) -> bool:
        """Whether all edits of a hook are on the disk."""
        return any(row["hook"] == hook and "name" not in row for row in self._rows)

    def finished(self, *hooks: str) -> set[str]:
        """Return the weights of some hooks that are on the disk."""
        return {row["name"] for row in self._rows if row["hook"] in hooks and "name" in row}

    def notes(self, hook: str) -> list[Note]:
        """Return what was noted of the weights of a hook."""
        return [row for row in self._rows if row["hook"] == hook and "name" in row]

    def writing(
        self, hook: str, notes: Mapping[str, Note], tell: Callable[[str], None]
    ) -> Callable[[str, Tensor], None]:
        """Return what writes the weights of a hook, for `hpa_bench.runner.edits.write_edits`.

        Args:
            hook: of the method.
            notes: what to note of weights by their names, there by the time that they are written.
            tell: is called with the name of each weight that is written.
        """

        def write(name: str, tensor: Tensor) -> None:
            self.writers[hook].write(name, tensor)
            self._pending.append({"hook": hook, "name": name, **notes.get(name, {})})
            self._bytes += tensor.nbytes
            block = self._block.get(name)
            mates = sum(self._block.get(row["name"]) == block for row in self._pending)
            if self._bytes >= TOGETHER if block is None else mates == self._sizes[block]:
                self._commit(hook)
            tell(name)

        return write

    def end(self, hook: str) -> None:
        """Note that a hook has no more edits."""
        self._pending.append({"hook": hook})
        self._commit(hook)

    def _commit(self, hook: str) -> None:
        self.writers[hook].sync()
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{json.dumps(row)}\n" for row in self._pending))
            file.flush()
            os.fsync(file.fileno())
        self._rows += self._pending
        self._pending, self._bytes = [], 0


def _read(path: Path) -> list[dict[str, Any]]:
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
