"""Where runs stand, as their logs have it."""

import time
from pathlib import Path

import pytest

from hpa_bench.machine.lease import Lease
from hpa_bench.results.run_folder import LEASE
from hpa_bench.runner.events import LOG
from hpa_bench.runner.watching import RunLog, all_left, find_logs
from tests.support.logs import START, steady, write_log

PLANNED = (0.0, "planned", {"suite": "toy", "method": "seqft", "seed": 3})


def read(folder: Path) -> RunLog:
    log = RunLog(folder)
    log.update()
    return log


def test_a_run_that_is_planned_waits(tmp_path: Path) -> None:
    log = read(write_log(tmp_path / "seqft-1a2b3c4d" / "seed3", [PLANNED]))

    assert (log.state, log.suite, log.name, log.seed_name) == ("waiting", "toy", "seqft-1a2b3c4d", "3")
    assert read(tmp_path / "nothing").state == "waiting"


def test_a_run_goes_on_while_its_folder_is_held_and_is_stopped_else(tmp_path: Path) -> None:
    folder = write_log(tmp_path / "run", steady((5, 5))[:30])
    lease = Lease(folder / LEASE)
    lease.take()
    assert read(folder).state == "running"
    lease.release()
    assert read(folder).state == "stopped"


@pytest.mark.parametrize(("reason", "state"), [("no room", "failed"), ("stopped", "stopped")])
def test_a_run_that_failed_says_why_until_it_begins_anew(reason: str, state: str, tmp_path: Path) -> None:
    rows = [*steady((5, 5))[:30], (99.0, "failed", {"reason": reason})]
    log = read(write_log(tmp_path, rows))
    assert (log.state, log.reason) == (state, reason)

    assert read(write_log(tmp_path, [*rows, PLANNED])).state == "waiting"
    begun = read(write_log(tmp_path, [*rows, rows[0]]))
    assert (begun.reason, begun.course.stage, begun.scores) == ("", None, {"accuracy": 50.0, "masr": 0.0})


def test_what_is_read_bit_by_bit_is_what_is_read_at_once(tmp_path: Path) -> None:
    whole = read(write_log(tmp_path / "whole", steady((50, 20))[:-5]))
    text = (tmp_path / "whole" / LOG).read_bytes()
    (tmp_path / "parts").mkdir()
    log = RunLog(tmp_path / "parts")
    for begin in range(0, len(text), 777):  # Lines are torn in the middle.
        with (tmp_path / "parts" / LOG).open("ab") as file:
            file.write(text[begin : begin + 777])
        log.update()

    assert log.course.stage is not None and log.course.stage.step == (20, 20)
    assert (log.course, log.scores) == (whole.course, whole.scores)


def test_of_a_finished_run_the_ends_are_enough(tmp_path: Path) -> None:
    folder = write_log(tmp_path, steady((500, 500)))
    assert (folder / LOG).stat().st_size > 40_000
    log = read(folder)

    assert (log.state, log.method, log.scores) == ("done", "seqft", {"accuracy": 52.0, "masr": 20.0})
    assert 0 not in log.course.spent, "its middle was not read"


def test_lines_that_are_torn_or_foreign_are_passed_over(tmp_path: Path) -> None:
    folder = write_log(tmp_path, steady((5, 5))[:30])
    with (folder / LOG).open("ab") as file:
        file.write(
            b'{"event": "st\n[1]\n{"event": "step", "time": "then"}\n{"event": "new kind", "time": "2026-01-01"}\n'
        )

    assert read(folder).course == read(write_log(tmp_path / "whole", steady((5, 5))[:30])).course


def test_runs_that_are_set_aside_are_left_out(tmp_path: Path) -> None:
    for name in ("b/seed0", "a/seed1", "a/seed1.aside-1", "a/seed0"):
        write_log(tmp_path / name, [PLANNED])

    assert [str(log.folder.relative_to(tmp_path)) for log in find_logs(tmp_path)] == ["a/seed0", "a/seed1", "b/seed0"]


def test_all_are_done_when_the_work_is_shared_out(tmp_path: Path) -> None:
    rows = steady((100, 100))
    whole = rows[-1][0]
    half = next(index for index, row in enumerate(rows) if row[0] >= whole / 2)
    now = START + rows[half][0]
    done = read(write_log(tmp_path / "done", rows))
    going = [read(write_log(tmp_path / f"going{number}", rows[: half + 1])) for number in range(2)]
    waiting = [read(write_log(tmp_path / f"waiting{number}", [PLANNED])) for number in range(4)]
    leases = [Lease(log.folder / LEASE) for log in going]
    for lease in leases:
        lease.take()

    # Two are half done, so that two workers have half a run each and two more.
    assert all_left([done, *going, *waiting], 2, now) == pytest.approx(2.5 * whole, rel=0.05)
    assert all_left([done, *going], 8, now) == pytest.approx(whole / 2, rel=0.05)
    assert all_left(waiting, 2, now) is None
    for lease in leases:
        lease.release()


@pytest.mark.slow
def test_a_thousand_runs_are_read_in_a_moment(tmp_path: Path) -> None:
    text = (write_log(tmp_path / "one", steady((200,) * 6)) / LOG).read_bytes()
    for number in range(1000):
        folder = tmp_path / "runs" / f"seqft-{number // 10:08}" / f"seed{number % 10}"
        for stage in range(3):
            (folder / f"stage{stage}" / "responses").mkdir(parents=True)
        (folder / LOG).write_bytes(text if number % 20 else text[: len(text) * 2 // 3])

    began = time.process_time()
    logs = find_logs(tmp_path / "runs")
    states = [log.state for log in logs]

    assert time.process_time() - began < 2
    assert (states.count("done"), states.count("stopped")) == (950, 50)
