"""What a run shows while it lasts, on a terminal and elsewhere."""

import io
import re
from collections.abc import Iterator

import pytest
from rich.console import Console

from hpa_bench.runner.events import (
    Adapting,
    AlignmentStarted,
    Event,
    Failed,
    Finished,
    Generating,
    Judged,
    RunStarted,
    StageFinished,
    StageStarted,
    TrainStep,
    Warned,
)
from hpa_bench.runner.progress import Progress

STARTED = RunStarted(
    suite="toy",
    method="hpa",
    seed=0,
    folder="runs",
    stages=[["ad", "fin"], ["vqa"]],
    finished=1,
    engine="hf",
    why="no [GPU] here",
)
FIRST = StageStarted(stage=1, stages=2, tasks=["ad", "fin"])


def step(done: int, total: int) -> TrainStep:
    return TrainStep(stage=1, done=done, total=total, loss=1.0, learning_rate=0.1, seconds=0.1, samples_per_second=1.0)


def said(*events: Event) -> list[str]:
    """The lines that are printed where there is no terminal."""
    file = io.StringIO()
    progress = Progress(Console(file=file, width=200, emoji=False))
    for event in events:
        progress.observe(event)
    return file.getvalue().splitlines()


def test_elsewhere_there_is_one_line_a_stage() -> None:
    finished = StageFinished(stage=1, seconds={"train": 2.04, "adapt": 0.01, "evaluate": 3.0})

    first, second = said(
        STARTED,
        FIRST,
        step(1, 2),
        Adapting(stage=1),
        Generating(stage=1, done=0, total=9),
        Judged(stage=1, judges=[], scores={}),
        finished,
        Finished(seconds=1.0),
    )

    assert first == "engine hf (no [GPU] here)"
    assert re.fullmatch(r"stage 1/2 ad \+ fin: 0\.\d s \(train 2\.0, evaluate 3\.0, ETA 0 s\)", second)


def test_after_the_last_stage_nothing_is_left() -> None:
    last = StageStarted(stage=2, stages=2, tasks=["vqa"])

    (*_, line) = said(STARTED, last, StageFinished(stage=2, seconds={"train": 1.0}))

    assert re.fullmatch(r"stage 2/2 vqa: 0\.\d s \(train 1\.0\)", line)


def test_stage_0_is_the_aligned_model() -> None:
    (*_, line) = said(STARTED, StageStarted(stage=0, stages=2, tasks=[]), StageFinished(stage=0, seconds={}))

    assert line.startswith("stage 0/2 aligned model: ")


def test_a_warning_is_shown_as_it_is() -> None:
    assert said(Warned(text="[red]x[/] :smile: 12")) == ["[red]x[/] :smile: 12"]


ALIGNING = AlignmentStarted(model="llava", tasks=["vlguard", "spa_vl"], folder="out")


def test_of_an_alignment_there_is_a_line_every_tenth() -> None:
    first, *tenths = said(ALIGNING, *(step(done, 25) for done in range(1, 26)), Finished(seconds=1.0))

    assert first == "aligning llava on vlguard, spa_vl"
    assert [line.rpartition(", ETA")[0] for line in tenths] == [
        f"align · step {done}/25, loss 1" for done in (3, 5, 8, 10, 13, 15, 18, 20, 23, 25)
    ]
    assert (tenths[0][-3:], tenths[-1][-3:]) == ("2 s", "0 s")
    assert len(said(ALIGNING, *(step(done, 3) for done in range(1, 4)))) == 4


def test_of_a_slow_alignment_there_is_a_line_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 25))
    monkeypatch.setattr("hpa_bench.runner.progress.time.perf_counter", lambda: float(next(clock)))

    _, *lines = said(ALIGNING, *(step(done, 1000) for done in range(1, 10)))

    assert [line.partition(",")[0] for line in lines] == [f"align · step {done}/1000" for done in (3, 6, 9)]
    assert lines[0].endswith("ETA 100 s")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Progress, io.StringIO]]:
    monkeypatch.setenv("TERM", "xterm")
    file = io.StringIO()
    progress = Progress(Console(file=file, width=200, force_terminal=True))
    yield progress, file
    progress.observe(Finished(seconds=1.0))


def bar(progress: Progress) -> tuple[str, float, float | None]:
    """What the bar says, how far it is, and its length in stages."""
    (task,) = progress._bar.tasks
    return task.description, task.completed, task.total


def test_on_a_terminal_a_bar_moves_through_the_steps_of_a_stage(terminal: tuple[Progress, io.StringIO]) -> None:
    progress, _ = terminal
    progress.observe(STARTED)
    assert bar(progress) == ("starting", 1, 3)

    shown = []
    progress.observe(FIRST)
    for event in (step(1, 2), step(2, 2), Adapting(stage=1), Generating(stage=1, done=9, total=9)):
        progress.observe(event)
        shown.append(bar(progress)[:2])

    title = "stage 1/2 ad + fin · "
    assert [text for text, _ in shown] == [
        f"{title}{end}" for end in ("train 1/2", "train 2/2", "adapt 0/1", "evaluate 9/9")
    ]
    assert [completed for _, completed in shown] == pytest.approx([1.225, 1.45, 1.45, 2.0])


def test_on_a_terminal_an_alignment_moves_one_bar(terminal: tuple[Progress, io.StringIO]) -> None:
    progress, _ = terminal
    progress.observe(ALIGNING)
    assert bar(progress) == ("starting", 0, 1)

    progress.observe(step(3, 4))

    assert bar(progress) == ("align · step 3/4", 0.75, 1)


def test_a_step_of_nothing_is_not_divided_by(terminal: tuple[Progress, io.StringIO]) -> None:
    progress, _ = terminal
    for event in (STARTED, FIRST, Generating(stage=1, done=0, total=0)):
        progress.observe(event)

    assert bar(progress)[1] == pytest.approx(1.55)


@pytest.mark.parametrize("end", [Finished(seconds=1.0), Failed(reason="no room")])
def test_the_bar_goes_when_the_run_ends(end: Event, terminal: tuple[Progress, io.StringIO]) -> None:
    progress, file = terminal
    for event in (STARTED, FIRST, step(1, 2)):
        progress.observe(event)
    bar = progress._bar
    assert bar.live.is_started

    progress.observe(end)

    assert progress._bar is None and not bar.live.is_started
    assert "stage 1/2 ad + fin · train 1/2" in file.getvalue() and file.getvalue().count("\x1b[?25h") == 1
