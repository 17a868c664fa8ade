"""Processes forked from a server are those that a start of Python makes: exit, signals, log, digits, and none left."""

import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import psutil
import pytest

from hpa_bench.launchers import local, warm
from hpa_bench.launchers.base import Job
from hpa_bench.launchers.local import Local
from hpa_bench.launchers.warm import PREFIX, Process, Server, WarmStarts
from hpa_bench.machine.numerics import PORTABLE
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.spec import RunOptions, make_spec
from tests.support.faults import contents
from tests.support.suites import write_suite

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="there are warm starts on Linux alone"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # A shell's background job ignores it, and its children.
    server = Server(os.environ)
    yield server
    server.close()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[IO[bytes]]:
    with (tmp_path / "log").open("ab") as log:
        yield log


def until(there: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.01)


def start(arguments: list[str], log: IO[bytes], server: Server | None) -> Process:
    with Path(os.devnull).open("rb") as nothing:
        return Process([*PREFIX, *arguments], os.environ, nothing, log, server)


def waiting(log: IO[bytes], server: Server | None) -> Process:
    """A run that waits for the rest of its spec."""
    read, write = os.pipe()
    os.write(write, b"{")
    with os.fdopen(read, "rb") as stdin:
        process = Process([*PREFIX, "run", "--spec", "-"], os.environ, stdin, log, server)
        until(lambda: process.poll() is not None or _unread(stdin) == 0)
    assert process.poll() is None
    return process


def _unread(pipe: IO[bytes]) -> int:
    return int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0])


def parent(process: Process) -> int:
    assert process.pid is not None
    return psutil.Process(process.pid).ppid()


def told(log: IO[bytes]) -> str:
    return Path(log.name).read_text()


def test_a_command_is_what_a_start_of_python_makes_of_it(server: Server, log: IO[bytes], tmp_path: Path) -> None:
    for arguments in (["--version"], ["list", "judges"], ["run", "--method", "seqtf"], ["no-such-verb"], []):
        with (tmp_path / "cold").open("wb") as cold:
            started = start(arguments, cold, None)
        with (tmp_path / "warm").open("wb") as hot:
            forked = start(arguments, hot, server)

        assert forked.wait(120) == started.wait(120)
        assert (tmp_path / "warm").read_bytes() == (tmp_path / "cold").read_bytes() != b""


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_is_stopped_by_signals(warm: bool, number: signal.Signals, server: Server, log: IO[bytes]) -> None:
    process = waiting(log, server if warm else None)

    process.signal(number)

    assert process.wait(20) == (130 if number == signal.SIGINT else -number)
    assert told(log) == "stopped; the same command goes on\n"


def test_it_has_a_group_and_descriptors_of_its_own(server: Server, log: IO[bytes]) -> None:
    forked, started = waiting(log, server), waiting(log, None)

    assert parent(forked) == server.process.pid and parent(started) == os.getpid()
    for process in (forked, started):
        assert process.pid is not None
        assert os.getpgid(process.pid) == process.pid
        open_there = {int(path.name) for path in Path(f"/proc/{process.pid}/fd").iterdir()}
        assert open_there == {0, 1, 2}
        process.signal(signal.SIGKILL)
        assert process.wait(20) == -signal.SIGKILL
    assert told(log) == ""


