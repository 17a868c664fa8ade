from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hpa_bench.baselines.derpp import DERPP, DERPPConfig
from hpa_bench.baselines.shared.draws import own_draws
from hpa_bench.data.samples import Sample
from hpa_bench.errors import UserError
from hpa_bench.method import Method, StageContext
from hpa_bench.models.adapters import LoRAConfig, attach_lora
from hpa_bench.models.weights import load_into
from hpa_bench.runner.training import Training, train
from hpa_bench.suite import TrainingConfig
from tests.support.models import random_llava
from tests.support.stages import coloured_samples, random_stage, two_stages


def second_stage(folder: Path, **config: Any) -> tuple[DERPP, StageContext, Mapping[str, Tensor]]:
    """Return the method at the door of stage 2, task a in its buffer; the context's model holds theta_0 again."""
    before, after, ctx = random_stage(folder)
    first = DERPP(DERPPConfig(**config))
    assert not list(first.adapt(before, after, ctx))
    load_into(ctx.model, before)
    method = DERPP(DERPPConfig(**config))
    method.load_state_dict(dict(first.state_dict()))
    ctx = replace(
        ctx,
        stage=2,
        tasks=("b",),
        samples={"a": coloured_samples(8), "b": coloured_samples(8, "b")}.__getitem__,
    )
    assert method.training_data(ctx.samples("b"), ctx) == ctx.samples("b")
    return method, ctx, after


def answer_logits(model: nn.Module, ctx: StageContext, sample: Sample) -> tuple[Tensor, list[int]]:
    """Return the float64 logits of one sample's answer tokens, and the tokens, found one position at a time."""
    batch = dict(ctx.collate([sample]))
    labels = batch.pop("labels")[0].tolist()
    with torch.no_grad():
        logits = model(**batch).logits[0].double()
    places = [place for place, label in enumerate(labels) if label != -100]
    return torch.stack([logits[place - 1] for place in places]), [labels[place] for place in places]


def drawn_pairs(seed: int, count: int, kept: int) -> list[list[int]]:
    torch.manual_seed(seed)
    return torch.randint(kept, (count, 2)).tolist()


