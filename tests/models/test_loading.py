"""Processors and checkpoints as they are published: by hub name, in older layouts, with a template of the user's."""

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor

from hpa_bench import run
from hpa_bench.engines.base import Request
from hpa_bench.engines.hf import HFEngine
from hpa_bench.errors import UserError
from hpa_bench.files import read_json
from hpa_bench.models.loading import checkpoint_folder, load_model, load_processor
from hpa_bench.models.prompts import render_prompt
from hpa_bench.models.weights import Checkpoint, write_checkpoint
from hpa_bench.suite import BUNDLED
from tests.support.architectures import VICUNA, save
from tests.support.models import CHAT_TEMPLATE, save_random_llava
from tests.support.suites import write_suite

PROMPT = "<image>\nwhat colour is this ?"


def refused(name: str) -> str:
    with pytest.raises(UserError) as caught:
        load_model(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def older_layout(folder: Path) -> Path:
    """Turn a LLaVA checkpoint into the layout of the published ones, which transformers no longer writes."""
    weights = load_file(folder / "model.safetensors")
    renamed = {name.replace("vision_tower.", "vision_tower.vision_model."): weights[name] for name in weights}
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    settings = json.loads((folder / "processor_config.json").read_text())
    images = settings.pop("image_processor")
    images["image_processor_type"] = images["image_processor_type"].removesuffix("Pil")
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    (folder / "processor_config.json").write_text(json.dumps(settings))
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    return folder


def answer(folder: Path, template: Path | None = None) -> list[str]:
    model, processor = load_model(folder, chat_template=template)
    image = Image.new("RGB", (40, 30), "red")
    return HFEngine(model, processor).generate([Request(render_prompt(processor, PROMPT), [image], 8)])


@pytest.mark.parametrize("known", [True, False])
def test_code_in_a_models_folder_is_never_run(tmp_path: Path, monkeypatch, known: bool) -> None:
    folder = save("llava", tmp_path / "model")
    ran = tmp_path / "ran"
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w').close()\nraise SystemExit\n")
    classes = {"AutoConfig": "own.C", "AutoModelForImageTextToText": "own.M", "AutoProcessor": "own.P"}
    for file in folder.glob("*config.json"):
        settings = json.loads(file.read_text()) | {"auto_map": classes}
        file.write_text(json.dumps(settings if known else settings | {"model_type": "own"}))
    monkeypatch.setattr("builtins.input", lambda *_: "y")

    if known:
        load_model(folder)
    else:
        assert "is no checkpoint of an image-text-to-text model" in refused(str(folder))
    assert not ran.exists()


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = save("llava", tmp_path / "model")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()

    assert "expected config.json, safetensors" in refused(str(folder))


def test_an_older_layout_is_read_and_written_as_it_is(tmp_path: Path) -> None:
    save("llava", tmp_path / "new")
    older = older_layout(save("llava", tmp_path / "older"))
    model, _ = load_model(older)
    checkpoint = Checkpoint(older, model)
    write_checkpoint(tmp_path / "written", checkpoint, checkpoint)

    assert set(checkpoint) == set(model.state_dict())
    assert all(torch.equal(checkpoint[name], tensor) for name, tensor in model.state_dict().items())
    assert load_file(tmp_path / "written" / "model.safetensors").keys() == load_file(older / "model.safetensors").keys()
    assert answer(tmp_path / "written") == answer(older) == answer(tmp_path / "new")


def test_a_template_of_the_users_takes_the_place_of_any_older_one(tmp_path: Path) -> None:
    older = older_layout(save("llava", tmp_path / "older"))
    mine = tmp_path / "mine.jinja"
    mine.write_text(VICUNA.replace("ASSISTANT", "MODEL"))
    model, processor = load_model(older, chat_template=mine)
    checkpoint = Checkpoint(older, model)
    write_checkpoint(tmp_path / "written", checkpoint, checkpoint, processor.chat_template)

    assert render_prompt(processor, PROMPT).endswith("MODEL:")
    assert AutoProcessor.from_pretrained(tmp_path / "written").chat_template == mine.read_text()
    assert answer(tmp_path / "written") == answer(older, mine)


def test_a_hub_name_is_had_from_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = tmp_path / "models--someone--tiny-llava"
    save_random_llava(cached / "snapshots" / "1f3a")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("1f3a")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    assert checkpoint_folder("someone/tiny-llava") == cached / "snapshots" / "1f3a"
    assert answer(Path("someone/tiny-llava")) == answer(cached / "snapshots" / "1f3a")


def test_a_name_that_cannot_be_had_says_why() -> None:
    assert refused("someone/nowhere").startswith(
        "The model 'someone/nowhere' is no folder here and cannot be had from the Hugging Face hub: it is not in the"
        " local cache, and the hub is out of reach or switched off (HF_HUB_OFFLINE)"
    )
    assert "there is no such public model" in refused("some one/what?")
    assert "There is no model folder 'llava'" in refused("llava")


def test_a_part_of_a_processor_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.smolvlm import processing_smolvlm

    folder = save("smolvlm", tmp_path / "smolvlm")
    monkeypatch.setattr(processing_smolvlm, "num2words", None)

    assert "pip install num2words" in refused(str(folder))


def test_processors_with_a_video_half_need_no_torchvision(tmp_path: Path) -> None:
    processor = load_processor(save("qwen2_vl", tmp_path / "qwen"))

    assert type(processor).__name__ == "Qwen2VLProcessor"
    assert "<|vision_start|><|image_pad|><|vision_end|>what" in render_prompt(processor, PROMPT)


def bare_suite(folder: Path) -> Path:
    """Write a suite whose model has no chat template."""
    path = write_suite(folder, tasks=["colours"], safety_sets=[], benign_sets=[])
    (folder / "model" / "chat_template.jinja").unlink()
    return path


def test_a_model_without_a_template_names_the_option_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"LlavaProcessor has no chat template.*--set chat_template=FILE\.jinja"):
        run(str(bare_suite(tmp_path)), "seqft", out=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / "manifest.json").exists(), "the same folder takes the run once the option is given"


