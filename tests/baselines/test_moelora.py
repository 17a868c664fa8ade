import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hpa_bench import run
from hpa_bench.baselines.moelora import MoELoRA, MoELoRAConfig
from hpa_bench.data.tasks import load_tasks
from hpa_bench.engines.hf import HFEngine
from hpa_bench.errors import UserError
from hpa_bench.method import StageContext
from hpa_bench.models.adapters import LoRAConfig, attach_lora, lora_factors
from hpa_bench.models.decoder import find_decoder
from hpa_bench.models.loading import load_model
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.results.seals import seal
from hpa_bench.runner.evaluation import Evaluator
from hpa_bench.runner.training import Step, Training, train
from hpa_bench.suite import TrainingConfig
from tests.support.interruptions import run_process
from tests.support.models import random_llava
from tests.support.stages import coloured_samples, random_stage
from tests.support.suites import write_suite

RANK, ALPHA = 8, 12


def stage(folder: Path, **lora: Any) -> StageContext:
    _, _, ctx = random_stage(folder, layers=2)
    return replace(ctx, lora=LoRAConfig(**{"rank": RANK, "alpha": ALPHA, **lora}))


def wrapped(ctx: StageContext, experts: int = 4, seed: int | None = 0) -> Any:
    """Return the model with experts, all of them random, or as they begin where the seed is None."""
    torch.manual_seed(0)
    model: Any = MoELoRA(MoELoRAConfig(experts=experts)).wrap(ctx.model, ctx)
    if seed is not None:
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for tensor in model.parameters():
                tensor.normal_(std=0.3, generator=draw)
    return model


def layer_names(ctx: StageContext) -> list[str]:
    return ctx.linear_layers


def logits(model: nn.Module, ctx: StageContext, count: int = 3) -> Tensor:
    with torch.no_grad():
        return model(**ctx.collate(coloured_samples(count))).logits


def test_a_layer_adds_the_experts_updates_weighted_token_by_token(tmp_path: Path) -> None:
    ctx = stage(tmp_path)
    name = layer_names(ctx)[-1]
    layer: Any = ctx.model.get_submodule(name)
    x = torch.randn(2, 3, layer.in_features, generator=torch.Generator().manual_seed(0))
    base = layer(x)
    experts = wrapped(ctx).experts[-1]

    y = layer(x)

    a, b, router = (tensor.detach().double() for tensor in (experts.a, experts.b, experts.router.weight))
    for sample in range(2):
        for token in range(3):
            here = x[sample, token].double()
            score = torch.stack([(row * here).sum().exp() for row in router])
            expected = base[sample, token].double()
            for expert, p in enumerate(score / score.sum()):
                rows = slice(2 * expert, 2 * expert + 2)
                expected = expected + ALPHA / RANK * p * (b[:, rows] @ (a[rows] @ here))
            torch.testing.assert_close(y[sample, token].double(), expected, rtol=1e-5, atol=1e-5)


def test_one_expert_is_plain_lora(tmp_path: Path) -> None:
    ctx = stage(tmp_path)
    model = wrapped(ctx, experts=1)
    ours = logits(model, ctx)
    factors = [(each.a.detach(), each.b.detach()) for each in model.experts]
    model.unload()

    lora = attach_lora(ctx.model, ctx.lora, layer_names(ctx))
    with torch.no_grad():
        for layer, (a, b) in zip(lora_factors(lora), factors, strict=True):
            layer.a.copy_(a)
            layer.b.copy_(b)

    torch.testing.assert_close(ours, logits(lora, ctx), rtol=1e-4, atol=1e-5)


def test_fresh_experts_change_nothing_and_begin_as_the_code_says(tmp_path: Path) -> None:
    ctx = stage(tmp_path, rank=32)
    base = logits(ctx.model, ctx)

    model = wrapped(ctx, experts=8, seed=None)

    assert torch.equal(logits(model, ctx), base)
    assert torch.cat([each.a.flatten() for each in model.experts]).std().item() == pytest.approx(0.01, rel=0.02)
    for each in model.experts:
        assert not each.b.any()
        bound = each.router.in_features**-0.5
        assert 0.9 * bound < each.router.weight.abs().max() <= bound


def test_an_indifferent_router_is_a_merged_update(tmp_path: Path) -> None:
    ctx = stage(tmp_path)
    model = wrapped(ctx)
    with torch.no_grad():
        for each in model.experts:
            each.router.weight.zero_()
    ours = logits(model, ctx)
    updates = [ALPHA / RANK / 4 * each.b.detach() @ each.a.detach() for each in model.experts]
    model.unload()

    with torch.no_grad():
        for name, update in zip(layer_names(ctx), updates, strict=True):
            ctx.model.get_submodule(name).weight += update  # type: ignore[operator]

    torch.testing.assert_close(ours, logits(ctx.model, ctx), rtol=1e-4, atol=1e-5)


