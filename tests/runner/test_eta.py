"""The time that a run still takes, told at every event of its log: of steady runs, and of a recorded one."""

import json
from datetime import datetime
from pathlib import Path

import pytest

from hpa_bench.runner.events import LOG
from hpa_bench.runner.watching import RunLog
from tests.support.logs import START, steady, write_log

RECORDED = Path(__file__).with_name("events_tiny.jsonl")
"""A run of `tiny` on a busy machine: every tenth step, and nothing that makes no difference."""


def errors(lines: list[str], folder: Path, first: int) -> list[float]:
    """How far off each estimate is, from a stage on, as a share of what was really left; the last tenth aside."""
    folder.mkdir(parents=True)
    times = [datetime.fromisoformat(json.loads(line)["time"]).timestamp() for line in lines]
    log, found = RunLog(folder), []
    with (folder / LOG).open("a") as file:
        for line, now in zip(lines, times, strict=True):
            file.write(line)
            file.flush()
            log.update()
            real = times[-1] - now
            if log.course.stage is None or log.course.stage.index < first or real < (times[-1] - times[0]) / 10:
                continue
            left = log.left(now)
            assert left is not None, line
            found.append(abs(left - real) / real)
    return found


@pytest.mark.parametrize("samples", [(100, 100, 100), (20, 200, 80, 10), (300, 10)])
def test_a_steady_run_is_told_exactly_whatever_the_sizes_of_its_tasks(samples: tuple[int, ...], tmp_path: Path) -> None:
    lines = (write_log(tmp_path / "whole", steady(samples)) / LOG).read_text().splitlines(keepends=True)
    found = errors(lines, tmp_path / "run", first=2)

    assert len(found) > 5 and max(found) < 0.1


def test_a_real_run_is_told_within_a_quarter_from_the_second_stage_on(tmp_path: Path) -> None:
    found = errors(RECORDED.read_text().splitlines(keepends=True), tmp_path / "run", first=2)

    assert len(found) > 50 and max(found) < 0.25


def test_before_anything_is_measured_nothing_is_told(tmp_path: Path) -> None:
    rows = steady((100, 100))
    log = RunLog(write_log(tmp_path / "a", rows[:3]))
    log.update()
    assert log.left(START) is None

    first_step = next(index for index, row in enumerate(rows) if row[1] == "step")
    log = RunLog(write_log(tmp_path / "b", rows[: first_step + 10]))
    log.update()
    left = log.left(START + rows[first_step + 9][0])

    assert left == pytest.approx(rows[-1][0] - rows[first_step + 9][0], rel=0.05), "from the first stage's own steps"


def test_a_stage_that_an_earlier_attempt_began_counts_as_a_whole(tmp_path: Path) -> None:
    rows = steady((100, 100, 100))
    half = next(index for index, row in enumerate(rows) if row[1] == "step" and row[2]["stage"] == 1) + 50
    again = [(rows[half][0] + 1000, *rows[0][1:]), (rows[half][0] + 1000, *rows[half - 51][1:])]
    assert again[1][1] == "stage"
    later = [(seconds + 1000, *rest) for seconds, *rest in rows[half:]]
    end = next(index for index, row in enumerate(later) if row[1] == "stage_finished") + 2
    log = RunLog(write_log(tmp_path, [*rows[:half], *again, *later[:end]]))
    log.update()

    assert log.course.spent[1] == pytest.approx((50, 30), abs=1)
    assert log.left(START + later[end - 1][0]) == pytest.approx(160, rel=0.05)
