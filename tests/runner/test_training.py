from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hpa_bench.baselines.lwf import LwF
from hpa_bench.errors import UserError
from hpa_bench.method import Method
from hpa_bench.results.seals import seal_of
from hpa_bench.runner.training import Done, Step, Training, _Further, train
from hpa_bench.suite import TrainingConfig
from tests.support.models import random_llava
from tests.support.training import samples, trained, wrapped


def kept(folder: Path, further: int | None, save: Callable[[], None], **config: Any) -> list[int]:
    """Return the steps at which a training of ten steps kept a checkpoint, each of which takes what `save` does."""
    found = []

    class Noting(_Further):
        def on_save(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
            save()
            found.append(state.global_step)
            super().on_save(args, state, control, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hpa_bench.runner.training._Further", Noting)
        settings = TrainingConfig(batch_size=1, epochs=1, save_steps=config.get("save_steps", 500))
        training = Training(Method(), random_llava()[1], settings, 0, folder, "stage 1 (colours)", further)
        train(wrapped(), samples(10), training)
    return found


def test_further_checkpoints_are_kept_while_they_are_cheap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("hpa_bench.runner.training.time.perf_counter", lambda: clock[0])

    def dear() -> None:
        clock[0] += 100.0

    assert kept(tmp_path / "cheap", 2, lambda: None) == [2, 4, 6, 8, 10]
    # After the first, of which nobody knew what it takes, the end's and what was asked for by `save_steps`.
    assert kept(tmp_path / "dear", 2, dear) == [2, 10]
    assert kept(tmp_path / "asked for", 2, dear, save_steps=3) == [2, 3, 6, 9, 10]


class Ridge(Method):
    """A penalty on the adapter alone: it has nothing of the batch's size in it."""

    name = "ridge"

    def penalty(self, model: nn.Module, batch: Mapping[str, Tensor], outputs: Any) -> Tensor:
        return 0.5 * sum((p.square().sum() for p in model.parameters() if p.requires_grad), torch.zeros(()))


class CountedRidge(Ridge):
    """Notes the size of every penalised batch."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def penalty(self, model: nn.Module, batch: Mapping[str, Tensor], outputs: Any) -> Tensor:
        self.sizes.append(len(batch["input_ids"]))
        return super().penalty(model, batch, outputs)


@pytest.mark.slow
@pytest.mark.parametrize("method", [Method(), Ridge()], ids=["task loss", "task loss and penalty"])
def test_accumulating_eight_batches_of_one_is_one_batch_of_eight(method: Method, tmp_path: Path) -> None:
    data = samples(8)
    one = trained(tmp_path / "a", data, method, batch_size=8, weight_decay=0.0, scheduler="constant")
    eight = trained(
        tmp_path / "b", data, method, batch_size=1, gradient_accumulation=8, weight_decay=0.0, scheduler="constant"
    )

    for name in one:
        torch.testing.assert_close(eight[name], one[name], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_penalty_is_trained(tmp_path: Path) -> None:
    method = CountedRidge()
    plain = trained(tmp_path / "a", samples(8), learning_rate=1e-2, batch_size=4, epochs=3)
    ridge = trained(tmp_path / "b", samples(8), method, learning_rate=1e-2, batch_size=4, epochs=3)

    def norm(adapter: dict[str, Tensor]) -> float:
        return sum(float(tensor.square().sum()) for tensor in adapter.values())

    assert method.sizes == [4] * 6
    assert norm(ridge) < norm(plain)


def test_without_a_learning_rate_nothing_changes(tmp_path: Path) -> None:
    adapter = trained(tmp_path, samples(4), learning_rate=0.0)

    for name, tensor in wrapped().named_parameters():
        if tensor.requires_grad:
            assert torch.equal(adapter[name], tensor)


@pytest.mark.slow
def test_the_same_seed_trains_the_same_bits(tmp_path: Path) -> None:
    first, second = (trained(tmp_path / name, samples(8), batch_size=2) for name in "ab")

    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_samples_that_other_processes_read_ahead_train_the_same_bits(tmp_path: Path) -> None:
    alone, ahead = (trained(tmp_path / str(workers), samples(8), batch_size=2, workers=workers) for workers in (0, 2))

    assert all(torch.equal(alone[name], ahead[name]) for name in alone)


@pytest.mark.parametrize("method", [Method(), LwF()], ids=["task loss", "distillation"])
def test_logits_of_answers_alone_train_the_same(method: Method, tmp_path: Path) -> None:
    whole, alone = (
        trained(tmp_path / str(on), samples(8), method, batch_size=4, gradient_accumulation=2, answer_logits=on)
        for on in (False, True)
    )

    for name in whole:
        torch.testing.assert_close(alone[name], whole[name], rtol=1e-6, atol=1e-7)


def test_a_model_whose_head_is_unknown_is_refused(tmp_path: Path) -> None:
    config = TrainingConfig(answer_logits=True)
    training = Training(Method(), random_llava()[1], config, 0, tmp_path, "stage 1")

    with pytest.raises(UserError, match=r"Linear, which the method trains, has no get_output_embeddings\(\)"):
        train(nn.Linear(2, 2), samples(1), training)


@pytest.mark.slow
@pytest.mark.parametrize("method", [Method(), Ridge(), LwF()], ids=["task loss", "penalty", "distillation"])
def test_recomputed_activations_train_the_same(method: Method, tmp_path: Path) -> None:
    kept, recomputed = (
        trained(tmp_path / str(on), samples(8), method, batch_size=4, epochs=2, gradient_checkpointing=on)
        for on in (False, True)
    )

    for name in kept:
        torch.testing.assert_close(recomputed[name], kept[name], rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_recomputed_activations_are_not_kept(tmp_path: Path) -> None:
    def bytes_for_backward(on: bool) -> int:
        total = 0

        def count(tensor: Tensor) -> Tensor:
            nonlocal total
            total += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            trained(tmp_path / str(on), samples(8), batch_size=8, gradient_checkpointing=on)
        return total

    assert bytes_for_backward(True) < bytes_for_backward(False) / 2


def test_recomputing_ends_with_the_training(tmp_path: Path) -> None:
    model = wrapped()
    config = TrainingConfig(batch_size=4, gradient_checkpointing=True)
    train(
        model,
        samples(4),
        Training(method=Method(), processor=random_llava()[1], config=config, seed=0, folder=tmp_path, where="stage 1"),
    )

    assert not any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


def test_a_wrapper_that_cannot_recompute_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Linear, which the method trains, has no gradient_checkpointing_enable"):
        train(
            nn.Linear(2, 2),
            samples(4),
            Training(
                method=Method(),
                processor=random_llava()[1],
                config=TrainingConfig(gradient_checkpointing=True),
                seed=0,
                folder=tmp_path,
                where="stage 1",
            ),
        )


class Stopped(Exception):
    """Stands for the process being stopped."""


def resumable(model: nn.Module, folder: Path, on_step: Callable[[Step], None], **options: Any) -> Done:
    config = TrainingConfig(learning_rate=1e-3, **options)
    return train(
        model,
        samples(8),
        Training(Method(), random_llava()[1], config, seed=0, folder=folder, where="stage 1"),
        on_step,
    )


@pytest.mark.slow
def test_training_goes_on_from_its_last_checkpoint_to_the_same_bits(tmp_path: Path) -> None:
    options: dict[str, Any] = {"batch_size": 2, "epochs": 2, "save_steps": 3}
    unbroken = trained(tmp_path / "unbroken", samples(8), **options)
    steps: list[int] = []

    def stop_at_five(step: Step) -> None:
        steps.append(step.done)
        if step.done == 5 and len(steps) == 5:
            raise Stopped

    with pytest.raises(Stopped):
        resumable(wrapped(), tmp_path / "broken", stop_at_five, **options)
    finished = wrapped()
    done = resumable(finished, tmp_path / "broken", stop_at_five, **options)

    assert steps == [1, 2, 3, 4, 5, 4, 5, 6, 7, 8]
    assert done.steps == 8 and 0 < done.earlier < 60
    for name, tensor in finished.named_parameters():
        if tensor.requires_grad:
            assert torch.equal(tensor, unbroken[name])


@pytest.mark.slow
def test_the_checkpoint_before_is_kept_until_the_next_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []

    def stopped(folder: Path) -> dict[str, Any]:
        if folder.name == "checkpoint-6":
            raise Stopped
        return seal_of(folder)

    def attempt() -> None:
        resumable(wrapped(), tmp_path, lambda step: steps.append(step.done), batch_size=1, save_steps=3)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr("hpa_bench.runner.training.seal_of", stopped)
        attempt()
    assert steps == [1, 2, 3, 4, 5, 6]
    attempt()

    assert steps[6:] == [4, 5, 6, 7, 8]
    assert [folder.name for folder in tmp_path.glob("checkpoint-*")] == ["checkpoint-8"]


def test_a_nan_loss_stops_and_says_where(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"loss became (nan|inf) at step \d+ of 40 in stage 2 \(colours\)"):
        trained(tmp_path, samples(8), learning_rate=1e30, batch_size=2, epochs=10, max_grad_norm=1e30)
