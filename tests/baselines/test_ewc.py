from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from hpa_bench.baselines.ewc import EWC, EWCConfig
from hpa_bench.baselines.l2 import L2
from hpa_bench.baselines.shared.fisher import fisher_information, mean_entry
from hpa_bench.machine import products
from hpa_bench.models.adapters import lora_factors
from tests.support.adapted import adapted_model
from tests.support.stages import coloured_samples, random_stage
from tests.support.training import samples, trained


def test_dense_fisher_is_the_mean_of_squared_gradients_of_single_samples(tmp_path: Path) -> None:
    _, _, ctx = random_stage(tmp_path)
    name = ctx.layers[1][3]
    found = fisher_information(ctx.model, [name], [ctx.collate(coloured_samples(5))], dense=True)

    weight = ctx.model.get_submodule(name).weight
    expected = torch.zeros_like(weight, dtype=torch.float64)
    for sample in coloured_samples(5):
        batch = dict(ctx.collate([sample]))
        labels = batch.pop("labels")
        logits = ctx.model(**batch).logits[0, :-1]
        (gradient,) = torch.autograd.grad(cross_entropy(logits, labels[0, 1:], reduction="sum"), weight)
        expected += gradient.double().square() / 5
    torch.testing.assert_close(found[name].double(), expected, rtol=1e-3, atol=1e-8)


def test_it_lies_in_memory_as_it_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a run that goes on would add it up in another order."""
    monkeypatch.setattr(products, "served", lambda: True)
    monkeypatch.setattr(products, "product", lambda a, b: products.in_order(b.t(), a.t()).t())  # laid out by columns
    _, _, ctx = random_stage(tmp_path)
    with products.chosen("portable", "cpu"):
        found = fisher_information(ctx.model, ctx.linear_layers, [ctx.collate(coloured_samples(5))], dense=True)

    assert [name for name, value in found.items() if not value.is_contiguous()] == []


def test_batches_and_flags_do_not_matter(tmp_path: Path) -> None:
    _, _, ctx = random_stage(tmp_path)
    ctx.model.requires_grad_(False)
    name = ctx.layers[0][0]
    together = fisher_information(ctx.model, [name], [ctx.collate(coloured_samples(4))], dense=True)
    apart = fisher_information(ctx.model, [name], [ctx.collate([s]) for s in coloured_samples(4)], dense=True)

    torch.testing.assert_close(together[name], apart[name], rtol=1e-3, atol=1e-9)
    assert not any(parameter.requires_grad for parameter in ctx.model.parameters())


def test_factors_are_exact_for_samples_of_one_token_that_matters(tmp_path: Path) -> None:
    """With one token in all, the outer product of the factors is the squared gradient itself."""
    layer = torch.nn.Linear(3, 2, bias=False)

    class OneToken(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.layer = torch.nn.Embedding(5, 3), layer

        def get_input_embeddings(self) -> torch.nn.Module:
            return self.embed

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> object:
            logits = self.layer(self.embed(input_ids))
            return type("Output", (), {"logits": torch.nn.functional.pad(logits, (0, 0, 0, 1))})

    batch = {
        "input_ids": torch.tensor([[4]]),
        "attention_mask": torch.ones(1, 1),
        "labels": torch.tensor([[-100, 1]]),
    }
    model = OneToken()
    dense = fisher_information(model, ["layer"], [batch], dense=True)["layer"]
    factors = fisher_information(model, ["layer"], [batch], dense=False)

    assert dense.abs().sum() > 0
    torch.testing.assert_close(torch.outer(factors["layer/out"], factors["layer/in"]), dense)


@pytest.mark.parametrize("fisher", ["dense", "factored"])
def test_the_penalty_weighs_the_squared_update_by_fisher(fisher: str, tmp_path: Path) -> None:
    method = EWC(EWCConfig(strength=4.0, fisher=fisher))
    model, _ = adapted_model(tmp_path)
    draw = torch.Generator().manual_seed(1)
    expected = 0.0
    for f in lora_factors(model):
        rows, columns = len(f.b), f.a.shape[1]
        out, inward = torch.rand(rows, generator=draw), torch.rand(columns, generator=draw)
        method.fisher |= (
            {f.name: torch.outer(out, inward)} if fisher == "dense" else {f"{f.name}/out": out, f"{f.name}/in": inward}
        )
        update = f.scale * f.b.detach().double() @ f.a.detach().double()
        expected += float((torch.outer(out, inward).double() * update.square()).sum())

    penalty = method.penalty(model, {}, None)

    assert penalty is not None
    assert float(penalty) == pytest.approx(2.0 * expected, rel=1e-4)


def test_the_backward_pass_keeps_no_dense_update(tmp_path: Path) -> None:
    method = EWC(EWCConfig(strength=4.0))
    model, _ = adapted_model(tmp_path)
    method.fisher = {factors.name: torch.rand_like(factors.update()) for factors in lora_factors(model)}
    kept: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        penalty = method.penalty(model, {}, None)

    assert penalty is not None and penalty.requires_grad
    assert sum(kept) < min(fisher.numel() for fisher in method.fisher.values())


def test_no_past_is_no_penalty_and_no_strength_is_no_pass(tmp_path: Path) -> None:
    model, _ = adapted_model(tmp_path)
    assert EWC().penalty(model, {}, None) is None

    _, after, ctx = random_stage(tmp_path)
    off = EWC(EWCConfig(strength=0))
    assert not list(off.adapt(after, after, ctx))
    assert not off.state_dict()


def test_gamma_one_adds_and_gamma_zero_forgets(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)

    def state(gamma: float, stages: int) -> dict[str, torch.Tensor]:
        method = EWC(EWCConfig(gamma=gamma, fisher_samples=4))
        for stage in range(1, stages + 1):
            assert not list(method.adapt(before, after, replace(ctx, stage=stage)))
        return dict(method.state_dict())

    first, both, last = state(1.0, 1), state(1.0, 2), state(0.0, 2)
    for key in first:
        torch.testing.assert_close(both[key], first[key] + last[key], rtol=1e-5, atol=1e-9)


def entries(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return F of every layer as the penalty weighs it, `[o, i]` float64."""
    outward = [key for key in state if not key.endswith("/in")]
    return {
        key.removesuffix("/out"): torch.outer(state[key].double(), state[key.removesuffix("out") + "in"].double())
        if key.endswith("/out")
        else state[key].double()
        for key in outward
    }


