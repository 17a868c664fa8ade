"""Example responses: the same few samples of every set, before tuning and after, from every method."""

from __future__ import annotations

from typing import Any

from hpa_bench.report.groups import Condition
from hpa_bench.results import Run

PER_SET = 3
LONGEST = 400


def examples(condition: Condition) -> list[dict[str, Any]]:
    """Return a few samples of each set with the aligned model's response and each method's last one.

    Samples on which the reference method's last response differs from the aligned model's come first, then in the
    order of their ids. The methods are those of the figures; each shows its first seed that finished.
    """
    finished = [next((run for run in group.runs if not run.missing), None) for group in condition.shown]
    methods = [run for run in finished if run is not None and run.last > 0]
    aligned = next((run for run in condition.runs if run.stages), None)
    if aligned is None:
        return []
    watched = next((run for run in methods if run.label == condition.reference.label), aligned)
    found = []
    for name in [*condition.tasks, *condition.safety_sets, *condition.benign_sets]:
        before, after = _responses(aligned, 0, name), _responses(watched, -1, name)
        changed = [
            sample for sample in sorted(before, key=str) if before[sample]["verdicts"] != after[sample]["verdicts"]
        ]
        chosen = [*changed, *(sample for sample in sorted(before, key=str) if sample not in set(changed))][:PER_SET]
        last = [(run, _responses(run, -1, name)) for run in methods]
        samples = [
            {
                "id": sample,
                "prompt": _cut(before[sample]["prompt"]),
                "target": _cut(before[sample]["target"]),
                "responses": [("aligned (stage 0)", before[sample])]
                + [(f"{run.label}, seed {run.seed}", responses[sample]) for run, responses in last],
            }
            for sample in chosen
        ]
        found.append({"set": name, "samples": samples})
    return found


def _responses(run: Run, stage: int, name: str) -> dict[Any, dict[str, Any]]:
    data = run.data[stage]
    judged = {
        judge: dict(zip(data.ids[name], given, strict=True))
        for (judge, of), given in data.verdicts.items()
        if of == name
    }
    found = {}
    for row in run.stages[stage].responses(name):
        verdicts = [f"{judge}: {verdict[row['id']]}" for judge, verdict in judged.items()]
        if row["score"] is not None:
            verdicts.append(f"score {100 * row['score']:g}")
        found[row["id"]] = {
            "prompt": row.get("prompt", ""),
            "target": row.get("target", ""),
            "text": _cut(row["response"]),
            "verdicts": ", ".join(verdicts),
        }
    return found


def _cut(value: Any) -> str:
    text = (
        ""
        if value is None
        else value
        if isinstance(value, str)
        else ", ".join(map(str, value))
        if isinstance(value, list)
        else str(value)
    )
    return text if len(text) <= LONGEST else text[:LONGEST] + " …"
