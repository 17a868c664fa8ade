"""A LLaVA from its parts: LLaVA's own arithmetic on them, derived here, is what transformers then computes."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    CLIPImageProcessor,
    CLIPModel,
    LlamaForCausalLM,
    LlavaForConditionalGeneration,
)

from hpa_bench.errors import UserError
from hpa_bench.files import read_json
from hpa_bench.models.conversion import Parts, convert_llava
from hpa_bench.models.loading import load_model
from hpa_bench.models.prompts import encode, render_prompt
from hpa_bench.models.weights import Checkpoint
from tests.support.llava_parts import PATCH, READS, SIDE, bpe_scores, pieces_of, write_parts, write_vicuna

WIDE = Image.new("RGB", (60, 30), "red")
WIDE.paste((0, 0, 255), (0, 0, 20, 15))
PATCHES = (SIDE // PATCH) ** 2


def convert(parts: dict[str, Path], out: Path, **options) -> Path:
    convert_llava(Parts(str(parts["language_model"]), parts["projector"], str(parts["vision"])), out, **options)
    return out


def refused(parts: dict[str, Path], out: Path, **options) -> str:
    with pytest.raises(UserError) as caught:
        convert(parts, out, **options)
    assert "\n" not in str(caught.value)
    assert not out.exists() and not out.with_name(f"{out.name}.partial").exists()
    return str(caught.value)


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Path]:
    return write_parts(tmp_path / "parts")


def squared(image: Image.Image, colour: tuple[int, ...]) -> Image.Image:
    """LLaVA's expand2square."""
    side = max(image.size)
    canvas = Image.new("RGB", (side, side), colour)
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return canvas


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for file in folder.glob("*.bin"):
        found |= torch.load(file, weights_only=True)
    return found


def llavas_logits(parts: dict[str, Path], pixels: torch.Tensor, ids: list[int], image: int) -> torch.Tensor:
    """Return the logits of a prompt by LLaVA's arithmetic: patches of the last layer but one, two layers, in their
    place among the words."""
    clip = CLIPModel.from_pretrained(parts["vision"]).eval()
    llama = LlamaForCausalLM.from_pretrained(parts["language_model"], dtype=torch.float32).eval()
    layers = {
        name.rpartition("mm_projector.")[2]: tensor.float()
        for name, tensor in torch.load(parts["projector"], weights_only=True).items()
    }
    with torch.no_grad():
        hidden = clip.vision_model(pixels, output_hidden_states=True).hidden_states
        patches = hidden[-2][0, 1:]
        inner = nn.functional.gelu(patches @ layers["0.weight"].T + layers["0.bias"])
        features = inner @ layers["2.weight"].T + layers["2.bias"]
        words = llama.get_input_embeddings()
        at = ids.index(image)
        before, after = (words(torch.tensor(part, dtype=torch.long)) for part in (ids[:at], ids[at + 1 :]))
        return llama(inputs_embeds=torch.cat([before, features, after])[None]).logits[0]


