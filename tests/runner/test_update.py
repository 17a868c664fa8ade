"""What is left of a stage's update: norms, KL on given answers, and which columns were kept."""

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from baselines.magnitude_columns import MagnitudeColumns
from baselines.random_columns import RandomColumns
from hpa_bench import Batch, run
from hpa_bench.hpa import HPA, HPAConfig
from hpa_bench.method import StageContext
from hpa_bench.models.weights import load_into
from hpa_bench.results.run_folder import RunFolder, StageFolder
from hpa_bench.results.runs import Run
from hpa_bench.results.update import StageUpdate, read_update, update_series
from hpa_bench.runner.update import SAMPLES, answer_kl, measure_update
from tests.support.stages import coloured_samples, random_stage
from tests.support.suites import write_suite

Weights = dict[str, Tensor]


def batches(ctx: StageContext) -> list[Batch]:
    return [ctx.collate(coloured_samples(5)), ctx.collate(coloured_samples(3))]


def asked(ctx: StageContext) -> list[Batch]:
    raise AssertionError("the model was asked")


def scaled(before: Weights, after: Weights, share: float) -> Weights:
    return {name: before[name] + share * (after[name] - before[name]) for name in after}


@pytest.mark.parametrize("share", [0.0, 0.5, 2.0])
def test_the_norm_ratio_is_the_share_of_the_update_that_is_left(tmp_path: Path, share: float) -> None:
    before, after, ctx = random_stage(tmp_path)

    found = measure_update(after, scaled(before, after, share), ctx, lambda: batches(ctx))

    assert found.kept == pytest.approx(share, abs=1e-6)
    assert found.samples == 8 and found.tokens == sum(int((b["labels"] != -100).sum()) for b in batches(ctx))


def test_nothing_is_asked_where_nothing_was_edited(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)

    assert measure_update(after, dict(after), ctx, lambda: asked(ctx)) == StageUpdate(kept=1.0, kl=0.0)
    assert measure_update(before, dict(before), ctx, lambda: asked(ctx)) == StageUpdate(kept=None, kl=0.0)


def test_kl_is_that_of_the_tokens_of_answers(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)
    sums = []
    for sample in coloured_samples(5):
        batch = ctx.collate([sample])
        places = batch["labels"][0, 1:] != -100
        p, q = (distributions(ctx, weights, batch)[0, :-1][places] for weights in (after, before))
        sums += (p * (p.log() - q.log())).sum(-1).tolist()

    kl, tokens = answer_kl(ctx.model, after, before, [ctx.collate(coloured_samples(5))])

    assert tokens == len(sums)
    assert kl == pytest.approx(sum(sums) / len(sums), rel=1e-3) and kl > 1e-4


def distributions(ctx: StageContext, weights: Weights, batch: Batch) -> Tensor:
    load_into(ctx.model, weights)
    with torch.no_grad():
        return ctx.model(**{name: tensor for name, tensor in batch.items() if name != "labels"}).logits.softmax(-1)


def test_the_model_is_asked_without_dropout_and_left_as_it_was(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)
    ctx.model.train()

    found = [answer_kl(ctx.model, after, before, batches(ctx)) for _ in range(2)]

    assert found[0] == found[1] and ctx.model.training
    assert torch.equal(
        ctx.model.state_dict()[f"{ctx.linear_layers[0]}.weight"], before[f"{ctx.linear_layers[0]}.weight"]
    )


