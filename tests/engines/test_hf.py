from dataclasses import replace

import pytest
import torch
from PIL import Image

from hpa_bench.engines.base import Request
from hpa_bench.engines.hf import HFEngine
from hpa_bench.errors import UserError
from hpa_bench.models.loading import load_model
from hpa_bench.models.prompts import render_prompt
from tests.support.models import random_llama, random_llava, save_random_llava

COLOURS = ("red", "green", "blue", "yellow", "white")


@pytest.fixture(scope="module")
def llava():
    return random_llava()


@pytest.fixture(scope="module")
def requests(llava):
    """Requests of many lengths, in no order, some of text alone and some with another limit."""
    return [
        Request(
            render_prompt(llava[1], ("<image> " if i % 4 else "") + "what colour is this" + " there" * (i * 7 % 9)),
            [Image.new("RGB", (20 + i, 24), COLOURS[i % 5])] if i % 4 else [],
            max_new_tokens=4 + 3 * (i % 2),
        )
        for i in range(24)
    ]


def test_batches_say_what_single_requests_say_in_their_order(llava, requests):
    alone = [HFEngine(*llava).generate([request])[0] for request in requests]

    assert HFEngine(*llava, batch_size=5).generate(requests) == alone
    assert HFEngine(*llava).generate(requests[::-1]) == alone[::-1]
    assert len(set(alone)) > 5


def test_generate_agrees_with_plain_transformers(llava, requests):
    model, processor = llava
    request = next(request for request in requests if request.images)
    inputs = processor(text=[request.prompt], images=[list(request.images)], return_tensors="pt")
    tokens = model.generate(**inputs, do_sample=False, max_new_tokens=request.max_new_tokens)
    plain = processor.tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    assert HFEngine(*llava).generate([request]) == [plain.strip()]


def test_a_checkpoint_that_samples_is_overruled(requests):
    model, processor = random_llava()
    greedy = HFEngine(model, processor).generate(requests)
    model.generation_config.update(do_sample=True, temperature=9.0, repetition_penalty=5.0)

    assert HFEngine(model, processor).generate(requests) == greedy


def test_stop_strings_cut_the_response(llava, requests):
    request = replace(next(request for request in requests if request.images), max_new_tokens=12)
    whole = HFEngine(*llava).generate([request])[0]
    words = whole.split()
    stop = next(word for word in words[1:] if word != words[0])

    cut = HFEngine(*llava).generate([replace(request, stop=("never said", stop))])[0]

    assert cut == whole[: whole.index(stop)].strip() != whole


def test_stop_strings_save_steps(llava, requests):
    request = replace(next(request for request in requests if request.images), max_new_tokens=200)
    first = HFEngine(*llava).generate([replace(request, max_new_tokens=1)])[0]
    steps = []
    hook = llava[0].register_forward_hook(lambda *_: steps.append(1))

    assert HFEngine(*llava).generate([replace(request, stop=(first,))]) == [""]
    hook.remove()
    assert len(steps) == 1


def test_new_weights_are_used_at_once(requests):
    model, processor = random_llava()
    engine = HFEngine(model, processor)
    before = engine.generate(requests)
    model.load_state_dict(random_llava(seed=1)[0].state_dict())

    assert engine.generate(requests) != before
    assert engine.generate(requests) == HFEngine(*random_llava(seed=1)).generate(requests)


def test_training_mode_and_padding_side_are_left_as_they_were(llava, requests):
    model, processor = random_llava()
    model.train()
    model.model.vision_tower.eval()

    HFEngine(model, processor).generate(requests[:3])

    assert model.training and not model.model.vision_tower.training
    assert processor.tokenizer.padding_side == llava[1].tokenizer.padding_side
    assert not any(parameter.is_inference() for parameter in model.parameters())


def test_progress_counts_requests(llava, requests):
    seen = []
    HFEngine(*llava, batch_size=10).generate(requests, lambda done, total: seen.append((done, total)))

    assert seen[-1] == (24, 24) and [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_no_requests(llava):
    assert HFEngine(*llava).generate([]) == []


def test_load_model_round_trip(tmp_path, requests, capfd):
    model, processor = load_model(save_random_llava(tmp_path / "model"))
    noise = capfd.readouterr().err

    assert not model.training and next(model.parameters()).dtype == torch.float32
    assert HFEngine(model, processor).generate(requests) == HFEngine(*random_llava()).generate(requests)
    assert "torchvision" not in noise and "Loading" not in noise


def test_open_takes_a_model_with_images(tmp_path, requests):
    engine = HFEngine.open(save_random_llava(tmp_path / "model"), device="cpu", batch_size=5)

    assert engine.generate(requests) == HFEngine(*random_llava()).generate(requests)


def test_open_takes_a_model_of_text_alone(tmp_path):
    model, tokenizer = random_llama()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    engine = HFEngine.open(tmp_path, dtype="float32")
    prompts = [render_prompt(engine.processor, "is this" + " there" * count) for count in (0, 3, 1, 7)]
    plain = []
    for prompt in prompts:
        inputs = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
        tokens = model.generate(**inputs, do_sample=False, max_new_tokens=5)
        plain.append(tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())

    assert engine.generate([Request(prompt, max_new_tokens=5) for prompt in prompts]) == plain
    assert len(set(plain)) > 1
    with pytest.raises(UserError, match="reads text alone, but it is asked about images"):
        engine.generate([Request(prompts[0], [Image.new("RGB", (24, 24))])])


def test_load_model_names_what_is_missing(tmp_path):
    with pytest.raises(UserError, match=r"There is no model folder '.*nowhere': expected a folder with config.json"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"is no checkpoint of an image-text-to-text model"):
        load_model(tmp_path)


def test_an_engine_of_its_own_takes_any_torch_device(tmp_path):
    engine = HFEngine.open(save_random_llava(tmp_path / "model"), device="cpu:0")

    assert engine.model.device.type == "cpu" and engine.model.dtype == torch.float32
