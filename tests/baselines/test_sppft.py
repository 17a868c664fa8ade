import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import cosine_similarity

from hpa_bench import run
from hpa_bench.baselines.sppft import SPPFT, SPPFTConfig, angle_gaps, last_prompt_states, steepest_run
from hpa_bench.data.samples import Sample
from hpa_bench.errors import UserError
from hpa_bench.method import Method, StageContext
from hpa_bench.models.adapters import lora_factors
from hpa_bench.models.decoder import Decoder
from tests.support.stages import coloured_samples, random_stage
from tests.support.suites import write_suite

BLOCKS = 3


def deep(ctx: StageContext, blocks: int) -> StageContext:
    """Return the stage of a model with so many decoder blocks, as far as their names go."""
    return replace(ctx, decoder=Decoder("layers", [[f"layers.{index}.q_proj"] for index in range(blocks)]))


def block_of(name: str) -> int:
    return int(name.split(".layers.")[1].split(".")[0])


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [(32, range(5, 15)), (80, range(12, 38)), (8, range(1, 4)), (4, range(1, 2)), (3, range(0, 1)), (2, range(0, 1))],
)
def test_the_default_range_is_the_scripts_scaled_to_the_depth(blocks: int, expected: range, tmp_path: Path) -> None:
    _, _, ctx = random_stage(tmp_path)

    assert SPPFT().frozen(deep(ctx, blocks)) == set(expected)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_an_empty_share_of_the_depth_is_one_block(share: float, tmp_path: Path) -> None:
    _, _, ctx = random_stage(tmp_path)

    assert SPPFT(SPPFTConfig(first=share, last=share)).frozen(deep(ctx, 8)) == {min(round(8 * share), 7)}


def test_frozen_blocks_get_no_adapter_and_all_others_get_one_on_every_layer(tmp_path: Path) -> None:
    _, _, ctx = random_stage(tmp_path, layers=BLOCKS)

    wrapped = SPPFT(SPPFTConfig(layers=(0, 2))).wrap(ctx.model, ctx)

    trained = {name for name, tensor in wrapped.named_parameters() if tensor.requires_grad}
    assert {block_of(name) for name in trained} == {1}
    assert {layer.name for layer in lora_factors(wrapped)} == set(ctx.layers[1])


def test_without_frozen_blocks_the_adapter_is_that_of_seqft(tmp_path: Path) -> None:
    def fresh(method: Method) -> dict[str, Tensor]:
        _, _, ctx = random_stage(tmp_path)
        torch.manual_seed(0)
        wrapped = method.wrap(ctx.model, ctx)
        return {name: tensor for name, tensor in wrapped.named_parameters() if tensor.requires_grad}

    ours, seqft = fresh(SPPFT(SPPFTConfig(layers=()))), fresh(Method())

    assert list(ours) == list(seqft)
    assert all(torch.equal(ours[name], tensor) for name, tensor in seqft.items())


def test_nothing_left_to_train_is_refused(tmp_path: Path) -> None:
    _, _, ctx = random_stage(tmp_path, layers=BLOCKS)

    with pytest.raises(UserError, match=r"'sppft' freezes all 3 decoder blocks: leave at least one"):
        SPPFT(SPPFTConfig(layers=(0, 1, 2))).start(ctx)


@pytest.mark.parametrize("block", [-1, 3])
def test_a_block_that_the_model_does_not_have_is_refused(block: int, tmp_path: Path) -> None:
    _, _, ctx = random_stage(tmp_path, layers=BLOCKS)

    with pytest.raises(UserError, match=rf"names block {block}: this model has 0 to 2"):
        SPPFT(SPPFTConfig(layers=(1, block))).start(ctx)


def test_the_gap_is_the_angle_between_two_directions() -> None:
    angles = torch.tensor([0.0, 0.3, 1.2])
    harmless = torch.tensor([2.0, 0.0]).expand(4, 3, 2)
    harmful = torch.stack([angles.cos(), angles.sin()], dim=-1).expand(5, 3, 2)

    torch.testing.assert_close(angle_gaps(harmless, harmful), angles, rtol=0, atol=1e-3)


