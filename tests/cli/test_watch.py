"""What is shown of runs on their way, on a terminal and elsewhere."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from hpa_bench.cli.watch import View, duration, ended, going, scores, summary
from hpa_bench.machine.lease import Lease
from hpa_bench.results.run_folder import LEASE
from hpa_bench.runner import watching
from hpa_bench.runner.watching import RunLog
from tests.support.logs import START, steady, write_log

ROWS = steady((100, 100))
HALF = next(index for index, row in enumerate(ROWS) if row[1] == "step" and row[2]["stage"] == 2) + 39


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[RunLog]]:
    """A finished, a failed, a running and a waiting run, in the middle of the third."""
    monkeypatch.setattr("hpa_bench.cli.watch.now", lambda: START + ROWS[HALF][0])
    planned = (0.0, "planned", {"suite": "toy", "method": "seqft", "seed": 3})
    one, two, three = (steady((100, 100), seed=number) for number in range(3))
    rows = [one, [*two[:20], (9.0, "failed", {"reason": "no [room]"})], three[: HALF + 1], [planned]]
    folders = [write_log(tmp_path / "seqft-1a2b3c4d" / f"seed{number}", each) for number, each in enumerate(rows)]
    lease = Lease(folders[2] / LEASE)
    lease.take()
    found = [RunLog(folder) for folder in folders]
    for log in found:
        log.update()
    yield found
    lease.release()


def test_a_running_one_is_one_line(logs: list[RunLog]) -> None:
    assert going(logs[2]) == "seqft-1a2b3c4d, seed 2, stage 2/2, train 40/100, loss 0.025, ETA 0:01:00 on zen"


def test_others_are_one_line(logs: list[RunLog]) -> None:
    assert ended(logs[0]) == "seqft-1a2b3c4d, seed 0: done, AP 52.0, MASR 20.0"
    assert ended(logs[1]) == "seqft-1a2b3c4d, seed 1: failed, no [room]"
    assert scores(logs[3]) == ""


def test_all_are_summed_up(logs: list[RunLog]) -> None:
    said = summary(logs, 1)

    # The one that waits takes as long as the finished one, 190 s, after the 60 s of the one that runs.
    assert said == "1 done, 1 failed, 1 running, 1 waiting; all done in 0:04:10"
    assert summary(logs[:2]) == "1 done, 1 failed"
    assert summary([]) == "no run"


def shown(logs: list[RunLog], **options: bool) -> str:
    file = io.StringIO()
    with View(Console(file=file, width=120, **options), seconds=1e-9).shown() as view:
        view.show(lambda: logs, 1)
    return file.getvalue()


def test_elsewhere_there_are_plain_lines(logs: list[RunLog]) -> None:
    assert shown(logs).splitlines() == [summary(logs, 1), going(logs[2])]


def test_on_a_terminal_there_is_a_table_that_goes(logs: list[RunLog], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    text = shown(logs, force_terminal=True)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)

    assert re.search(r"method +seed +stage +step +loss +ETA +host", plain)
    assert re.search(r"seqft-1a2b3c4d +2 +2/2 +train 40/100 +0\.025 +0:01:00 +zen", plain)
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1, "the cursor is there again"


def test_it_is_not_shown_more_often_than_asked_for(logs: list[RunLog]) -> None:
    file = io.StringIO()
    with View(Console(file=file, width=120)).shown() as view:
        for _ in range(10):
            view.show(lambda: logs, 1)

    assert file.getvalue() == ""


def test_durations() -> None:
    assert [duration(each) for each in (None, 0, 59.6, 3725)] == ["?", "0:00:00", "0:01:00", "1:02:05"]
    assert watching.now() > START