@pytest.mark.parametrize("aspect", ["pad", "square"])
def test_it_computes_what_llava_does(tmp_path: Path, parts: dict[str, Path], aspect: str) -> None:
    out = convert(parts, tmp_path / "out", aspect=aspect, dtype="float32")
    model, processor = load_model(out)
    text = render_prompt(processor, "<image>\nwhat colour is this ?")

    inputs = encode(processor, [text], [[WIDE]])
    with torch.no_grad():
        logits = model(**inputs).logits[0]

    colour = tuple(int(255 * mean) for mean in processor.image_processor.image_mean)
    seen = squared(WIDE, colour) if aspect == "pad" else WIDE
    clips = CLIPImageProcessor.from_pretrained(parts["vision"])
    pixels = clips(seen, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(inputs["pixel_values"], pixels, rtol=0, atol=1e-6)
    image = model.config.image_token_id
    ids = inputs["input_ids"][0].tolist()
    first = ids.index(image)
    assert ids.count(image) == PATCHES and ids[first : first + PATCHES] == [image] * PATCHES
    expected = llavas_logits(parts, pixels, ids[:first] + ids[first + PATCHES - 1 :], image)
    known = len(pieces_of(bpe_scores()))
    torch.testing.assert_close(logits[:, :known], expected, rtol=1e-4, atol=1e-4)
    assert (logits[:, known:].max(1).values < logits[:, :known].max(1).values).all(), "no new row is ever the likeliest"


def test_it_loads_with_transformers_alone_and_holds_the_parts_as_they_were(
    tmp_path: Path, parts: dict[str, Path]
) -> None:
    out = convert(parts, tmp_path / "out")

    model, found = AutoModelForImageTextToText.from_pretrained(out, output_loading_info=True)
    processor = AutoProcessor.from_pretrained(out)

    assert isinstance(model, LlavaForConditionalGeneration)
    assert {name: list(rows) for name, rows in found.items() if rows and name != "error_msgs"} == {}
    assert processor.chat_template and processor.tokenizer.pad_token_id == model.generation_config.pad_token_id == 0
    language, vision = weights_of(parts["language_model"]), weights_of(parts["vision"])
    checkpoint = Checkpoint(out, model)
    assert {checkpoint.form(name)[1] for name in checkpoint} == {torch.float16}, "of the language model"
    for name in checkpoint:
        own = name.removeprefix("model.")
        if own.startswith("vision_tower"):
            tail = own.removeprefix("vision_tower.").removeprefix("vision_model.")
            assert torch.equal(checkpoint[name], vision[f"vision_model.{tail}"].half()), name
        elif not own.startswith("multi_modal_projector"):
            stored = language[name.replace("model.language_model.", "model.")]
            assert torch.equal(checkpoint[name][: len(stored)], stored), name
    embeddings = model.get_input_embeddings().weight
    assert len(embeddings) == 512 and len(pieces_of(bpe_scores())) == 480
    assert torch.equal(embeddings[480:], embeddings[480:481].expand(32, READS))
    torch.testing.assert_close(embeddings[480].float(), embeddings[:480].float().mean(0), rtol=1e-3, atol=1e-3)
    assert read_json(out / "conversion.json")["image_aspect_ratio"] == "pad"


def test_a_projector_of_another_width_is_refused(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts", width=48)

    said = refused(parts, tmp_path / "out")

    assert "is of another width: its 0.weight is [48, 24], expected [32, 24]" in said


def test_a_projector_of_another_kind_is_refused(tmp_path: Path, parts: dict[str, Path]) -> None:
    torch.save({"model.mm_projector.weight": torch.zeros(READS, 24)}, parts["projector"])
    assert "is no projector of LLaVA-1.5" in refused(parts, tmp_path / "out")

    write_parts(tmp_path / "more")
    shutil.copyfile(tmp_path / "more" / "mm_projector.bin", parts["projector"])
    beside = parts["projector"].parent / "config.json"
    beside.write_text(json.dumps({"mm_projector_type": "linear"}))
    assert f"({beside}: linear)" in refused(parts, tmp_path / "out")
    beside.write_text(json.dumps({"model_type": "llama"}))
    convert(parts, tmp_path / "out")


def test_pickles_are_read_as_weights_alone(tmp_path: Path, parts: dict[str, Path]) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"model.mm_projector.0.weight": Evil()}, parts["projector"])
    assert "cannot be read as weights" in refused(parts, tmp_path / "out")
    parts["projector"].write_bytes(pickle.dumps(Evil()))
    assert "cannot be read as weights" in refused(parts, tmp_path / "out")
    assert not (tmp_path / "ran").exists()


def test_a_tokenizer_of_another_vocabulary_is_refused(tmp_path: Path, parts: dict[str, Path]) -> None:
    scores = bpe_scores()
    write_vicuna(tmp_path / "other", {**scores, "zebra": -1e9}, False)
    shutil.copyfile(tmp_path / "other" / "tokenizer.model", parts["language_model"] / "tokenizer.model")

    said = refused(parts, tmp_path / "out")

    assert "is not Vicuna's: it has 481 tokens, and the model's vocabulary 480" in said


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("vicuna/tokenizer.model", "There is no tokenizer in"),
        ("vicuna/config.json", "config.json"),
        ("vicuna/pytorch_model-00002-of-00002.bin", "pytorch_model-00002-of-00002.bin is missing"),
        ("clip/pytorch_model.bin", "pytorch_model.bin is missing"),
        ("clip/preprocessor_config.json", "preprocessor_config.json"),
        ("mm_projector.bin", "There is no projector"),
    ],
)
def test_a_missing_file_is_named(tmp_path: Path, parts: dict[str, Path], file: str, said: str) -> None:
    (tmp_path / "parts" / file).unlink()

    assert said in refused(parts, tmp_path / "out")


def test_a_cut_shard_is_named(tmp_path: Path, parts: dict[str, Path]) -> None:
    shard = parts["language_model"] / "pytorch_model-00001-of-00002.bin"
    shard.write_bytes(shard.read_bytes()[:2000])

    assert f"{shard} cannot be read as weights" in refused(parts, tmp_path / "out")


def test_a_shard_that_lacks_a_weight_is_refused(tmp_path: Path, parts: dict[str, Path]) -> None:
    shard = parts["language_model"] / "pytorch_model-00001-of-00002.bin"
    tensors = torch.load(shard, weights_only=True)
    lost = next(name for name in tensors if "mlp" in name)
    torch.save({name: tensor for name, tensor in tensors.items() if name != lost}, shard)

    assert lost.removeprefix("model.") in refused(parts, tmp_path / "out")


def test_parts_in_each_others_place_are_refused(tmp_path: Path, parts: dict[str, Path]) -> None:
    turned = parts | {"vision": parts["language_model"]}

    assert "is 'llama': LLaVA-1.5 is made of 'clip_vision_model'" in refused(turned, tmp_path / "out")


def test_an_out_that_holds_something_is_left_alone(tmp_path: Path, parts: dict[str, Path]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")

    with pytest.raises(UserError, match="is not empty"):
        convert(parts, tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"
