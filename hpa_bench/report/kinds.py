"""What kind of method a row is, for the colours and filters of the page, and for figures."""

from __future__ import annotations

from hpa_bench.report.groups import REFERENCES

KINDS = {
    "reference": "references",
    "data": "training data",
    "loss": "loss terms",
    "structure": "what is trained",
    "columns": "columns kept",
    "weights": "weight edits",
    "other": "others",
}
"""Each kind in words, in the order in which the page names them; as the chapters of docs/methods, but that the edits
which keep whole columns, as HPA does, stand apart from those that merge, scale or project."""

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

_METHODS = {
    "reference": (*REFERENCES, "seqft"),
    "data": ("replay", "derpp"),
    "loss": ("ewc", "l2", "lwf", "olora", "sefe"),
    "structure": ("moelora", "sppft"),
    "columns": ("hpa", "magnitude_columns", "random_columns", "relative_columns", "model_tailor"),
    "weights": ("magmax", "resta", "safe_delta", "safelora", "scaled_update", "ties", "wise_ft"),
}
_KIND = {method: kind for kind, methods in _METHODS.items() for method in methods}


def kind_of(method: str) -> str:
    """Return the kind of a method by its name; "other" of one that comes from elsewhere."""
    return _KIND.get(method, "other")
