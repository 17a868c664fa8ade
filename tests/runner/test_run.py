"""Whole runs of a random LLaVA on two small tasks: real training, merging, generation and scoring, in seconds."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hpa_bench import Method, load_runs, run
from hpa_bench.errors import UserError
from hpa_bench.method import methods
from hpa_bench.results.run_folder import RunFolder, find_runs
from tests.support.suites import write_suite


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_suite(tmp_path_factory.mktemp("suite"))


@pytest.fixture(scope="module")
def seqft(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return run(str(suite), "seqft", out=tmp_path_factory.mktemp("runs") / "seqft")


def weights(folder: RunFolder, stage: int = 2) -> dict[str, Tensor]:
    return load_file(folder.stage(stage).weights / "model.safetensors")


class Unchanged(Method):
    """Takes every update back."""

    name = "unchanged"

    def adapt(self, before: Any, after: Any, ctx: Any) -> Iterator[tuple[str, Tensor]]:
        yield from ((f"{layer}.weight", before[f"{layer}.weight"]) for layer in ctx.linear_layers)


class Watcher(Method):
    """Counts its stages; the count is carried on disk. Fails in its second stage, once."""

    name = "watcher"
    seen: ClassVar[list[tuple[int, int]]] = []
    failures: ClassVar[list[str]] = []

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self.count = 0

    def adapt(self, before: Any, after: Any, ctx: Any) -> Iterator[tuple[str, Tensor]]:
        self.count += 1
        self.seen.append((ctx.stage, self.count))
        if ctx.stage == 2 and self.failures:
            raise RuntimeError(self.failures.pop())
        return iter(())

    def evaluated(self, handed_on: Mapping[str, Tensor], ctx: Any) -> Iterator[tuple[str, Tensor]]:
        """The scored model is the aligned one."""
        return iter(ctx.start.items()) if ctx.stage else iter(())

    def state_dict(self) -> dict[str, Tensor]:
        return {"count": torch.tensor(self.count)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.count = int(state["count"])


@pytest.fixture(autouse=True)
def strangers() -> None:
    for each in (Unchanged, Watcher):
        methods.add(each, each.name)


@pytest.mark.slow
def test_small_images_of_every_set_are_kept(seqft: RunFolder) -> None:
    for name in ("colours", "shades", "harm", "harmless"):
        kept = seqft.thumbnails(name)
        assert list(kept) == [row["id"] for row in seqft.stage(0).responses(name)]  # Of so few, all.
        assert all(image.startswith("data:image/") for images in kept.values() for image in images)


def test_every_stage_scores_every_set(seqft: RunFolder) -> None:
    stages = seqft.finished_stages()

    assert len(stages) == 3
    for stage in stages:
        assert {row["id"] for row in stage.responses("colours")} == {f"r{i}" for i in range(14, 20)}
        assert len(stage.responses("harm")) == len(stage.judgements("keyword", "harm")) == 5
    frame = load_runs(seqft.path)
    assert set(frame["stage"]) == {0, 1, 2}


def test_training_changes_the_decoder_and_nothing_else(seqft: RunFolder, suite: Path) -> None:
    start, end = load_file(suite.parent / "model" / "model.safetensors"), weights(seqft)

    changed = {name for name in start if not torch.equal(start[name], end[name])}
    assert changed and all("language_model" in name and "_proj" in name for name in changed)


def test_a_second_call_changes_nothing(seqft: RunFolder, suite: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in seqft.path.glob("stage*/*") if file.name != "cost.json"}
    run(str(suite), "seqft", out=seqft.path)

    assert {file: file.stat().st_mtime_ns for file in seqft.path.glob("stage*/*") if file.name != "cost.json"} == before


@pytest.mark.slow
def test_starting_again_gives_the_same_scores(seqft: RunFolder, suite: Path, tmp_path: Path) -> None:
    again = run(str(suite), "seqft", out=tmp_path / "again")
    again = run(str(suite), "seqft", out=tmp_path / "again", resume=False)

    for index in range(3):
        assert (again.stage(index).path / "scores.json").read_bytes() == (
            seqft.stage(index).path / "scores.json"
        ).read_bytes()


@pytest.mark.slow
def test_seeds_differ_after_training_and_not_before(seqft: RunFolder, suite: Path, tmp_path: Path) -> None:
    other = run(str(suite), "seqft", 1, out=tmp_path / "run")

    assert other.stage(0).responses("colours") == seqft.stage(0).responses("colours")
    assert any(not torch.equal(a, b) for a, b in zip(weights(other).values(), weights(seqft).values(), strict=True))


def test_zero_shot_is_stage_zero_of_every_other_method(seqft: RunFolder, suite: Path, tmp_path: Path) -> None:
    zero = run(str(suite), "zero_shot", out=tmp_path / "run")

    assert len(zero.finished_stages()) == 1
    for name in ("colours", "shades", "harm"):
        assert zero.stage(0).responses(name) == seqft.stage(0).responses(name)


@pytest.mark.slow
def test_joint_trains_once_on_the_union(suite: Path, tmp_path: Path) -> None:
    joint = run(str(suite), "joint", out=tmp_path / "run")

    assert joint.manifest.stages == [["colours", "shades"]]
    assert joint.stage(1).cost["steps"] == 6, "24 samples in batches of 4"


@pytest.mark.slow
def test_with_one_task_joint_is_seqft(suite: Path, tmp_path: Path) -> None:
    one = ["tasks=[colours]"]
    joint, seqft = (run(str(suite), name, out=tmp_path / name, settings=one) for name in ("joint", "seqft"))

    assert all(torch.equal(weights(joint, 1)[name], tensor) for name, tensor in weights(seqft, 1).items())


@pytest.mark.slow
def test_what_adapt_yields_is_handed_on(suite: Path, tmp_path: Path) -> None:
    unchanged = run(str(suite), "unchanged", out=tmp_path / "run")
    start = load_file(suite.parent / "model" / "model.safetensors")

    assert all(torch.equal(start[name], tensor) for name, tensor in weights(unchanged).items())


@pytest.mark.slow
def test_method_state_survives_and_the_scored_model_may_differ(
    seqft: RunFolder, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watcher, "seen", [])
    monkeypatch.setattr(Watcher, "failures", ["the disk is on fire"])
    with pytest.raises(RuntimeError):
        run(str(suite), "watcher", out=tmp_path / "run")
    assert (tmp_path / "run" / "FAILED").read_text() == "RuntimeError: the disk is on fire"
    watcher = run(str(suite), "watcher", out=tmp_path / "run")

    assert Watcher.seen == [(1, 1), (2, 2), (2, 2)]
    assert not (tmp_path / "run" / "FAILED").exists()
    assert watcher.stage(2).responses("colours") == watcher.stage(0).responses("colours")
    assert all(torch.equal(weights(seqft)[name], tensor) for name, tensor in weights(watcher).items())


@pytest.mark.slow
def test_poisoned_samples_are_recorded_and_trained_on(seqft: RunFolder, suite: Path, tmp_path: Path) -> None:
    poisoned = run(str(suite), "seqft", out=tmp_path / "run", harmful_ratio=0.25)
    replaced = poisoned.manifest.poisoned

    assert {task: len(ids) for task, ids in replaced.items()} == {"colours": 3, "shades": 3}
    assert poisoned.stage(1).cost["steps"] == seqft.stage(1).cost["steps"]
    assert any(not torch.equal(a, b) for a, b in zip(weights(poisoned).values(), weights(seqft).values(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["seqft", "moelora", "l2"])
def test_recomputed_activations_train_the_same(method: str, suite: Path, tmp_path: Path) -> None:
    kept, recomputed = (
        run(str(suite), method, out=tmp_path / on, settings=[f"training.gradient_checkpointing={on}", *few])
        for on in ("false", "true")
        for few in [["tasks=[colours]"] + (["lora.rank=8"] if method == "moelora" else [])]
    )

    what = "state/state.safetensors" if method == "moelora" else "weights/model.safetensors"
    ours, theirs = (load_file(done.stage(1).path / what) for done in (kept, recomputed))
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-5, atol=1e-6)


def test_the_manifest_says_what_was_run(seqft: RunFolder) -> None:
    manifest = seqft.manifest

    assert manifest.suite_config["lora"]["rank"] == 2
    assert set(manifest.data) == {"colours", "colours/training", "shades", "shades/training", "harm", "harmless"}
    assert {"torch", "transformers", "peft", "lm-eval"} <= set(manifest.versions)
    assert manifest.numerics.device == "cpu" and manifest.numerics.torch == manifest.versions["torch"]


def contents(folder: Path, *parts: str) -> dict[str, bytes]:
    files = [file for part in parts for file in (folder / part).rglob("*") if file.is_file()]
    files = [file for file in files if not file.name.startswith(".lease-")]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


MADE = ("stage1/weights", "stage1/state", "stage1/responses", "stage2/weights", "stage2/responses", "method")


@pytest.mark.slow
@pytest.mark.parametrize(("method", "stage"), [("seqft", 2), ("ties", 2), ("ties", 1), ("moelora:experts=2", 2)])
def test_a_run_redone_from_a_stage_on_ends_the_same(method: str, stage: int, suite: Path, tmp_path: Path) -> None:
    out, settings = tmp_path / "runs" / "run", ["training.keep_weights=true"]
    first = run(str(suite), method, settings=settings, out=out)
    made, cost = contents(out, *MADE), (out / "stage1" / "cost.json").read_bytes()

    again = run(str(suite), method, settings=settings, out=out, from_stage=stage)

    assert contents(out, *MADE) == made and len(again.finished_stages()) == 3
    aside = out.with_name("run.aside-1")
    old = {name: content for name, content in made.items() if name[: len("stage0")] in ("stage2", f"stage{stage}")}
    assert old and old.items() <= contents(aside, "stage1", "stage2").items()
    assert ((out / "stage1" / "cost.json").read_bytes() == cost) == (stage == 2)
    assert (aside / "stage1").exists() == (stage == 1) and (aside / "manifest.json").exists()
    assert [found.path for found in find_runs([tmp_path / "runs"])] == [first.path]


@pytest.mark.slow
def test_a_stage_whose_start_was_not_kept_is_not_redone(seqft: RunFolder, suite: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(seqft.path, tmp_path / "run"))
    before = contents(out, ".")

    with pytest.raises(UserError, match=r"stage1/weights is gone, .* and --from-stage 2 starts from it: .*keep_w"):
        run(str(suite), "seqft", out=out, from_stage=2)
    with pytest.raises(UserError, match="--from-stage 2 keeps the stages before it and cannot stand beside --again"):
        run(str(suite), "seqft", out=out, from_stage=2, resume=False)
    with pytest.raises(UserError, match="lora.rank is 2 there and 3 here"):
        run(str(suite), "seqft", settings=["lora.rank=3"], out=out, from_stage=1)
    assert contents(out, ".") == before and [path.name for path in tmp_path.iterdir()] == ["run"]