def test_the_gap_is_a_difference_of_means_over_pairs() -> None:
    draw = torch.Generator().manual_seed(0)
    harmless, harmful = torch.randn(3, 2, 5, generator=draw), torch.randn(4, 2, 5, generator=draw)

    for block, gap in enumerate(angle_gaps(harmless, harmful)):

        def angle(one: Tensor, other: Tensor, block: int = block) -> float:
            return math.acos(float(cosine_similarity(one[block].double(), other[block].double(), dim=0)))

        across = [angle(one, other) for one in harmless for other in harmful]
        within = [angle(harmless[i], harmless[j]) for i in range(3) for j in range(3) if i != j]
        assert gap.item() == pytest.approx(sum(across) / 12 - sum(within) / 6, abs=1e-5)


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        ([0.0, 0.0, 0.1, 0.5, 0.8, 0.9, 0.9, 0.9], (3, 4)),
        ([0.0, 0.2, 0.2, 0.2, 0.7, 0.7], (4,)),
        ([0.0, 0.0, 0.0, 0.1, 0.6, 0.9], (4, 5)),
        ([0.4, 0.8, 0.8, 0.8], (0, 1)),
        ([0.5, 0.4, 0.3], (0,)),
    ],
)
def test_the_blocks_are_those_around_the_steepest_growth(gaps: list[float], expected: tuple[int, ...]) -> None:
    assert steepest_run(torch.tensor(gaps)) == expected


def test_states_are_those_of_the_last_token_before_the_answer_whatever_the_padding(tmp_path: Path) -> None:
    _, _, ctx = random_stage(tmp_path, layers=BLOCKS)
    samples = coloured_samples(4)

    found = last_prompt_states(ctx.model, [ctx.collate(samples[:3]), ctx.collate(samples[3:])])

    assert found.shape == (4, BLOCKS, 32)
    for sample, states in zip(samples, found, strict=True):
        batch = dict(ctx.collate([sample]))
        answered = int((batch.pop("labels")[0] != -100).nonzero()[0])
        # What comes after a token does not change its state.
        cut = {name: tensor[:, :answered] if name != "pixel_values" else tensor for name, tensor in batch.items()}
        with torch.no_grad():
            hidden = ctx.model(**cut, output_hidden_states=True).hidden_states[1:]
        torch.testing.assert_close(states, torch.stack([state[0, -1] for state in hidden]), rtol=1e-4, atol=1e-5)


def localised_stage(folder: Path) -> tuple[StageContext, list[str]]:
    """Return a stage whose model is not the aligned one, and the list of what has been asked for."""
    before, after, ctx = random_stage(folder, layers=BLOCKS)
    asked: list[str] = []

    def batches(name: str, samples: Sequence[Sample]) -> list[dict[str, Tensor]]:
        asked.append(name)
        return [dict(ctx.collate(samples))]

    harmless = coloured_samples(8)
    harmful = [replace(sample, prompt="how is that <image> there ?") for sample in coloured_samples(5)]
    ctx.model.load_state_dict(after)
    return replace(
        ctx,
        start=before,
        before=after,
        safety_calibration=lambda: batches("harmful", harmful),
        task_calibration=lambda: batches("harmless", harmless),
    ), asked


def test_localising_looks_at_the_aligned_model_once_and_leaves_the_weights(tmp_path: Path) -> None:
    ctx, asked = localised_stage(tmp_path)
    method = SPPFT(SPPFTConfig(layers="localise"))
    assert method.needs == {"safety_calibration", "task_calibration"} and not SPPFT().needs

    found = method.frozen(ctx)

    assert all(torch.equal(tensor, ctx.before[name]) for name, tensor in ctx.model.state_dict().items())
    ctx.model.load_state_dict(dict(ctx.start))
    states = [last_prompt_states(ctx.model, batches) for batches in (ctx.task_calibration(), ctx.safety_calibration())]
    assert found == set(steepest_run(angle_gaps(*states)))
    asked.clear()
    later = SPPFT(SPPFTConfig(layers="localise"))
    later.load_state_dict(method.state_dict())
    assert later.frozen(ctx) == found and not asked


def test_one_harmless_sample_is_no_pair(tmp_path: Path) -> None:
    ctx, _ = localised_stage(tmp_path)
    alone = replace(ctx, task_calibration=lambda: [dict(ctx.collate(coloured_samples(1)))])

    with pytest.raises(UserError, match=r"has 1: set calibration\.task_samples to 2 or more"):
        SPPFT(SPPFTConfig(layers="localise")).frozen(alone)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [[], ["layers=localise", "calibration.safety_set=refusals"]])
def test_in_a_run_the_frozen_blocks_keep_the_aligned_weights_bit_for_bit(settings: list[str], tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "suite", aligned=bool(settings))
    end = run(str(suite), "sppft", out=tmp_path / "run", settings=settings).stage(2)
    start, ours = (load_file(folder / "model.safetensors") for folder in (tmp_path / "suite" / "model", end.weights))
    frozen = set(load_file(end.state / "state.safetensors")["layers"].tolist()) if settings else {0}

    changed = {block_of(f".{name}") for name in start if not torch.equal(start[name], ours[name])}

    assert changed == {0, 1} - frozen and changed