def test_the_largest_columns_are_all_of_the_largest(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)
    config = HPAConfig(p_max=40, p_min=20)
    shares = {}
    for method in (MagnitudeColumns(config), RandomColumns(RandomColumns.Config(p_max=40, p_min=20)), HPA(config)):
        edited = after | dict(method.adapt(before, after, ctx))
        found = measure_update(after, edited, ctx, lambda: batches(ctx), method.keeps_columns)
        layers = [layer for block in found.blocks for layer in block.values()]
        assert [list(block) for block in found.blocks] == [list(block) for block in ctx.layers]
        shares[method.name] = sum(layer.common for layer in layers) / sum(layer.kept for layer in layers)
        if method.name != "random_columns":
            assert [layer.kept for layer in found.blocks[0].values()] == [
                round(0.4 * layer.columns) for layer in found.blocks[0].values()
            ]

    assert shares["magnitude_columns"] == 1
    assert shares["random_columns"] < shares["hpa"]


def test_columns_that_training_left_alone_are_not_kept(tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)
    name = f"{ctx.linear_layers[0]}.weight"
    after[name][:, 0] = before[name][:, 0]
    edited = dict(after)
    edited[name] = after[name].clone()
    edited[name][:, 1] = before[name][:, 1]

    found = measure_update(after, edited, ctx, lambda: batches(ctx), columns=True)

    first, *others = [layer for block in found.blocks for layer in block.values()]
    assert first.kept == 1 and not any(layer.kept for layer in others)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_suite(tmp_path_factory.mktemp("suite"), aligned=True, calibration={"safety_set": "harm"})


def of(suite: Path, method: str, out: Path, settings: list[str] | None = None) -> RunFolder:
    return run(str(suite), method, out=out, settings=settings or [])


@pytest.mark.slow
def test_a_run_keeps_what_its_edits_left(suite: Path, tmp_path: Path) -> None:
    folder = of(suite, "magnitude_columns", tmp_path / "m", ["p_max=50", "p_min=50"])

    found = [read_update(stage) for stage in folder.finished_stages()]
    assert found[0] is None
    for record in found[1:]:
        assert record is not None and record.kept is not None and 0 < record.kept < 1
        assert record.kl > 0 and record.samples == min(SAMPLES, 12)
        assert all(layer.common == layer.kept > 0 for block in record.blocks for layer in block.values())
    assert "measure" in folder.stage(1).cost["seconds"]
    assert "stage1/update.json" in (folder.stage(1).path / "DONE").read_text()
    measures = Run(folder).measures
    assert measures[(2, update_series("column_overlap"))].value == 100  # type: ignore[index]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "settings"), [("seqft", []), ("moelora", ["experts=2"])])
def test_what_edits_nothing_is_whole_by_definition(
    suite: Path, tmp_path: Path, method: str, settings: list[str]
) -> None:
    folder = of(suite, method, tmp_path / method, settings)

    assert [stage.update for stage in folder.finished_stages()[1:]] == [{"kept": 1.0, "kl": 0.0}] * 2


@pytest.mark.slow
def test_the_scored_model_counts_where_another_is_handed_on(suite: Path, tmp_path: Path) -> None:
    folder = of(suite, "magmax", tmp_path / "magmax", ["scale=0.5"])

    (first, _) = (stage.update for stage in folder.finished_stages()[1:])
    assert first is not None and first["kept"] == pytest.approx(0.5, rel=1e-3) and first["kl"] > 0


@pytest.mark.slow
def test_a_stage_that_is_scored_again_has_what_it_noted(suite: Path, tmp_path: Path) -> None:
    folder = of(suite, "magnitude_columns", tmp_path / "m")
    stage = folder.stage(2)
    noted, responses = stage.update, contents(stage)
    (stage.path / "DONE").unlink()

    of(suite, "magnitude_columns", folder.path)

    # W0 was dropped when the stage was finished: measured from theta_0, it would be another number.
    assert stage.done and stage.update == noted and contents(stage) == responses
    shutil.rmtree(stage.adapter)
    for file in (stage.path / "DONE", stage.update_file):
        file.unlink()

    of(suite, "magnitude_columns", folder.path)

    assert stage.done and stage.update is None and contents(stage) == responses
    assert "is not measured" in (folder.path / "events.jsonl").read_text()


def contents(stage: StageFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (stage.path / "responses").iterdir()}