def test_the_order_of_the_experts_does_not_matter(tmp_path: Path) -> None:
    ctx = stage(tmp_path)
    model = wrapped(ctx)
    before = logits(model, ctx)

    order = torch.tensor([2, 0, 3, 1])
    rows = torch.arange(RANK).view(4, 2)[order].flatten()
    with torch.no_grad():
        for each in model.experts:
            each.a.copy_(each.a[rows])
            each.b.copy_(each.b[:, rows])
    assert not torch.allclose(logits(model, ctx), before, atol=1e-3), "the routers' rows did not move yet"
    with torch.no_grad():
        for each in model.experts:
            each.router.weight.copy_(each.router.weight[order])

    torch.testing.assert_close(logits(model, ctx), before, rtol=1e-4, atol=1e-5)


def test_among_equal_experts_the_router_does_not_matter(tmp_path: Path) -> None:
    ctx = stage(tmp_path)
    model = wrapped(ctx)
    with torch.no_grad():
        for each in model.experts:
            each.a.copy_(each.a[:2].repeat(4, 1))
            each.b.copy_(each.b[:, :2].repeat(1, 4))
    before = logits(model, ctx)

    with torch.no_grad():
        for each in model.experts:
            each.router.weight.normal_()

    torch.testing.assert_close(logits(model, ctx), before, rtol=1e-4, atol=1e-5)


def test_padding_does_not_change_the_tokens_beside_it(tmp_path: Path) -> None:
    ctx = stage(tmp_path)
    model = wrapped(ctx)
    together = ctx.collate(coloured_samples(4))
    assert not together["attention_mask"].all()

    found = logits(model, ctx, 4)
    for index, sample in enumerate(coloured_samples(4)):
        with torch.no_grad():
            alone = model(**ctx.collate([sample])).logits[0]
        torch.testing.assert_close(found[index][together["attention_mask"][index].bool()], alone, rtol=1e-4, atol=1e-5)


def test_experts_and_routers_are_all_that_trains(tmp_path: Path) -> None:
    ctx = stage(tmp_path)
    model = wrapped(ctx)

    layers: list[Any] = [ctx.model.get_submodule(name) for name in layer_names(ctx)]
    expected = sum(RANK * (layer.in_features + layer.out_features) + 4 * layer.in_features for layer in layers)
    assert sum(tensor.numel() for tensor in model.parameters() if tensor.requires_grad) == expected
    model(**ctx.collate(coloured_samples(3))).loss.backward()
    assert all(tensor.grad is not None and tensor.grad.any() for tensor in model.parameters())
    assert all(tensor.grad is None for tensor in ctx.model.parameters())


def test_the_state_is_the_adapter_alone_and_wrap_puts_it_back(tmp_path: Path) -> None:
    ctx = stage(tmp_path)
    model, method = wrapped(ctx), MoELoRA(MoELoRAConfig(experts=4))
    ours = logits(model, ctx)
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}

    method.edit_adapter(model, ctx)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.zero_()
    model.unload()
    later = MoELoRA(MoELoRAConfig(experts=4))
    later.load_state_dict(method.state_dict())

    assert torch.equal(logits(later.wrap(ctx.model, ctx), ctx), ours)


def test_unloading_leaves_no_trace(tmp_path: Path) -> None:
    ctx = stage(tmp_path)
    ctx.model.lm_head.requires_grad_(False)  # type: ignore[union-attr]
    flags = {name: tensor.requires_grad for name, tensor in ctx.model.named_parameters()}
    base, modules = logits(ctx.model, ctx), list(ctx.model.modules())
    hooks = [len(module._forward_hooks) for module in modules]

    model = wrapped(ctx)
    assert not torch.allclose(logits(model, ctx), base, atol=1e-3)
    model.unload()

    assert torch.equal(logits(ctx.model, ctx), base)
    assert {name: tensor.requires_grad for name, tensor in ctx.model.named_parameters()} == flags
    assert list(ctx.model.modules()) == modules
    assert [len(module._forward_hooks) for module in modules] == hooks
    assert all(torch.equal(tensor, ctx.before[name]) for name, tensor in ctx.model.state_dict().items())


def test_beside_bfloat16_weights_the_experts_are_float32_and_hand_on_bfloat16(tmp_path: Path) -> None:
    ctx = stage(tmp_path)
    exact = logits(wrapped(ctx), ctx)
    other = stage(tmp_path)
    other.model.to(torch.bfloat16)
    model = wrapped(other)

    ours = logits(model, other)

    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32} and ours.dtype == torch.bfloat16
    assert torch.nn.functional.cosine_similarity(ours.float().flatten(), exact.flatten(), dim=0) > 0.99


def test_a_rank_that_the_experts_cannot_share_is_refused(tmp_path: Path) -> None:
    ctx = stage(tmp_path)

    with pytest.raises(UserError, match=r"lora\.rank=8 cannot be shared by experts=3 of method 'moelora'"):
        MoELoRA(MoELoRAConfig(experts=3)).start(ctx)


def trained(folder: Path, on_step: Callable[[Step], None] = lambda step: None, **config: Any) -> dict[str, Tensor]:
    ctx = stage(folder, dropout=0.1 if "save_steps" in config else 0.0)
    model = wrapped(ctx)
    train(
        model,
        coloured_samples(8),
        Training(
            method=MoELoRA(),
            processor=random_llava()[1],
            config=TrainingConfig(learning_rate=1e-3, scheduler="constant", max_grad_norm=1e9, **config),
            seed=0,
            folder=folder,
            where="stage 2",
        ),
        on_step,
    )
    return {name: tensor.detach().clone() for name, tensor in model.named_parameters()}


