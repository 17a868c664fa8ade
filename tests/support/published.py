"""Published results in tests: while code is developed it is uncommitted, and its runs could not be published."""

from collections.abc import Iterable
from pathlib import Path

from hpa_bench.results.publish import Published, publish
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.results.source import FolderSource


class Committed(FolderSource):
    """A run folder, as if its code were a commit's."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(folder)
        self.manifest = self.manifest.model_copy(update={"uncommitted": False})


def publish_committed(folder: RunFolder, out: Path) -> Published:
    return publish(Committed(folder), out)


def out_of(runs: Iterable[RunFolder], out: Path, *, show_unsafe: bool = False) -> list[Published]:
    """Publish runs, and return what became of each."""
    return [publish(FolderSource(run), out, show_unsafe=show_unsafe) for run in runs]