def test_the_buffer_holds_the_merged_models_logits_of_k_samples(tmp_path: Path) -> None:
    method, ctx, after = second_stage(tmp_path, per_task=5)
    load_into(ctx.model, after)

    assert len(method.buffer) == 5
    for key, stored in method.buffer.items():
        task, row, kind = key.split("/")
        assert (task, kind) == ("a", "logits")
        expected, _ = answer_logits(ctx.model, ctx, ctx.samples("a")[int(row)])
        torch.testing.assert_close(stored.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("top_k", [None, 7])
def test_the_penalty_is_the_sum_of_its_two_means_over_samples(tmp_path: Path, top_k: int | None) -> None:
    method, ctx, _ = second_stage(tmp_path, alpha=0.7, beta=0.2, per_task=6, top_k=top_k)
    kept = sorted(key.removesuffix("/logits") for key in method.buffer if key.endswith("/logits"))
    batch = ctx.collate(ctx.samples("b")[:3])

    expected = 0.0
    for first, second in drawn_pairs(5, 3, 6):
        z, _ = answer_logits(ctx.model, ctx, ctx.samples("a")[int(kept[first].split("/")[1])])
        words = method.buffer[f"{kept[first]}/words"] if top_k else torch.arange(z.shape[1]).expand_as(z)
        squared = (z.gather(1, words) - method.buffer[f"{kept[first]}/logits"].double()) ** 2
        expected += 0.7 * float(squared.sum()) / squared.numel() / 3
        z, answer = answer_logits(ctx.model, ctx, ctx.samples("a")[int(kept[second].split("/")[1])])
        surprise = [float(row.logsumexp(0) - row[word]) for row, word in zip(z, answer, strict=True)]
        expected += 0.2 * sum(surprise) / len(surprise) / 3
    torch.manual_seed(5)

    penalty = method.penalty(ctx.model, batch, None)

    assert penalty is not None
    assert penalty.item() == pytest.approx(expected, rel=1e-4)


def test_two_processes_draw_the_pairs_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []
    for rank in ("0", "1"):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", rank)
        torch.manual_seed(5)
        shares.append([own_draws(100, samples, 2) for samples in (3, 3)])

    found = [pair for step in zip(*shares, strict=True) for share in step for pair in share.tolist()]

    assert found == drawn_pairs(5, 12, 100)


def test_the_model_that_the_logits_are_of_is_at_no_distance(tmp_path: Path) -> None:
    method, ctx, after = second_stage(tmp_path, alpha=1.0, beta=0.0)
    batch = ctx.collate(ctx.samples("b"))
    apart = method.penalty(ctx.model, batch, None)
    load_into(ctx.model, after)
    none = method.penalty(ctx.model, batch, None)

    assert apart is not None and none is not None
    assert none.item() < 1e-8 < 1e-2 < apart.item()


def test_the_largest_logits_are_stored(tmp_path: Path) -> None:
    whole, _, _ = second_stage(tmp_path)
    some, _, _ = second_stage(tmp_path, top_k=3)
    beyond, _, _ = second_stage(tmp_path, top_k=10**6)

    assert all(torch.equal(tensor, beyond.buffer[key]) for key, tensor in whole.buffer.items())
    for key, tensor in whole.buffer.items():
        row = key.removesuffix("/logits")
        assert torch.equal(some.buffer[f"{row}/logits"], tensor.sort(descending=True).values[:, :3])
        assert torch.equal(tensor.gather(1, some.buffer[f"{row}/words"]), some.buffer[f"{row}/logits"])


def test_without_weights_nothing_is_stored_or_drawn(tmp_path: Path) -> None:
    method, ctx, _ = second_stage(tmp_path, alpha=0.0, beta=0.0)
    before = torch.get_rng_state()

    assert method.penalty(ctx.model, ctx.collate(ctx.samples("b")), None) is None
    assert not method.buffer
    assert torch.equal(torch.get_rng_state(), before)


def test_the_first_stage_has_no_penalty(tmp_path: Path) -> None:
    _, _, ctx = random_stage(tmp_path)
    method = DERPP()
    method.load_state_dict({})
    samples = ctx.samples("a")

    assert method.training_data(samples, ctx) == samples
    assert method.penalty(ctx.model, ctx.collate(samples), None) is None


def with_safety(folder: Path, **config: Any) -> tuple[DERPP, StageContext]:
    """Return the method after `start`, at the door of stage 1, its state taken up as by a resumed run."""
    before, _, ctx = random_stage(folder)
    first = DERPP(DERPPConfig(safety_samples=3, **config))
    load_into(ctx.model, {name: 0.9 * tensor for name, tensor in before.items()})
    first.start(replace(ctx, stage=0, tasks=()))
    method = DERPP(DERPPConfig(safety_samples=3, **config))
    method.load_state_dict(dict(first.state_dict()))
    method.training_data(ctx.samples("a"), ctx)
    return method, ctx


def test_safety_samples_stand_in_the_buffer_with_the_aligned_models_logits(tmp_path: Path) -> None:
    method, ctx = with_safety(tmp_path)
    load_into(ctx.model, ctx.start)

    assert sorted(method.buffer) == [f"safety data/{row}/logits" for row in range(3)]
    for row in range(3):
        expected, _ = answer_logits(ctx.model, ctx, ctx.safety_data()[row])
        torch.testing.assert_close(method.buffer[f"safety data/{row}/logits"].double(), expected, rtol=1e-4, atol=1e-4)


def test_safety_samples_are_drawn_from_the_first_stage_on_and_with_the_rest(tmp_path: Path) -> None:
    method, ctx = with_safety(tmp_path, alpha=1.0, beta=0.0, per_task=5)
    batch = ctx.collate(ctx.samples("a"))
    load_into(ctx.model, ctx.start)
    same = method.penalty(ctx.model, batch, None)
    after = {name: 1.05 * tensor for name, tensor in ctx.start.items()}
    load_into(ctx.model, after)
    apart = method.penalty(ctx.model, batch, None)

    assert same is not None and apart is not None
    assert same.item() < 1e-8 < 1e-3 < apart.item()

    method.adapt(ctx.before, after, ctx)
    seen: list[str] = []
    samples = {"a": coloured_samples(8), "b": coloured_samples(8, "b")}.__getitem__
    method.training_data((), replace(ctx, stage=2, tasks=("b",), samples=samples, collate=lambda some: note(some)))

    def note(some: list[Sample]) -> Mapping[str, Tensor]:
        seen.extend(sample.id for sample in some)
        return ctx.collate(some)

    for _ in range(20):
        method.penalty(ctx.model, batch, None)
    kept = {int(key.split("/")[1]) for key in method.buffer if key.startswith("a/")}
    assert set(seen) == {f"safety/{row}" for row in range(3)} | {f"a/{row}" for row in kept} and len(kept) == 5
    assert sum(name.startswith("safety") for name in seen) / len(seen) == pytest.approx(3 / 8, abs=0.15)


def test_safety_samples_must_be_asked_for_and_be_there(tmp_path: Path) -> None:
    _, _, ctx = random_stage(tmp_path)
    assert not DERPP().needs and DERPP(DERPPConfig(safety_samples=1)).needs == {"safety_data"}
    none, off = DERPP(), DERPP(DERPPConfig(alpha=0, beta=0, safety_samples=2))
    none.start(ctx)
    off.start(ctx)
    assert not none.state_dict() and not off.state_dict()

    with pytest.raises(UserError, match=r"safety_samples=5 of method 'derpp' is more .* expected at most 4\."):
        DERPP(DERPPConfig(safety_samples=5)).start(ctx)


def trained(folder: Path, method: Method, ctx: StageContext, **config: Any) -> list[Tensor]:
    model, processor = random_llava(layers=3)
    torch.manual_seed(0)
    wrapped = attach_lora(model, LoRAConfig(rank=4, alpha=8), ctx.linear_layers)
    train(
        wrapped,
        ctx.samples("b"),
        Training(
            method=method,
            processor=processor,
            config=TrainingConfig(learning_rate=1e-3, epochs=3, scheduler="constant", **config),
            seed=0,
            folder=folder,
            where="stage 2 (b)",
        ),
    )
    return [tensor.detach() for tensor in wrapped.parameters() if tensor.requires_grad]


@pytest.mark.slow
def test_accumulating_eight_batches_of_one_is_one_batch_of_eight(tmp_path: Path) -> None:
    method, ctx, _ = second_stage(tmp_path, alpha=0.5, beta=1.0)
    one = trained(tmp_path / "one", method, ctx, batch_size=8)
    eight = trained(tmp_path / "eight", method, ctx, batch_size=1, gradient_accumulation=8)
    plain = trained(tmp_path / "plain", Method(), ctx, batch_size=8)

    for a, b in zip(one, eight, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert any((a - b).abs().max() > 1e-3 for a, b in zip(one, plain, strict=True))


def test_without_a_buffer_nothing_is_replayed(tmp_path: Path) -> None:
    method = DERPP(DERPPConfig(per_task=0))

    two_stages(method, tmp_path)

    assert method.buffer == {}