def fisher_after_a_stage(folder: Path, scale: float = 1.0, **config: object) -> dict[str, torch.Tensor]:
    """Return F after one stage, the loss of the answers being multiplied by `scale`."""
    before, after, ctx = random_stage(folder)
    method = EWC(EWCConfig(fisher_samples=4, **config))  # type: ignore[arg-type]
    head = ctx.model.get_output_embeddings()

    def scaled(_: torch.nn.Module, args: object, logits: torch.Tensor) -> None:
        logits.register_hook(lambda g: scale * g)

    handle = head.register_forward_hook(scaled)
    assert not list(method.adapt(before, after, ctx))
    handle.remove()
    return entries(dict(method.state_dict()))


@pytest.mark.parametrize("fisher", ["dense", "factored"])
def test_a_tasks_fisher_has_the_mean_one_whatever_the_scale_of_the_loss(fisher: str, tmp_path: Path) -> None:
    papers = fisher_after_a_stage(tmp_path, fisher=fisher, normalise=False)
    mean = float(torch.cat([f.flatten() for f in papers.values()]).mean())
    ours = fisher_after_a_stage(tmp_path, fisher=fisher)
    larger = fisher_after_a_stage(tmp_path, scale=30.0, fisher=fisher)

    assert not 0.1 < mean < 10
    for name, f in papers.items():
        torch.testing.assert_close(ours[name], f / mean, rtol=1e-4, atol=1e-9)
        torch.testing.assert_close(larger[name], ours[name], rtol=1e-4, atol=1e-9)


def test_the_papers_fisher_can_be_had(tmp_path: Path) -> None:
    _, after, ctx = random_stage(tmp_path)
    found = fisher_after_a_stage(tmp_path, normalise=False)
    ctx.model.load_state_dict(after)
    rows = torch.randperm(8, generator=ctx.generator("ewc"))[:4].tolist()
    batch = ctx.collate([ctx.samples("a")[row] for row in rows])
    expected = fisher_information(ctx.model.eval(), ctx.linear_layers, [batch], dense=True)

    for name, f in expected.items():
        torch.testing.assert_close(found[name], f.double(), rtol=1e-4, atol=1e-10)


def test_a_fisher_of_zeros_stays_zero(tmp_path: Path) -> None:
    found = fisher_after_a_stage(tmp_path, scale=0.0)

    assert not any(f.any() for f in found.values())


@pytest.mark.parametrize("fisher", ["dense", "factored"])
def test_with_every_importance_alike_it_is_l2(fisher: str, tmp_path: Path) -> None:
    model, _ = adapted_model(tmp_path)
    method = EWC(EWCConfig(fisher=fisher))
    for f in lora_factors(model):
        out, inward = torch.ones(len(f.b)), torch.ones(f.a.shape[1])
        method.fisher |= (
            {f.name: torch.outer(out, inward)} if fisher == "dense" else {f"{f.name}/out": out, f"{f.name}/in": inward}
        )

    assert mean_entry(method.fisher) == pytest.approx(1)
    torch.testing.assert_close(method.penalty(model, {}, None), L2().penalty(model, {}, None), rtol=1e-5, atol=0)


def test_an_anchor_on_safety_starts_with_the_aligned_models_refusals(tmp_path: Path) -> None:
    _, _, ctx = random_stage(tmp_path)
    labelled = ctx.collate(coloured_samples(3))
    ctx = replace(ctx, safety_calibration=lambda: [labelled])
    method = EWC(EWCConfig(anchor_safety=True))
    assert method.needs == {"safety_calibration"} and not EWC().needs

    method.start(ctx)

    assert len(method.state_dict()) == len(ctx.linear_layers)


def test_the_state_survives_a_round_trip() -> None:
    method, other = EWC(), EWC()
    method.fisher = {"layer": torch.rand(2, 3)}
    other.load_state_dict(method.state_dict())

    assert torch.equal(other.fisher["layer"], method.fisher["layer"])


def test_accumulation_changes_nothing(tmp_path: Path) -> None:
    model, _ = adapted_model(tmp_path)
    method = EWC(EWCConfig(strength=10.0))
    method.fisher = {f.name: torch.ones(len(f.b), f.a.shape[1]) for f in lora_factors(model)}
    whole = trained(tmp_path / "whole", samples(8), method, batch_size=8)
    parts = trained(tmp_path / "parts", samples(8), method, batch_size=1, gradient_accumulation=8)

    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-4, atol=1e-6)
