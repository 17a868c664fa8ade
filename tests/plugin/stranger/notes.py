"""A stranger's observer."""

import os
from pathlib import Path
from typing import ClassVar

from hpa_bench import Event, Observer


class Notes(Observer):
    """Writes the kind of every event into the file that STRANGERS_NOTES names."""

    name: ClassVar[str] = "notes"

    def observe(self, event: Event) -> None:
        """Add a line."""
        if path := os.environ.get("STRANGERS_NOTES"):
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(f"{event.kind}\n")
