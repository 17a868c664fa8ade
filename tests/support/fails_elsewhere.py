"""A plugin for two processes: the second notes what it trains, as the first does, and then fails in stage 2."""

import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from hpa_bench import Method
from hpa_bench.errors import UserError

SENTENCE = "The second process has had enough."


class FailsElsewhere(Method):
    """Sequential LoRA; writes one line a step to the file of this process in $NOTES."""

    name = "fails_elsewhere"
    steps: ClassVar[int] = 0

    def penalty(self, model: nn.Module, batch: Mapping[str, Tensor], outputs: Any) -> None:
        rank = os.environ["RANK"]
        adapter = hashlib.sha256()
        for parameter in model.parameters():
            if parameter.requires_grad:
                adapter.update(parameter.detach().numpy().tobytes())
        with (Path(os.environ["NOTES"]) / rank).open("a") as notes:
            notes.write(
                f"{adapter.hexdigest()} {hashlib.sha256(batch['pixel_values'].numpy().tobytes()).hexdigest()}\n"
            )
        FailsElsewhere.steps += 1
        if rank == "1" and self.steps == 15:
            (Path(os.environ["NOTES"]) / "failed").write_text(str(time.time()))
            raise UserError(SENTENCE)
