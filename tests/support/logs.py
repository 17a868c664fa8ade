"""Logs of runs that nobody made: what their events would be, at times that the test says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hpa_bench.runner.events import LOG

START = 1_000_000.0


def write_log(folder: Path, rows: Sequence[tuple[float, str, dict[str, Any]]]) -> Path:
    """Write a run's log.

    Args:
        folder: the run's.
        rows: of each event the seconds since the start, the kind, and its data.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for seconds, kind, data in rows:
        time = datetime.fromtimestamp(START + seconds, UTC).isoformat(timespec="milliseconds")
        lines.append(json.dumps({"event": kind, "time": time, **data}) + "\n")
    (folder / LOG).write_text("".join(lines))
    return folder


def steady(
    samples: Sequence[int], pace: float = 0.5, rest: float = 30.0, method: str = "seqft", seed: int = 0
) -> list[tuple[float, str, dict[str, Any]]]:
    """Return the events of a run whose training takes `pace` seconds a sample, in steps of one, and the rest `rest`."""
    about = {"suite": "toy", "method": method, "seed": seed, "host": "zen"}
    stages = [[f"task{index}"] for index, _ in enumerate(samples, 1)]
    now = 0.0
    rows: list[tuple[float, str, dict[str, Any]]] = [
        (now, "run", {**about, "stages": stages, "finished": 0, "samples": [*samples]})
    ]
    for index in range(len(samples) + 1):
        count = samples[index - 1] if index else 0
        rows.append((now, "stage", {"stage": index, "stages": len(samples), "tasks": stages[index - 1 : index]}))
        for done in range(1, count + 1):
            now += pace
            rows.append(
                (now, "step", {"stage": index, "done": done, "total": count, "loss": 1 / done, "seconds": pace})
            )
        if index:
            rows.append((now, "trained", {"stage": index}))
        for done in range(11):
            rows.append((now + rest * (0.1 + 0.08 * done), "generating", {"stage": index, "done": done, "total": 10}))
        now += rest
        rows.append((now, "judged", {"stage": index, "scores": {"accuracy": 50.0 + index, "masr": 10.0 * index}}))
        seconds = {"train": count * pace, "generate": rest} if index else {"set-up": 500.0, "generate": rest}
        rows.append((now, "stage_finished", {"stage": index, "seconds": seconds}))
    return [*rows, (now, "finished", {"seconds": now})]