def test_relative_paths_mean_what_they_mean_to_whoever_starts_it(
    server: Server, log: IO[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert start(["new-method", "mine"], log, server).wait(60) == 0

    assert (tmp_path / "mine.py").is_file()


def test_what_has_not_begun_never_does(log: IO[bytes]) -> None:
    server = Server(os.environ)
    process = start(["--version"], log, server)
    assert process.poll() is None and process.pid is None

    process.signal(signal.SIGTERM)

    assert process.wait(0) == -signal.SIGTERM
    server.close()
    assert process.poll() == -signal.SIGTERM and told(log) == ""


def having(server: Server) -> WarmStarts:
    """Starts that have a server for this environment."""
    starts = WarmStarts()
    starts._servers[tuple(sorted(os.environ.items()))] = server
    return starts


def test_one_alone_is_started_unless_there_is_a_server(server: Server, log: IO[bytes]) -> None:
    command, none, one = [*PREFIX, "--version"], WarmStarts(), having(server)
    with Path(os.devnull).open("rb") as nothing:
        alone = none.start(command, os.environ, nothing, log, 1)
        forked = one.start(command, os.environ, nothing, log, 1)

    assert (alone.wait(60), forked.wait(60)) == (0, 0)
    assert not none._servers and parent_is_this(alone) and not parent_is_this(forked)


def test_with_a_killed_server_its_processes_end_and_later_ones_are_started(log: IO[bytes]) -> None:
    server = Server(os.environ)
    process = waiting(log, server)
    assert process.pid is not None

    os.kill(server.process.pid, signal.SIGKILL)

    assert process.wait(20) == -signal.SIGKILL
    until(lambda: not _lives(process.pid or 0), 20)
    later = start(["--version"], log, server)
    assert later.wait(60) == 0 and parent_is_this(later)
    assert told(log).startswith("hpa-bench ")


def parent_is_this(process: Process) -> bool:
    return process._server is None


def _lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


OWNER = """
import os, sys, time
from pathlib import Path
import tests.launchers.test_warm as here
server = here.Server(os.environ)
with Path(sys.argv[1]).open("ab") as log:
    process = here.waiting(log, server)
print(os.getpid(), server.process.pid, process.pid, flush=True)
time.sleep(600)
"""


def test_nothing_is_left_of_whoever_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OWNER, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as owner:
        assert owner.stdout is not None
        pids = [int(each) for each in owner.stdout.readline().split()]
        assert len(pids) == 3 and all(_lives(pid) for pid in pids)

        owner.kill()
        owner.wait()

    until(lambda: not any(_lives(pid) for pid in pids), 20)


UNFIT = "import threading, time; threading.Thread(target=time.sleep, args=(600,), daemon=True).start()"


def test_where_nothing_can_be_forked_it_is_started(log: IO[bytes], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(UNFIT)
    server = Server({**os.environ, "PYTHONPATH": str(tmp_path)})
    process = start(["--version"], log, server)

    assert process.wait(120) == 0
    assert server.reason == "it has 2 threads" and parent_is_this(process)
    assert told(log).startswith("hpa-bench ")


def test_there_is_a_server_for_each_environment_in_use(log: IO[bytes]) -> None:
    starts, command = WarmStarts(), [*PREFIX, "--version"]

    def begin(threads: str) -> Process:
        with Path(os.devnull).open("rb") as nothing:
            return starts.start(command, {**os.environ, "OMP_NUM_THREADS": threads}, nothing, log, 2)

    processes = [begin(threads) for threads in "121"]
    first, second = starts._servers.values()
    assert not first.is_idle() and not second.is_idle()

    processes[1].signal(signal.SIGTERM)
    last = begin("3")

    assert [server.process.poll() is None for server in (first, second)] == [True, False]
    assert len(starts._servers) == 2
    for process in (*processes, last):
        process.signal(signal.SIGTERM)
    with Path(os.devnull).open("rb") as nothing:
        other = starts.start(["sh", "-c", "exit 3"], os.environ, nothing, log, 2)
    assert other.wait(20) == 3


def test_elsewhere_than_on_linux_it_is_started(log: IO[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm.sys, "platform", "darwin")
    starts = WarmStarts()
    with Path(os.devnull).open("rb") as nothing:
        process = starts.start([*PREFIX, "--version"], os.environ, nothing, log, 2)

    assert not starts._servers and process.wait(60) == 0


@pytest.mark.parametrize("numerics", ["portable", "native"])
def test_runs_are_equal_byte_for_byte_however_they_are_started(
    numerics: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = write_suite(tmp_path / "suite", numerics=numerics, cpu_threads=1)
    spec = make_spec(RunOptions(str(suite), "replay", settings=["per_task=4"]))
    # Portable runs take another environment than that of the server that is there.
    servers = {1: WarmStarts(), 2: having(server) if numerics == "native" else WarmStarts()}
    runs = {}
    for expected, starts in servers.items():
        monkeypatch.setattr(local, "starts", starts)
        folder = tmp_path / str(expected) / "seed0"
        folder.parent.mkdir()
        launcher = Local()
        launcher.expect(expected)
        handle = launcher.submit(Job(spec, folder, folder.with_suffix(".log"), "cpu", threads=1))
        until(lambda launcher=launcher, handle=handle: launcher.poll(handle) is not None)
        said = folder.with_suffix(".log").read_text()
        assert launcher.poll(handle) == "" and "may differ" not in said, said
        runs[expected] = RunFolder(folder)
    assert [len(starts._servers) for starts in servers.values()] == [0, 1]

    started, forked = runs.values()
    assert contents(forked.path) == contents(started.path)
    assert forked.manifest.numerics == started.manifest.numerics
    assert forked.manifest.hardware == started.manifest.hardware
    if numerics == "portable":
        assert PORTABLE.items() <= forked.manifest.numerics.variables.items()
