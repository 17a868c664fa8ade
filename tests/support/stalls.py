"""A plugin that makes a run's first attempt hang in its second stage, so that a test has time to do something to it.

Copied into a test's folder, beside whose copy it leaves a mark `<seed>` with the name of the node.
"""

import socket
import time
from pathlib import Path
from typing import ClassVar

from hpa_bench import Observer
from hpa_bench.runner.events import Event, RunStarted, Saved

SECONDS = 240


class Stall(Observer):
    name: ClassVar[str] = "stall"

    def __init__(self) -> None:
        self.mark: Path | None = None

    def observe(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self.mark = Path(__file__).parent / "marks" / str(event.seed)
        # Only the seeds that the test names, by an empty file.
        trained = isinstance(event, Saved) and event.stage == 2 and event.what == "adapter"
        if trained and self.mark is not None and self.mark.exists() and not self.mark.read_text():
            self.mark.write_text(socket.gethostname())
            time.sleep(SECONDS)