def test_accumulating_eight_batches_of_one_is_one_batch_of_eight(tmp_path: Path) -> None:
    one = trained(tmp_path / "one", batch_size=8)
    eight = trained(tmp_path / "eight", batch_size=1, gradient_accumulation=8)

    for name, tensor in one.items():
        torch.testing.assert_close(eight[name], tensor, rtol=1e-4, atol=1e-5)


class Stopped(Exception):
    """Stands for the process being stopped."""


@pytest.mark.slow
def test_training_goes_on_from_its_last_checkpoint_to_the_same_bits(tmp_path: Path) -> None:
    options: dict[str, Any] = {"batch_size": 2, "epochs": 2, "save_steps": 3}
    unbroken = trained(tmp_path / "unbroken", **options)

    def stop_at_five(step: Step) -> None:
        if step.done == 5:
            raise Stopped

    with pytest.raises(Stopped):
        trained(tmp_path / "broken", stop_at_five, **options)
    steps: list[int] = []
    finished = trained(tmp_path / "broken", lambda step: steps.append(step.done), **options)

    assert steps == [4, 5, 6, 7, 8]
    assert all(torch.equal(finished[name], tensor) for name, tensor in unbroken.items())


SETTINGS = ["experts=2", "training.learning_rate=0.05", "training.save_steps=2"]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_suite(tmp_path_factory.mktemp("suite"))


@pytest.fixture(scope="module")
def finished(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return run(str(suite), "moelora", out=tmp_path_factory.mktemp("runs") / "run", settings=SETTINGS)


@pytest.fixture(scope="module")
def killed(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same run, killed at the end of its second training: only there is the first state left."""
    folder = tmp_path_factory.mktemp("runs") / "killed"
    assert run_process("training", 2, str(suite), "moelora", out=folder, settings=SETTINGS) == -signal.SIGKILL
    return folder


def carried(folder: Path, stage: int) -> dict[str, Tensor]:
    return load_file(folder / f"stage{stage}" / "state" / "state.safetensors")


@pytest.mark.slow
def test_a_run_keeps_no_weights_and_trains_one_adapter_on(finished: RunFolder, killed: Path) -> None:
    assert len(finished.finished_stages()) == 3
    assert not list(finished.path.glob("stage*/weights"))
    first, second = carried(killed, 1), carried(finished.path, 2)
    assert first.keys() == second.keys()
    assert all(not torch.equal(second[name], tensor) for name, tensor in first.items())
    assert finished.stage(2).cost["trainable_parameters"] == sum(tensor.numel() for tensor in second.values())


@pytest.mark.slow
def test_a_killed_run_ends_like_an_unbroken_one(suite: Path, finished: RunFolder, killed: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(killed, tmp_path / "run"))

    resumed = run(str(suite), "moelora", out=folder, settings=SETTINGS)

    assert (folder / "stage2/scores.json").read_bytes() == (finished.path / "stage2/scores.json").read_bytes()
    ours, theirs = carried(resumed.path, 2), carried(finished.path, 2)
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    assert resumed.stage(2).responses("colours") == finished.stage(2).responses("colours")


@pytest.mark.slow
def test_the_second_stage_starts_from_the_adapter_of_the_first(
    suite: Path, finished: RunFolder, killed: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(killed, tmp_path / "run"))
    shutil.rmtree(folder / "stage2")
    shifted = {name: tensor + 9 if name.endswith(".a") else tensor for name, tensor in carried(killed, 1).items()}
    save_file(shifted, folder / "stage1" / "state" / "state.safetensors")
    seal(folder / "stage1" / "state")

    run(str(suite), "moelora", out=folder, settings=SETTINGS)

    for name, tensor in carried(folder, 2).items():
        assert (tensor.mean() > 8) == name.endswith(".a")


@pytest.mark.slow
def test_generation_uses_the_adapter_of_its_stage(suite: Path, finished: RunFolder, killed: Path) -> None:
    model, processor = load_model(str(suite.parent / "model"))
    ctx = replace(stage(suite.parent, rank=2, alpha=4), model=model, decoder=find_decoder(model))
    evaluator = Evaluator(load_tasks(["colours", "harm"], [suite.parent / "tasks"]))
    method = MoELoRA(MoELoRAConfig(experts=2))

    def answers(index: int) -> list[str]:
        return [row["response"] for name in ("colours", "harm") for row in finished.stage(index).responses(name)]

    for index, folder in ((1, killed), (2, finished.path)):
        method.load_state_dict(carried(folder, index))
        model_with_experts: Any = method.wrap(model, ctx)
        rows = evaluator.evaluate(HFEngine(model, processor))
        model_with_experts.unload()
        assert [row["response"] for name in ("colours", "harm") for row in rows[name]] == answers(index)
    assert answers(0) != answers(1) != answers(2)
