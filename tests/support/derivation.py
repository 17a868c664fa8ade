"""HPA derived once more from the paper, in float64 numpy and in plain loops, to hold the implementation to."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Case(NamedTuple):
    """A random layer before and after a task, and the inputs that calibration saw."""

    before: Array
    after: Array
    x_safety: Array
    x_task: Array


def random_case(seed: int = 0, rows: int = 12, columns: int = 40, tokens: int = 100) -> Case:
    rng = np.random.default_rng(seed)
    before = rng.normal(size=(rows, columns))
    # A low-rank update whose columns differ in size, as a merged adapter's do.
    after = before + 0.1 * rng.normal(size=(rows, 4)) @ (rng.normal(size=(4, columns)) * rng.lognormal(size=columns))
    x_safety = rng.normal(size=(tokens // 4, columns)) * rng.lognormal(size=columns)
    x_task = rng.normal(size=(tokens, columns)) @ (np.eye(columns) + 0.2 * rng.normal(size=(columns, columns)))
    return Case(before, after, x_safety, x_task)


def second_moments(x: Array) -> Array:
    return 2 * x.T @ x / len(x)


def inverse_diagonal(h: Array, damping: float = 0.01) -> Array:
    h = h.copy()
    for j in range(len(h)):
        if h[j, j] == 0:
            h[j, j] = 1
    return np.diagonal(np.linalg.inv(h + damping * np.mean(np.diagonal(h)) * np.eye(len(h))))


def column_scores(before: Array, after: Array, h: Array, damping: float = 0.01, saliency: str = "divide") -> Array:
    inverse = inverse_diagonal(h, damping)
    rows, columns = before.shape
    scores = np.zeros((rows, columns))
    for i in range(rows):
        for j in range(columns):
            squared = (after[i, j] - before[i, j]) ** 2
            scores[i, j] = squared / inverse[j] if saliency == "divide" else squared * inverse[j]
    return scores.mean(axis=0)


def top(scores: Array, count: int) -> list[int]:
    return sorted(range(len(scores)), key=lambda j: -scores[j])[:count]


def alpha(eps: Array, zeta: Array, low: float = 0.4, high: float = 0.8) -> float:
    logs = [math.log(e / z) for e, z in zip(eps, zeta, strict=True) if e > 0 and z > 0]
    return low + (high - low) * (1 + math.tanh(sum(logs) / len(logs))) / 2


def kept_columns(
    case: Case, percent: float, selection: str = "full", saliency: str = "divide", shared: str = "overlap"
) -> set[int]:
    eps = column_scores(case.before, case.after, second_moments(case.x_safety), saliency=saliency)
    zeta = column_scores(case.before, case.after, second_moments(case.x_task), saliency=saliency)
    columns = len(eps)
    count = round(percent / 100 * columns)
    safety, task = (set(top(score, round(2 * percent / 100 * columns))) for score in (eps, zeta))
    phi = eps - alpha(eps, zeta) * zeta
    by_eps, by_phi = top(eps, columns), top(phi, columns)
    if selection == "none":
        return set()
    if selection == "safety_focused":
        return set([j for j in by_eps if j in safety][:count])
    kept = [j for j in by_eps if j in safety - task][:count] if selection == "full" else []
    focused = [(j in safety) + (j in task) for j in range(columns)]
    least = {"overlap": 2, "union": 1}[shared]
    return set(kept + [j for j in by_phi if focused[j] >= least and j not in kept][: count - len(kept)])


def adapted(case: Case, kept: set[int], orthogonal: bool = True) -> Array:
    update = case.after - case.before
    if orthogonal:
        update = update - (update * case.before).sum() / (case.before**2).sum() * case.before
    mask = np.array([j in kept for j in range(case.before.shape[1])], dtype=float)
    return mask * case.before + (1 - mask) * (case.before + update)
