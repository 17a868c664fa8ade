"""Example responses: the same few samples of every set, before tuning and after, from every method."""

from __future__ import annotations

from typing import Any

from hpa_bench.report.conditions import Condition
from hpa_bench.report.ranking import shown_groups
from hpa_bench.results.coherence import incoherence
from hpa_bench.results.runs import Run
from hpa_bench.results.thumbnails import blurred

PER_SET = 3
LONGEST = 400


def examples(condition: Condition, show_unsafe: bool = False) -> list[dict[str, Any]]:
    """Return a few samples of each set with the aligned model's response and each method's last one.

    Samples on which the reference method's last response differs from the aligned model's come first, then in the
    order of their ids; where a run keeps images, only of the samples that have some. The methods are those of the
    figures; each shows its first seed that finished and whose responses are kept.

    Args:
        condition: the runs.
        show_unsafe: whether to show requests, reference answers, responses, images, ids and categories of safety sets.
            Otherwise their words do not leave the run: what a judge calls refused may do what was asked all the same,
            or repeat it; samples are numbered.
    """
    told = [run for run in condition.runs if run.stages and run.source.has_texts]
    finished = [
        next((run for run in group.runs if run in told and not run.missing), None) for group in shown_groups(condition)
    ]
    methods = [run for run in finished if run is not None and run.last > 0]
    aligned = next(iter(told), None)
    if aligned is None:
        return []
    watched = next((run for run in methods if run.label == condition.reference.label), aligned)
    found = []
    for name in [*condition.tasks, *condition.safety_sets, *condition.benign_sets]:
        hide = name in condition.safety_sets and not show_unsafe
        images = next((kept for run in told if (kept := run.source.thumbnails(name))), {})
        before, after = _responses(aligned, 0, name, hide), _responses(watched, -1, name, hide)
        listed = sorted((sample for sample in before if not images or sample in images), key=str)
        changed = [sample for sample in listed if before[sample]["verdicts"] != after[sample]["verdicts"]]
        chosen = [*changed, *(sample for sample in listed if sample not in set(changed))][:PER_SET]
        last = [(run, _responses(run, -1, name, hide)) for run in methods]
        samples = [
            {
                # Ids and categories of safety sets are texts of the data set, and may say what is asked for.
                "id": f"sample {index}" if hide else sample,
                "category": "" if hide else before[sample]["category"],
                "images": [blurred(image) if hide else image for image in images.get(sample, [])],
                "prompt": before[sample]["prompt"],
                "target": before[sample]["target"],
                "responses": [("aligned (stage 0)", before[sample])]
                + [(f"{run.label}, seed {run.seed}", responses[sample]) for run, responses in last],
            }
            for index, sample in enumerate(chosen, 1)
        ]
        found.append({"set": name, "blurred": hide, "samples": samples})
    return found


def _responses(run: Run, stage: int, name: str, hide: bool) -> dict[Any, dict[str, Any]]:
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
        text = row["response"]  # None where published results keep none.
        if name in data.incoherent and text is not None and (reason := incoherence(text)):
            verdicts.append(f"incoherent: {reason}")
        found[row["id"]] = {
            "prompt": _shown(row.get("prompt"), "harmful request" if hide else ""),
            "target": _shown(row.get("target"), "reference answer" if hide else ""),
            "category": row.get("category", ""),
            "text": _shown(text, "response" if hide else ""),
            "verdicts": ", ".join(verdicts),
        }
    return found


def _shown(value: Any, hidden_as: str) -> dict[str, str]:
    """Return a text as it is shown: its beginning or, where it is hidden, what it is and how many words it has."""
    if value is None:
        text = ""
    elif isinstance(value, list):
        text = ", ".join(map(str, value))
    else:
        text = str(value)
    if hidden_as and text.strip():
        count = len(text.split())
        return {"text": "", "hidden": f"{hidden_as}, {count} word{'s' if count > 1 else ''}"}
    return {"text": text if len(text) <= LONGEST else text[:LONGEST] + " …", "hidden": ""}
