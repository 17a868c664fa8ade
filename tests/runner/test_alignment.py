"""`hpa-bench align` on a tiny random model: what it makes, how it goes on after a kill, and what it refuses."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hpa_bench.api import run
from hpa_bench.data.tasks import load_tasks, training_samples
from hpa_bench.errors import UserError
from hpa_bench.files import atomic
from hpa_bench.judges.keyword import verdict
from hpa_bench.models.adapters import LoRAConfig, attach_lora
from hpa_bench.models.decoder import find_decoder
from hpa_bench.models.loading import load_model
from hpa_bench.models.prompts import training_batch
from hpa_bench.runner import alignment
from hpa_bench.runner.alignment import Alignment, align
from hpa_bench.runner.events import AlignmentStarted, Event, Failed, Finished, Observer, Saved, TrainStep
from hpa_bench.suite import BUNDLED
from tests.support.lmeval_tasks import rows, write_task
from tests.support.suites import write_suite

pytestmark = pytest.mark.slow

RECIPE = ("training.learning_rate=2e-2", "training.epochs=15", "training.batch_size=8", "lora.rank=8", "lora.alpha=16")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base model, tasks, and `aligned`, which the command line made of them."""
    folder = tmp_path_factory.mktemp("align")
    write_suite(folder)
    command = [sys.executable, "-m", "hpa_bench", "align", "--model", str(folder / "model"), "--data", "refusals"]
    command += ["--include-path", str(folder / "tasks"), "--out", str(folder / "aligned"), "--seed", "3"]
    command += [part for setting in RECIPE for part in ("--set", setting)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "8 rows of refusals: 15 steps" in result.stdout
    assert f"aligning {folder / 'model'} on refusals\n" in result.stdout
    shown = [line.partition(",")[0] for line in result.stdout.splitlines() if " step " in line]
    assert shown == [f"align · step {step}/15" for step in (2, 3, 5, 6, 8, 9, 11, 12, 14, 15)]
    return folder


def loss_on_refusals(folder: Path, model: Path) -> float:
    loaded, processor = load_model(model)
    samples = training_samples(load_tasks(["refusals"], [folder / "tasks"])["refusals"])
    return loaded(**training_batch(processor, samples)).loss.item()


def test_the_loss_goes_down_and_the_base_stays_as_it_was(folder: Path) -> None:
    before, after = loss_on_refusals(folder, folder / "model"), loss_on_refusals(folder, folder / "aligned")

    assert after < 0.5 < 3 < before
    assert not list(folder.glob("aligned.*")), "what the training needed is gone"


def test_refusals_rise_in_a_suite_that_starts_from_it(folder: Path, tmp_path: Path) -> None:
    suite = str(folder / "small.yaml")
    settings = ["safety_sets=[refusals]", "training.limit=1"]
    refused = {}
    for name in ("model", "aligned"):
        made = run(suite, "zero_shot", settings=[*settings, f"model={folder / name}"], out=tmp_path / name)
        responses = made.stage(0).responses("refusals")
        refused[name] = sum(verdict(row["response"]) == "refused" for row in responses)

    assert refused["model"] == 0 and refused["aligned"] == len(responses) == 8


def test_the_manifest_says_what_it_was_made_from(folder: Path) -> None:
    manifest = json.loads((folder / "aligned" / alignment.MANIFEST).read_text())

    assert manifest["seed"] == 3 and manifest["samples"] == {"refusals": 8} and manifest["steps"] == 15
    assert len(manifest["data"]["refusals"]) == 64
    assert manifest["recipe"]["lora"] == {"rank": 8, "alpha": 16, "dropout": 0.0}
    assert manifest["command"].startswith("hpa-bench align --model") and "torch" in manifest["versions"]


class Heard(Observer):
    """Keeps all that it is told, and ends the alignment at a step."""

    name = "heard"

    def __init__(self, last: int | None = None) -> None:
        self.events: list[Event] = []
        self.last = last

    def observe(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, TrainStep) and event.done == self.last:
            raise KeyboardInterrupt

    @property
    def steps(self) -> list[int]:
        return [event.done for event in self.events if isinstance(event, TrainStep)]


def killed_and_finished(folder: Path, out: Path, *less: str) -> list[int]:
    """Return the steps that an alignment takes after it was killed in its eighth, with further settings."""
    killed = Heard(last=8)
    settings = [*RECIPE, "training.save_steps=5000"]
    options = {"seed": 3, "include_paths": [folder / "tasks"]}
    with pytest.raises(KeyboardInterrupt):
        align(
            Alignment(model=str(folder / "model"), data=["refusals"], out=out, settings=settings, **options), [killed]
        )
    assert not out.exists() and killed.events[-1] == Failed(reason="stopped")
    heard = Heard()
    align(
        Alignment(model=str(folder / "model"), data=["refusals"], out=out, settings=[*settings, *less], **options),
        [heard],
    )
    assert isinstance(heard.events[0], AlignmentStarted) and isinstance(heard.events[-1], Finished)
    assert [event.what for event in heard.events if isinstance(event, Saved)] == ["adapter", "weights"]
    return heard.steps


def test_a_killed_alignment_goes_on_and_ends_the_same(folder: Path, tmp_path: Path) -> None:
    taken = killed_and_finished(folder, tmp_path / "again")

    assert taken[0] == 8, "it has kept a checkpoint after every tenth of its steps, whatever save_steps says"
    ours, theirs = tmp_path / "again" / "model.safetensors", folder / "aligned" / "model.safetensors"
    assert ours.read_bytes() == theirs.read_bytes()


def test_one_that_is_killed_as_its_adapter_appears_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def killed(path: Path) -> Iterator[Path]:
        with atomic(path) as partial:
            yield partial
        raise KeyboardInterrupt

    asked = Alignment(
        model=str(folder / "model"),
        data=["refusals"],
        out=tmp_path / "again",
        settings=list(RECIPE),
        seed=3,
        include_paths=[folder / "tasks"],
    )
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(alignment, "atomic", killed)
        align(asked)

    assert align(asked).steps == 15
    ours, theirs = tmp_path / "again" / "model.safetensors", folder / "aligned" / "model.safetensors"
    assert ours.read_bytes() == theirs.read_bytes()


def test_an_alignment_that_found_no_memory_goes_on_with_less(folder: Path, tmp_path: Path) -> None:
    taken = killed_and_finished(folder, tmp_path / "again", "training.gradient_checkpointing=true")

    assert taken[0] == 8
    assert loss_on_refusals(folder, tmp_path / "again") < 0.5
    assert json.loads((tmp_path / "again" / alignment.MANIFEST).read_text())["training"]["save_steps"] == 5000


def test_several_sets_are_trained_on_together_and_a_published_name_is_enough(folder: Path, tmp_path: Path) -> None:
    write_task(folder / "tasks", "vlguard_alignment", {"train": rows(3), "test": rows(3)})
    settings = ["training.limit=2", "lora.rank=2"]

    made = align(
        Alignment(
            model=str(folder / "model"),
            data=["refusals", "VLGuard"],
            out=tmp_path / "out",
            settings=settings,
            include_paths=[folder / "tasks"],
        )
    )

    assert made.samples == {"refusals": 2, "vlguard_alignment": 2}
    assert json.loads((tmp_path / "out" / alignment.MANIFEST).read_text()) == made.said()


def test_what_is_trained_of_a_bfloat16_model_is_float32(folder: Path, tmp_path: Path) -> None:
    model, _ = load_model(folder / "model", dtype="bfloat16")
    layers = find_decoder(model).linear_layers
    wrapped = attach_lora(model, LoRAConfig(rank=2), layers, ["embed_tokens", "multi_modal_projector"])
    assert {tensor.dtype for tensor in wrapped.parameters() if tensor.requires_grad} == {torch.float32}
    assert {tensor.dtype for tensor in wrapped.parameters() if not tensor.requires_grad} == {torch.bfloat16}

    base = shutil.copytree(folder / "model", tmp_path / "base")
    stored = {name: tensor.bfloat16() for name, tensor in load_file(base / "model.safetensors").items()}
    save_file(stored, base / "model.safetensors", metadata={"format": "pt"})
    settings = [*RECIPE, "training.dtype=bfloat16", "full=[embed_tokens,multi_modal_projector]"]
    align(
        Alignment(
            model=str(base),
            data=["refusals"],
            out=tmp_path / "out",
            settings=settings,
            include_paths=[folder / "tasks"],
        )
    )

    assert loss_on_refusals(folder, tmp_path / "out") < 0.5
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert written.keys() == stored.keys() and {tensor.dtype for tensor in written.values()} == {torch.bfloat16}
    for part in ("embed_tokens.weight", "projector.linear_1.weight", "q_proj.weight"):
        assert any(part in name and not torch.equal(written[name], stored[name]) for name in stored)


@pytest.mark.parametrize(
    ("tied", "full", "changed"),
    [
        (False, "[]", set()),
        (False, "[embed_tokens,lm_head]", {"embed_tokens.weight", "lm_head.weight"}),
        (True, "[embed_tokens]", {"embed_tokens.weight"}),
    ],
)
def test_modules_are_trained_in_full_where_asked_for(
    folder: Path, tmp_path: Path, tied: bool, full: str, changed: set[str]
) -> None:
    base = BUNDLED / "tiny" / "unaligned" if tied else folder / "model"
    settings = ["lora.rank=2", "training.epochs=3", f"full={full}"]
    align(
        Alignment(
            model=str(base),
            data=["refusals"],
            out=tmp_path / "out",
            settings=settings,
            include_paths=[folder / "tasks"],
        )
    )
    start, end = load_file(base / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")

    assert end.keys() == start.keys()
    others = {name for name in start if ".layers." not in name and not end[name].equal(start[name])}
    assert {".".join(name.split(".")[-2:]) for name in others} == changed


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"data": ["refusal"]}, "Unknown task 'refusal'"),
        ({"data": ["harmless_test"]}, "has no training split"),
        ({"model": "./nowhere"}, "There is no model folder './nowhere'"),
        ({"settings": ["training.lr=1"]}, "Unknown key 'training.lr' in --set. Did you mean"),
        (
            {"settings": ["full=[embed_token]"]},
            "Unknown module 'embed_token' in --set full. Did you mean 'embed_tokens'",
        ),
        ({"settings": ["training.learning_rate"]}, "expected key=value"),
        ({"include_paths": [Path("nowhere")]}, "--include-path nowhere does not exist"),
    ],
)
def test_bad_input_is_one_sentence_and_trains_nothing(
    folder: Path, tmp_path: Path, change: dict[str, object], sentence: str
) -> None:
    write_task(folder / "tasks", "harmless_test", {"test": rows(3)})
    out = tmp_path / "out"
    arguments = {"model": str(folder / "model"), "data": ["refusals"], "include_paths": [folder / "tasks"], **change}

    with pytest.raises(UserError) as caught:
        align(Alignment(out=out, **arguments))  # type: ignore[arg-type]

    assert sentence in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_is_left_alone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")

    with pytest.raises(UserError, match="is there already"):
        align(Alignment(model=str(folder / "model"), data=["refusals"], out=tmp_path, include_paths=[folder / "tasks"]))

    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_another_alignment_does_not_go_on_from_what_is_there(folder: Path, tmp_path: Path) -> None:
    def seeded(seed: int) -> Alignment:
        return Alignment(
            model=str(folder / "model"),
            data=["refusals"],
            out=tmp_path / "out",
            seed=seed,
            include_paths=[folder / "tasks"],
        )

    with pytest.raises(KeyboardInterrupt):
        align(seeded(1), [Heard(last=1)])

    with pytest.raises(UserError, match="seed is 1 there and 2 here"):
        align(seeded(2))
