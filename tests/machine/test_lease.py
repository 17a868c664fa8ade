"""Leases between real processes, some of which take themselves for another machine's, or are really killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpa_bench.machine.lease import InUse, Lease, Pace, Watch, holder_of

QUICK = Pace(beat=0.1, dead=1.5)
HOLD = """
import sys, time
from pathlib import Path
from hpa_bench.machine import lease
if sys.argv[2]:
    lease.this_machine = lambda: sys.argv[2]
held = lease.Lease(Path(sys.argv[1]), lambda: print("lost", flush=True), lease.Pace(beat=0.1, dead=1.5))
try:
    held.take()
except lease.InUse as error:
    print(error, flush=True)
    sys.exit(3)
print("taken", flush=True)
for line in sys.stdin:
    held.release()
    print("free", flush=True)
"""


class Holding:
    """Another process that takes a lease and holds it until it is told or killed."""

    def __init__(self, name: Path, machine: str = "") -> None:
        command = [sys.executable, "-c", HOLD, str(name), machine]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def release(self) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.said()


@pytest.fixture
def name(tmp_path: Path) -> Path:
    return tmp_path / ".lease"


@pytest.fixture
def holding(name: Path) -> Iterator[list[Holding]]:
    made: list[Holding] = []
    yield made
    for each in made:
        each.process.kill()
        each.process.communicate()


def hold(holding: list[Holding], name: Path, machine: str = "") -> Holding:
    holding.append(Holding(name, machine))
    return holding[-1]


@pytest.mark.parametrize("machine", ["", "elsewhere"])
def test_a_live_holder_keeps_others_out_until_it_lets_go(machine: str, name: Path, holding: list[Holding]) -> None:
    first = hold(holding, name, machine)
    assert first.said() == "taken"

    with pytest.raises(InUse, match=rf"in use by process {first.process.pid} on "):
        Lease(name, pace=QUICK).take()
    holder = holder_of(name, QUICK)
    assert holder is not None and holder.pid == first.process.pid and holder.is_here is (machine == "")

    assert first.release() == "free"
    assert holder_of(name, QUICK) is None
    mine = Lease(name, pace=QUICK)
    mine.take()
    assert [path.name for path in name.parent.iterdir()] == [".lease-2"]
    mine.release()


def test_a_killed_holder_of_this_machine_is_known_at_once(name: Path, holding: list[Holding]) -> None:
    first = hold(holding, name)
    assert first.said() == "taken"
    first.process.kill()  # Not waited for: a zombie is dead.
    while holder_of(name, QUICK) is not None:
        time.sleep(0.01)
    mine = Lease(name)

    began = time.monotonic()
    mine.take()

    assert time.monotonic() - began < 1
    mine.release()


def test_a_killed_holder_of_another_machine_is_given_up_after_so_many_beats(name: Path, holding: list[Holding]) -> None:
    first = hold(holding, name, "elsewhere")
    assert first.said() == "taken"
    first.process.kill()
    watch = Watch(name, QUICK)
    assert watch.look() is not None

    began = time.monotonic()
    mine = Lease(name, pace=QUICK)
    mine.take()

    assert QUICK.dead <= time.monotonic() - began < QUICK.dead + 3
    mine.release()


@pytest.mark.parametrize("hours", [-5, 5])
def test_clocks_that_differ_do_not_matter(hours: int, name: Path, holding: list[Holding]) -> None:
    first = hold(holding, name, "elsewhere")
    assert first.said() == "taken"
    watch = Watch(name, QUICK)
    until = time.monotonic() + 2 * QUICK.dead
    while time.monotonic() < until:
        os.utime(name.with_name(".lease-1"), (time.time() + hours * 3600,) * 2)
        assert watch.look() is not None
        time.sleep(0.02)
    assert watch.beats


def test_who_was_held_up_for_too_long_learns_that_the_lease_is_lost(name: Path, holding: list[Holding]) -> None:
    first = hold(holding, name, "elsewhere")
    assert first.said() == "taken"
    first.process.send_signal(signal.SIGSTOP)
    mine = Lease(name, pace=QUICK)
    mine.take()

    first.process.send_signal(signal.SIGCONT)

    assert first.said() == "lost"
    time.sleep(3 * QUICK.beat)
    assert not mine.lost and holder_of(name, QUICK) is not None
    mine.release()


def test_of_many_that_find_a_dead_holder_one_takes_over(name: Path, holding: list[Holding]) -> None:
    first = hold(holding, name, "elsewhere")
    assert first.said() == "taken"
    first.process.kill()

    many = [hold(holding, name, f"machine {number % 4}") for number in range(8)]
    said = [each.said() for each in many]

    assert said.count("taken") == 1, said
    assert all(line == "taken" or line.startswith("in use by process") for line in said)


def test_a_number_that_went_is_not_taken_again(name: Path) -> None:
    late = Watch(name)
    assert late.look() is None
    for _ in range(2):  # Meanwhile others come and go.
        passing = Lease(name)
        passing.take()
        passing.release()

    mine = Lease(name)
    mine.take(late)

    assert [path.name for path in name.parent.iterdir()] == [".lease-3"]
    mine.release()


def test_where_there_are_no_links_it_works_all_the_same(name: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    mine = Lease(name)
    mine.take()

    with pytest.raises(InUse):
        Lease(name).take()
    mine.release()


def test_a_torn_file_is_somebodys_until_it_rests(name: Path) -> None:
    name.with_name(".lease-1").write_bytes(b'{"host": "a')
    began = time.monotonic()
    mine = Lease(name, pace=QUICK)
    mine.take()

    assert time.monotonic() - began >= QUICK.dead
    mine.release()


def test_a_folder_that_goes_takes_its_lease_with_it(tmp_path: Path) -> None:
    mine = Lease(tmp_path / "run" / ".lease", lambda: pytest.fail("lost"), QUICK)
    mine.take()
    (tmp_path / "run").rename(tmp_path / "aside")

    mine.renew()
    mine.release()

    assert (tmp_path / "aside" / ".lease-1").read_text().strip() == "free"
