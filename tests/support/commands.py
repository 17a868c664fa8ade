"""Commands of `hpa-bench`, forked from one server a test process, where a start of Python is not what is tested."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import IO

from hpa_bench.launchers.warm import PREFIX, Process, starts

SECONDS = 500
"""After which a command is given up."""


def hpa_bench(
    *arguments: str | Path, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Return how `python -m hpa_bench` ended, and what it said, its errors included.

    Args:
        arguments: of the command.
        cwd: where it runs; here by default.
        environment: of the process, this one's by default; there is a server for each.
    """
    with tempfile.TemporaryFile() as output:
        process = begun(*arguments, output=output, cwd=cwd, environment=environment)
        try:
            code = process.wait(SECONDS)
        finally:
            process.signal(signal.SIGKILL)
        output.seek(0)
        return subprocess.CompletedProcess([*arguments], code, output.read().decode())


def begun(
    *arguments: str | Path,
    output: IO[bytes],
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Process:
    """Return the process of a command that goes on; the arguments are as of `hpa_bench`.

    Args:
        arguments: of the command.
        output: what it says.
        cwd: where it runs.
        environment: of the process.
    """
    command = [*PREFIX, *map(str, arguments)]
    own = dict(os.environ if environment is None else environment)
    own.pop("PYTEST_CURRENT_TEST", None)  # Which a fixture's own part of a test has.
    with Path(os.devnull).open("rb") as nothing, chdir(cwd or Path.cwd()):
        process = starts.start(command, own, nothing, output, starts.worth)
        while process.poll() is None and process.pid is None:
            time.sleep(0.01)
    return process
