"""Noise runs: every trained value begins one rounding error away, zeros stay, and nothing else differs."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import hpa_bench
from hpa_bench.errors import UserError
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.runner.noise import disturb
from tests.support.suites import write_suite


def values(dtype: torch.dtype = torch.float32, repeat: int = 1, stage: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers of every size with zeros among them, and what they become."""
    exponents = torch.linspace(-4, 4, 4000, dtype=torch.float64)
    before = (10**exponents * torch.tensor([1.0, -1.0]).repeat(2000)).to(dtype)
    before[::50] = 0
    model = nn.Module()
    model.trained = nn.Parameter(before.clone())
    model.frozen = nn.Parameter(before.clone(), requires_grad=False)
    disturb(model, 0, repeat, stage)
    assert torch.equal(model.frozen, before)
    return before, model.trained.detach()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_every_value_moves_by_a_rounding_error_and_zero_stays(dtype: torch.dtype) -> None:
    before, after = values(dtype)

    kept = before == 0
    assert torch.equal(after[kept], before[kept])
    moved, start = after[~kept].double(), before[~kept].double()
    assert (moved != start).all() and (moved.sign() == start.sign()).all()
    normal = start.abs() >= torch.finfo(dtype).smallest_normal
    size = ((moved - start) / start).abs()[normal]
    least = 1e-7 if torch.finfo(dtype).eps < 1e-7 else torch.finfo(dtype).eps / 2
    assert size.max() <= 2.01 * max(1e-7, torch.finfo(dtype).eps / 2) and size.min() >= 0.5 * least
    up = ((moved - start) * start.sign() > 0).double().mean()
    assert 0.45 < up < 0.55


def test_each_repeat_and_each_stage_draws_its_own() -> None:
    draws = [values(repeat=repeat, stage=stage)[1] for repeat, stage in ((1, 1), (2, 1), (1, 2))]

    assert torch.equal(draws[0], values()[1])
    assert not torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def adapters(run: RunFolder) -> list[dict[str, torch.Tensor]]:
    return [load_file(stage.adapter / "adapter_model.safetensors") for stage in run.finished_stages()[1:]]


@pytest.mark.slow
def test_every_stage_begins_beside_the_values_of_the_run_without_noise(tmp_path: Path) -> None:
    settings = ["training.learning_rate=0", "training.keep_weights=true"]
    suite = str(write_suite(tmp_path / "suite"))
    plain, noisy, again = (
        hpa_bench.run(suite, "seqft", settings=settings, noise=noise, out=tmp_path / name)
        for name, noise in (("plain", 0), ("noisy", 3), ("again", 3))
    )

    assert len(adapters(plain)) == 2
    for before, after, same in zip(adapters(plain), adapters(noisy), adapters(again), strict=True):
        for name, tensor in before.items():
            assert torch.equal(after[name], same[name])
            if "lora_B" in name:
                assert not tensor.any() and torch.equal(after[name], tensor)
            else:
                assert (after[name] != tensor).all()
                torch.testing.assert_close(after[name], tensor, rtol=2.4e-7, atol=0)
    assert (plain.manifest.noise, noisy.manifest.noise) == (0, 3)
    hpa_bench.run(suite, "seqft", settings=settings, noise=3, from_stage=2, out=tmp_path / "again")
    assert all(torch.equal(adapters(again)[1][name], tensor) for name, tensor in adapters(noisy)[1].items())
    with pytest.raises(UserError, match=r"made with another configuration: noise is 0 there and 1 here"):
        hpa_bench.run(suite, "seqft", settings=settings, noise=1, out=tmp_path / "plain")


def test_a_method_that_trains_nothing_has_no_noise(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'zero_shot' trains no parameter whose initial value noise could move"):
        hpa_bench.run("tiny", "zero_shot", noise=1, out=tmp_path / "run")
    with pytest.raises(UserError, match="--noise -1 is no number of a noise run"):
        hpa_bench.run("tiny", "seqft", noise=-1, out=tmp_path / "run")
