"""What used to go wrong without a word in a run: lost weights, methods that end the process or yield nonsense."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from hpa_bench import Method, run
from hpa_bench.errors import UserError
from hpa_bench.method import methods
from hpa_bench.results.run_folder import FAILED, RunFolder
from hpa_bench.runner.events import Event, Observer, Saved, Warned
from tests.support.faults import spoil
from tests.support.suites import write_suite

pytestmark = pytest.mark.faults


class Leaves(Method):
    """Ends the process with success, in the middle of its work."""

    name = "leaves"

    def adapt(self, before: Any, after: Any, ctx: Any) -> Iterator[tuple[str, Tensor]]:
        sys.exit(0)


class Spoils(Method):
    """Makes the last stage's weights NaN."""

    name = "spoils"

    def adapt(self, before: Any, after: Any, ctx: Any) -> Iterator[tuple[str, Tensor]]:
        if ctx.stage == ctx.stages:
            name = f"{ctx.layers[0][0]}.weight"
            yield name, after[name] * torch.nan


class InPlace(Method):
    """Changes what it was given, and yields nothing."""

    name = "in_place"

    def adapt(self, before: Any, after: Any, ctx: Any) -> Iterator[tuple[str, Tensor]]:
        for weights in (before, after, ctx.start):
            for tensor in weights.values():
                tensor.zero_()
        return iter(())


class Heard(Observer):
    """Keeps the warnings."""

    name = "heard"

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def observe(self, event: Event) -> None:
        if isinstance(event, Warned):
            self.warnings.append(event.text)


@pytest.fixture(autouse=True)
def strangers() -> None:
    for each in (Leaves, Spoils, InPlace, Keeps):
        methods.add(each, each.name)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> str:
    training = {"learning_rate": 1e-2, "batch_size": 7, "epochs": 1}
    return str(write_suite(tmp_path_factory.mktemp("suite"), training=training))


@pytest.fixture(scope="module")
def seqft(suite: str, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return run(suite, "seqft", out=tmp_path_factory.mktemp("runs") / "seqft")


def last_responses(done: RunFolder) -> bytes:
    return (done.stage(2).path / "responses" / "colours.jsonl").read_bytes()


def test_only_the_last_weights_are_kept(seqft: RunFolder) -> None:
    assert [folder.parent.name for folder in seqft.path.glob("stage*/weights")] == ["stage2"]
    assert not list(seqft.path.rglob("*.partial"))


def test_a_run_whose_earlier_weights_are_gone_does_not_start_from_the_aligned_model(
    suite: str, seqft: RunFolder, tmp_path: Path
) -> None:
    again = Path(shutil.copytree(seqft.path, tmp_path / "run"))
    shutil.rmtree(again / "stage2")

    with pytest.raises(UserError, match=r"stage1/weights is gone, the weights after stage 1, and stage 2 trains"):
        run(suite, "seqft", out=again)
    assert not (again / "stage2" / "responses").exists()


def test_a_state_without_its_weights_is_refused(suite: str, seqft: RunFolder, tmp_path: Path) -> None:
    again = Path(shutil.copytree(seqft.path, tmp_path / "run"))
    shutil.rmtree(again / "stage2" / "weights")
    (again / "stage2" / "DONE").unlink()

    with pytest.raises(UserError, match=r"stage2/weights is gone"):
        run(suite, "seqft", out=again)


def test_weights_that_are_kept_let_a_stage_be_taken_again(suite: str, seqft: RunFolder, tmp_path: Path) -> None:
    kept = run(suite, "seqft", settings=["training.keep_weights=true"], out=tmp_path / "run")
    assert all((kept.stage(index).weights / "model.safetensors").exists() for index in (1, 2))
    shutil.rmtree(kept.stage(2).path)

    assert last_responses(run(suite, "seqft", out=kept.path)) == last_responses(seqft)


def test_a_method_that_ends_the_process_fails_its_run(suite: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'leaves', or what it calls, ended the process by sys.exit\(0\)"):
        run(suite, "leaves", out=tmp_path / "run")
    assert "sys.exit" in (tmp_path / "run" / FAILED).read_text()


def test_a_weight_that_is_not_finite_is_named_and_nothing_is_scored(suite: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"q_proj.weight' yielded by adapt of method 'spoils' has .* NaN"):
        run(suite, "spoils", out=tmp_path / "run")
    assert len(RunFolder(tmp_path / "run").finished_stages()) == 2


def test_weights_changed_in_place_change_no_result(suite: str, seqft: RunFolder, tmp_path: Path) -> None:
    assert last_responses(run(suite, "in_place", out=tmp_path / "run")) == last_responses(seqft)


def test_a_model_that_refuses_nothing_and_words_that_it_does_not_know_are_remarked_on(
    suite: str, tmp_path: Path
) -> None:
    heard = Heard()
    run(suite, "seqft", settings=["tasks=[colours]", "training.limit=2"], out=tmp_path / "run", observers=[heard])

    assert any("aligned model's MASR is 100.0 by keyword: it refuses next to nothing" in one for one in heard.warnings)


class Keeps(Method):
    """Keeps something in every place where a method may."""

    name = "keeps"
    needs = frozenset({"safety_calibration"})

    def adapt(self, before: Any, after: Any, ctx: Any) -> Iterator[tuple[str, Tensor]]:
        ctx.safety_calibration()
        ctx.folder.mkdir(exist_ok=True)
        save_file({"stage": torch.tensor(ctx.stage)}, ctx.folder / "kept.safetensors")
        return iter(())

    def state_dict(self) -> dict[str, Tensor]:
        return {"something": torch.ones(3)}


@pytest.fixture(scope="module")
def aligned(tmp_path_factory: pytest.TempPathFactory) -> str:
    options: dict[str, Any] = {"training": {"learning_rate": 1e-2, "batch_size": 7, "epochs": 1, "save_steps": 1}}
    folder = tmp_path_factory.mktemp("aligned")
    return str(write_suite(folder, aligned=True, calibration={"safety_set": "refusals"}, **options))


@pytest.fixture(scope="module")
def keeps(aligned: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with methods.scratch():
        methods.add(Keeps, "keeps")
        return run(aligned, "keeps", out=tmp_path_factory.mktemp("runs") / "keeps").path


@pytest.mark.parametrize("how", ["absent", "cut", "one bit flipped"])
def test_a_methods_own_file_is_as_it_was_written(how: str, aligned: str, keeps: Path, tmp_path: Path) -> None:
    again = Path(shutil.copytree(keeps, tmp_path / "run"))
    file = again / "method" / "kept.safetensors"
    spoil(file, how)

    with pytest.raises(UserError, match=rf"{file} (is missing|has \d+ bytes|has changed).*--no-resume") as caught:
        run(aligned, "keeps", out=again)
    assert "\n" not in str(caught.value)


class StopAt(Observer):
    """Ends a run once an adapter is saved."""

    name = "stop_at"

    def observe(self, event: Event) -> None:
        if isinstance(event, Saved):
            raise KeyboardInterrupt


@pytest.mark.parametrize("how", ["absent", "cut", "one bit flipped"])
def test_a_half_done_stage_goes_on_from_a_whole_adapter_alone(how: str, aligned: str, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(aligned, "seqft", out=tmp_path / "run", observers=[StopAt()])
    file = tmp_path / "run" / "stage1" / "adapter" / "adapter_model.safetensors"
    spoil(file, how)

    with pytest.raises(UserError, match=rf"{file} (is missing|has \d+ bytes|has changed).*delete ") as caught:
        run(aligned, "seqft", out=tmp_path / "run")
    assert "\n" not in str(caught.value)
