"""`training.also`: modules beside the adapter that are trained in full, at rates of their own, in real small runs."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hpa_bench import run
from hpa_bench.errors import UserError
from hpa_bench.models.weights import Checkpoint, Merged
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.spec import RunOptions, make_spec
from tests.support.interruptions import Place, run_process
from tests.support.models import random_llava
from tests.support.suites import write_suite

PROJECTOR = "multi_modal_projector"
ALSO = f"training.also={{{PROJECTOR}: 0.002}}"
ONE_STEP = ["tasks=[colours]", "training.batch_size=12", "training.scheduler=constant", "training.warmup_ratio=0"]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    return write_suite(folder, aligned=True, calibration={"safety_set": "refusals", "task_samples": 4})


def weights(folder: RunFolder, stage: int) -> dict[str, Tensor]:
    return load_file(folder.stage(stage).weights / "model.safetensors")


def start(suite: Path) -> dict[str, Tensor]:
    return load_file(suite.parent / "model" / "model.safetensors")


def changed(one: dict[str, Tensor], two: dict[str, Tensor]) -> set[str]:
    return {name for name in one if not torch.equal(one[name], two[name])}


@pytest.mark.slow
def test_each_rate_is_that_of_its_own_weights(suite: Path, tmp_path: Path) -> None:
    # AdamW's first step moves every weight by the learning rate, whatever its gradient.
    made = run(str(suite), "seqft", settings=[*ONE_STEP, ALSO, "training.learning_rate=0"], out=tmp_path / "run")

    w0, w1 = start(suite), weights(made, 1)
    assert changed(w0, w1) == {name for name in w0 if PROJECTOR in name}
    for name in changed(w0, w1):
        moved = (w1[name] - w0[name]).abs()
        assert moved.max().item() == pytest.approx(0.002, rel=1e-3)
        assert moved.median().item() == pytest.approx(0.002, rel=1e-2)
    assert made.stage(1).cost["trainable_parameters"] > sum(w0[name].numel() for name in changed(w0, w1))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_each_stage_hands_it_on_and_hpa_edits_none_of_it(suite: Path, tmp_path: Path, dtype: str) -> None:
    settings = [ALSO, "training.keep_weights=true", f"training.dtype={dtype}"]
    made = run(str(suite), "hpa", settings=settings, out=tmp_path / "run", device="cpu")

    model, _ = random_llava()
    before = [Checkpoint(suite.parent / "model", model), Checkpoint(made.stage(1).weights, model)]
    for stage, w0 in enumerate(before, 1):
        trained, scored = Merged(w0, made.stage(stage).adapter), Checkpoint(made.stage(stage).weights, model)
        projector = [name for name in w0 if PROJECTOR in name]
        assert projector and all(not torch.equal(w0[name], scored[name]) for name in projector)
        assert all(torch.equal(trained[name], scored[name]) for name in projector)
        assert {name for name in w0 if not torch.equal(scored[name], trained[name])} <= set(trained.adapted)
        others = set(w0) - set(projector) - set(trained.adapted)
        assert all(torch.equal(w0[name], scored[name]) for name in others)


@pytest.mark.slow
def test_ties_without_its_task_vectors_is_the_aligned_model(suite: Path, tmp_path: Path) -> None:
    made = run(str(suite), "ties", settings=[*ONE_STEP, ALSO, "scale=0"], out=tmp_path / "run")

    assert changed(start(suite), weights(made, 1)) == set()


@pytest.mark.slow
@pytest.mark.parametrize("place", ["training", "edited"])
def test_a_killed_run_ends_with_the_same_bytes(suite: Path, tmp_path: Path, place: Place) -> None:
    settings = [ALSO, "tasks=[colours]", "safety_sets=[]", "harmful_data=null"]
    settings += ["training.save_steps=2", "training.batch_size=3"]
    options = {"settings": settings, "device": "cpu", "out": tmp_path / "killed"}

    assert run_process(place, 1, str(suite), "seqft", **options) == -9
    assert run_process(None, 0, str(suite), "seqft", **options) == 0

    killed, whole = RunFolder(tmp_path / "killed"), run(str(suite), "seqft", **options | {"out": tmp_path / "whole"})
    assert changed(weights(killed, 1), weights(whole, 1)) == set()
    assert killed.stage(1).responses("colours") == whole.stage(1).responses("colours")


@pytest.mark.parametrize(
    ("method", "setting", "said"),
    [
        ("moelora", ALSO, "Method 'moelora' hands no weights on, so it cannot train 'multi_modal_projector'"),
        ("seqft", "training.also={projector: 1e-5}", "Unknown module 'projector' in training.also. Did you mean"),
        ("seqft", "training.also={multi_modal_projector: -1}", "greater than or equal to 0"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(
    suite: Path, tmp_path: Path, method: str, setting: str, said: str
) -> None:
    with pytest.raises(UserError) as caught:
        run(str(suite), method, settings=[setting], out=tmp_path / "run")

    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "stage0").exists()


def test_kept_features_and_a_trained_projector_contradict_each_other(suite: Path) -> None:
    with pytest.raises(UserError, match="image_features.keep keeps what training.also changes"):
        make_spec(RunOptions(str(suite), "seqft", settings=[ALSO, "image_features.keep=true"]))


def test_a_run_without_it_is_named_as_before_there_was_the_key(suite: Path, tmp_path: Path) -> None:
    plain, off, on = (
        make_spec(RunOptions(str(suite), "seqft", settings=settings)) for settings in ([], ["training.also={}"], [ALSO])
    )

    assert "also" not in plain.identity()["suite_config"]["training"]
    assert plain.default_folder(tmp_path) == off.default_folder(tmp_path) != on.default_folder(tmp_path)
    assert on.identity()["suite_config"]["training"]["also"] == {PROJECTOR: 0.002}
