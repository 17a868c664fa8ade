"""Measure what a stage's edit leaves of what training changed: norms, KL on the new task, kept columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hpa_bench.files import write_json
from hpa_bench.hpa.partition import largest_columns, update
from hpa_bench.models.prompts import IGNORED, Batch, model_inputs
from hpa_bench.models.weights import Merged, load_into, unrounded
from hpa_bench.results.update import Columns, StageUpdate

if TYPE_CHECKING:
    from hpa_bench.method import Method, StageContext
    from hpa_bench.models.weights import Weights
    from hpa_bench.results.run_folder import StageFolder

SAMPLES = 16
"""Calibration samples that KL is taken over, the first of the stage's."""


def note_update(
    stage: StageFolder,
    method: Method,
    scored: Weights,
    ctx: StageContext,
    batches: Callable[[int, int], Sequence[Batch]],
    warn: Callable[[str], None],
) -> None:
    """Write what a method's edit left of a stage's update; an adapter that is never merged is not edited.

    Args:
        stage: the stage's folder, with the trained adapter; without it, or without W0, nothing is measured.
        method: the method.
        scored: W^.
        ctx: the stage.
        batches: gives model inputs of so many task calibration samples of a stage.
        warn: is told what goes wrong without ending the run.
    """
    found = StageUpdate(kept=1.0, kl=0.0)
    if method.mergeable:
        # A finished stage drops the weights before it: redone, it has what it noted then.
        if not stage.adapter.exists() or (ctx.stage > 1 and ctx.before is ctx.start):
            if not stage.update_file.exists():
                warn(f"What is left of the update of {stage.path} is not measured: its adapter or its W0 is gone.")
            return
        after = Merged(ctx.before, stage.adapter, ctx.device)
        found = measure_update(after, scored, ctx, lambda: batches(ctx.stage, SAMPLES), method.keeps_columns)
    write_json(stage.update_file, found.model_dump(exclude_defaults=True))


def measure_update(
    after: Weights, edited: Weights, ctx: StageContext, batches: Callable[[], Sequence[Batch]], columns: bool = False
) -> StageUpdate:
    """Return what is left of a stage's update.

    Args:
        after: W1, after training, merged.
        edited: W^, as it is scored.
        ctx: the stage, with W0; its model object is left with other weights.
        batches: gives model inputs of calibration samples of the stage's task, with labels.
        columns: whether the method gives whole columns back; then it is counted which.
    """
    moved = trained = 0.0
    touched = set(after.trained if isinstance(after, Merged) else after)
    changes: list[str] = []
    for name in edited:
        w0, w = ctx.before[name].to(ctx.device), edited[name].to(ctx.device)
        w1 = after[name].to(ctx.device) if name in touched else w0
        if not torch.equal(w, w1):
            changes.append(name)
        moved += _squares(w, w0)
        trained += _squares(w1, w0)
    kept = (moved / trained) ** 0.5 if trained else None
    if not changes:
        return StageUpdate(kept=kept, kl=0.0)
    given = batches()
    kl, tokens = answer_kl(ctx.model, after, edited, given, changes)
    blocks = ctx.layers if columns else []
    return StageUpdate(
        kept=kept,
        kl=kl,
        samples=sum(len(batch["labels"]) for batch in given),
        tokens=tokens,
        blocks=[{name: _columns(f"{name}.weight", after, edited, ctx) for name in block} for block in blocks],
    )


def measure_edit(w0: Tensor, w1: Tensor, w: Tensor, columns: bool) -> dict[str, Any]:
    """Return what an edit left of the change of one weight.

    Args:
        w0: before.
        w1: after training, of a merge in float32.
        w: edited.
        columns: whether the method gives whole columns back; then they are counted.

    Returns:
        `moved` and `trained`, the squared norms of W^ - W0 and of W1 - W0, and with columns, `columns` and `kept`.
    """
    changed = update(w0, w1)
    found = {"moved": _squares(w, w0), "trained": float(changed.square().sum(dtype=torch.float64))}
    if not columns or w0.ndim != 2:
        return found
    return {**found, "columns": w0.shape[1], "kept": int(kept_columns(w0, changed, w).sum())}


def answer_kl(
    model: nn.Module, after: Weights, edited: Weights, batches: Sequence[Batch], changes: Iterable[str] | None = None
) -> tuple[float, int]:
    """Return KL(W1 || W^) of the next token, in nats per answer token, and the number of answer tokens.

    The answers are teacher-forced. The model is left with W^ in it.

    Args:
        model: what the weights are of.
        after: W1.
        edited: W^.
        batches: model inputs with labels.
        changes: the names of the weights by which they differ; by default all.
    """
    load_into(model, after)
    # On the CPU: of a large vocabulary, a batch of them is as large as the model's activations.
    trained = [_log_probabilities(model, batch).cpu() for batch in batches]
    for name in edited if changes is None else changes:
        load_into(model, {name: edited[name]})  # One at a time: nobody holds them all.
    nats, tokens = 0.0, 0
    for batch, p in zip(batches, trained, strict=True):
        q = _log_probabilities(model, batch)
        p = p.to(q.device)
        nats += float((p.exp() * (p - q)).sum(dtype=torch.float64))
        tokens += len(p)
    return max(0.0, nats / tokens), tokens


@torch.no_grad()
def _log_probabilities(model: nn.Module, batch: Batch) -> Tensor:
    """Return the log-probabilities of the tokens that answers hold, `[answer tokens, vocabulary]` in float32."""
    training = model.training
    model.eval()
    logits = model(**model_inputs(batch), use_cache=False).logits[:, :-1]
    model.train(training)
    return logits[batch["labels"][:, 1:] != IGNORED].float().log_softmax(-1)


def _squares(one: Tensor, other: Tensor) -> float:
    return float(update(other, one).square().sum(dtype=torch.float64))


def _columns(name: str, after: Weights, edited: Weights, ctx: StageContext) -> Columns:
    """Return how many columns of a layer are as before though training changed them, and how many of the largest."""
    w0, w1, w = (tensor.to(ctx.device) for tensor in (ctx.before[name], unrounded(after, name), edited[name]))
    changed = update(w0, w1)
    kept = kept_columns(w0, changed, w)
    common = kept & largest_columns(changed, int(kept.sum()))
    return Columns(columns=w0.shape[1], kept=int(kept.sum()), common=int(common.sum()))


def kept_columns(w0: Tensor, changed: Tensor, w: Tensor) -> Tensor:
    """Return the columns of a layer that are as before though training changed them, bool `[c]`.

    Args:
        w0: before training `[r, c]`.
        changed: what training changed `[r, c]`.
        w: edited `[r, c]`.
    """
    return (w == w0).all(0) & (changed != 0).any(0)
