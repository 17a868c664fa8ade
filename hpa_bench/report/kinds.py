"""What kind of method a row is, for the colours and filters of the page, and for figures."""

from __future__ import annotations

from functools import cache
from typing import Any

from hpa_bench.registry import Registry
from hpa_bench.report.groups import Group

KINDS = {
    "reference": "references",
    "data": "training data",
    "loss": "loss terms",
    "structure": "what is trained",
    "columns": "columns kept",
    "weights": "weight edits",
    "other": "others",
}
"""Each kind that a method may say (`hpa_bench.method.MethodKind`) in words, in the order in which the page names them;
as the chapters of docs/methods, but that the edits which keep whole columns, as HPA does, stand apart from those that
merge, scale or project."""

COLOURS = {
    "reference": ("#66707a", "#9aa6b1"),
    "data": ("#0072b2", "#5db4ee"),
    "loss": ("#967000", "#dcb13a"),
    "structure": ("#8a4fb0", "#c59be6"),
    "columns": ("#d0500a", "#ff8a45"),
    "weights": ("#00805c", "#3ccba0"),
    "other": ("#222222", "#f2f2f2"),
}
"""On white and on black, as the page's stylesheet has them; in figures, what differs in colour differs in marker."""
MARKERS = {
    "reference": "D",
    "data": "s",
    "loss": "^",
    "structure": "v",
    "columns": "o",
    "weights": "P",
    "other": "X",
}

_METHODS: Registry[object] = Registry("method", "hpa_bench.methods", object)


def kind_of(group: Group) -> str:
    """Return the kind of a method, as its run says it; of an older run, as the method of its name is declared."""
    manifest = group.runs[0].manifest
    kind = manifest.method_kind or _declared(manifest.method)
    return kind if kind in KINDS else "other"


@cache
def _declared(method: str) -> Any:
    return _METHODS.written(method, "kind")
