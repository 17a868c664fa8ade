from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hpa_bench.baselines.replay import Replay, ReplayConfig
from hpa_bench.data.samples import Sample
from hpa_bench.errors import UserError
from hpa_bench.method import StageContext
from tests.support.stages import coloured_samples, random_stage

TASKS = {name: coloured_samples(count, name) for name, count in (("c", 10), ("a", 8), ("b", 6))}


def ids(samples: Sequence[Sample]) -> list[str]:
    return [sample.id for sample in samples]


def stages(folder: Path, **config: float) -> list[tuple[Replay, list[str]]]:
    """Take the three stages c, a, b, the state going through a file; return each method and the ids it trains on."""
    before, after, ctx = random_stage(folder)
    taken, file = [], folder / "state.safetensors"
    save_file({}, file)
    for stage, task in enumerate(TASKS, 1):
        seen = list(TASKS)[:stage]
        now = replace(ctx, stage=stage, tasks=(task,), samples={name: TASKS[name] for name in seen}.__getitem__)
        method = Replay(ReplayConfig(**config))
        method.load_state_dict(load_file(file))
        trained = ids(method.training_data(TASKS[task], now))
        assert not list(method.adapt(before, after, now))
        save_file(dict(method.state_dict()), file)
        taken.append((method, trained))
    return taken


def test_every_stage_trains_on_its_own_samples_and_k_of_each_earlier_task(tmp_path: Path) -> None:
    (_, first), (_, second), (_, third) = stages(tmp_path, per_task=3)

    assert first == ids(TASKS["c"])
    assert second[:8] == ids(TASKS["a"])
    assert third[:6] == ids(TASKS["b"])
    assert len(set(second[8:])) == 3 and set(second[8:]) <= set(ids(TASKS["c"]))
    assert len(set(third[6:])) == 6 and len(set(third[6:]) & set(ids(TASKS["a"]))) == 3
    assert set(second[8:]) < set(third[6:]), "what is kept of a task stays the same"


def test_keeping_all_is_cumulative_training(tmp_path: Path) -> None:
    for config in ({"per_task": 100}, {"ratio": 1.0}):
        trained = [found for _, found in stages(tmp_path, **config)]

        assert [sorted(found) for found in trained] == [
            sorted(ids([sample for name in list(TASKS)[:stage] for sample in TASKS[name]])) for stage in (1, 2, 3)
        ]


def test_a_ratio_takes_its_share_of_every_task(tmp_path: Path) -> None:
    *_, (method, _) = stages(tmp_path, ratio=0.3, per_task=1)

    assert {task: len(rows) for task, rows in method.kept.items()} == {"a": 2, "b": 2, "c": 3}


def test_keeping_nothing_is_seqft(tmp_path: Path) -> None:
    for config in ({"per_task": 0}, {"ratio": 0.0}):
        assert [found for _, found in stages(tmp_path, **config)] == [ids(samples) for samples in TASKS.values()]


def test_the_draw_depends_on_the_seed_and_the_task_alone(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)

    def drawn(ctx: StageContext) -> list[int]:
        method = Replay(ReplayConfig(per_task=4))
        method.adapt(before, after, ctx)
        torch.rand(3)
        assert list(method.adapt(before, after, ctx)) == [], "a hook may run again after a kill"
        return method.kept["a"].tolist()

    assert drawn(ctx) == drawn(ctx)
    assert any(drawn(replace(ctx, seed=seed)) != drawn(ctx) for seed in (1, 2))


def test_every_sample_is_kept_equally_often(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)
    counts = torch.zeros(8)
    for seed in range(800):
        method = Replay(ReplayConfig(per_task=2))
        method.adapt(before, after, replace(ctx, seed=seed))
        counts[method.kept["a"]] += 1

    # 99.9% of a chi-square with 7 degrees of freedom; draws without replacement vary less.
    assert ((counts - 200).square() / 200).sum() < 24.3


def test_safety_samples_are_trained_on_in_every_stage_and_must_be_asked_for(tmp_path: Path) -> None:
    safety = ids(coloured_samples(4, "safety"))
    assert not Replay().needs
    assert Replay(ReplayConfig(replay_safety=1)).needs == {"safety_data"}

    trained = [found for _, found in stages(tmp_path, per_task=0, replay_safety=3)]

    for found, samples in zip(trained, TASKS.values(), strict=True):
        assert found == [*ids(samples), *safety[:3]]


def test_more_safety_samples_than_there_are_is_refused(tmp_path: Path) -> None:
    _, _, ctx = random_stage(tmp_path)

    with pytest.raises(UserError, match=r"replay_safety=5 of method 'replay' is more .* expected at most 4\."):
        Replay(ReplayConfig(replay_safety=5)).start(ctx)