@pytest.mark.slow
def test_a_run_with_a_template_of_the_users_writes_it_into_its_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = bare_suite(tmp_path)
    (tmp_path / "mine.jinja").write_text(CHAT_TEMPLATE)
    monkeypatch.chdir(tmp_path)

    finished = run(str(suite), "seqft", out=tmp_path / "run", settings=["chat_template=mine.jinja"], device="cpu")

    assert (finished.stage(1).weights / "chat_template.jinja").read_text() == CHAT_TEMPLATE
    assert len(read_json(tmp_path / "run" / "manifest.json")["suite_config"]["chat_template"]) == 64
    (tmp_path / "mine.jinja").write_text(CHAT_TEMPLATE.replace("assistant :", "assistant : "))
    with pytest.raises(UserError, match=r"another configuration: suite_config.chat_template"):
        run(str(suite), "seqft", out=tmp_path / "run", settings=["chat_template=mine.jinja"], device="cpu")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, r"The chat template '.*mine\.jinja' cannot be read"),
        ("{% for message in messages %}", r"The model's chat template cannot be rendered at line 1"),
        ("{{ raise_exception('roles must alternate') }}", r"cannot be rendered: roles must alternate"),
        (CHAT_TEMPLATE.replace("assistant :{% endif", "answer :{% endif"), r"cannot be trained on"),
    ],
)
def test_a_bad_template_is_refused_before_anything_runs(tmp_path: Path, template: str | None, message: str) -> None:
    suite = bare_suite(tmp_path)
    if template is not None:
        (tmp_path / "mine.jinja").write_text(template)

    with pytest.raises(UserError, match=message) as caught:
        run(
            str(suite),
            "seqft",
            out=tmp_path / "run",
            settings=[f"chat_template={tmp_path / 'mine.jinja'}"],
            device="cpu",
        )
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "manifest.json").exists(), "the same folder takes the run once the option is given"


def test_a_checkpoint_that_lacks_a_tensor_is_not_filled_at_random(tmp_path: Path) -> None:
    folder = save_random_llava(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("q_proj.weight") and "language" in name)
    del tensors[name]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(UserError, match=r"lacks 1 of the tensors of LlavaForConditionalGeneration, such as .*q_proj"):
        load_model(folder)


@pytest.mark.parametrize("tied", [False, True])
def test_tied_parameters_are_not_missed(tied: bool, tmp_path: Path) -> None:
    load_model(BUNDLED / "tiny" / "aligned" if tied else save_random_llava(tmp_path / "model"))
