from copy import copy
from dataclasses import replace
from weakref import WeakKeyDictionary

import pytest
import torch
from PIL import Image

from hpa_bench.data.samples import Sample
from hpa_bench.errors import UserError
from hpa_bench.models import prompts
from hpa_bench.models.prompts import check_template, encode, render, render_conversation, render_prompt, training_batch
from tests.support.models import CHAT_TEMPLATE, random_llava

RED = Image.new("RGB", (30, 24), "red")
PROMPT = "<image>\nwhat colour is this ?"


@pytest.fixture(scope="module")
def llava():
    return random_llava()


def sample(target="red", prompt=PROMPT, images=(RED,)):
    return Sample("1", "colours", prompt, target, images)


def with_template(llava, template):
    llava[1].chat_template = template
    return llava[1]


@pytest.fixture(autouse=True)
def restore_template(llava):
    yield
    llava[1].chat_template = CHAT_TEMPLATE


def test_images_stand_where_the_prompt_has_them(llava):
    assert render_prompt(llava[1], PROMPT) == "user : <image> what colour is this ?\nassistant :"
    assert render_prompt(llava[1], "is <image> red ?") == "user : is <image> red ?\nassistant :"


def test_system_turn_is_rendered(llava):
    turns = [{"role": "system", "content": "help"}, {"role": "user", "content": PROMPT}]
    assert render(llava[1], turns).startswith("system : help\nuser : <image> what")


def test_answer_is_what_follows_the_generation_prompt(llava):
    assert render_conversation(llava[1], [(PROMPT, "red")]) == [render_prompt(llava[1], PROMPT), " red<eos>"]


def test_end_of_turn_is_added_where_the_template_has_none(llava):
    processor = with_template(
        llava, CHAT_TEMPLATE.replace("'<eos>' if message['role'] == 'assistant' else '\n'", "'\n'")
    )
    assert render_conversation(processor, [(PROMPT, "red ")])[-1] == " red<eos>"


def test_a_template_without_a_stable_prefix_is_refused(llava):
    processor = with_template(llava, CHAT_TEMPLATE.replace("assistant :{% endif", "answer :{% endif"))
    with pytest.raises(UserError, match="chat template cannot be trained on"):
        render_conversation(processor, [(PROMPT, "red")])


def test_a_template_that_rewrites_an_answer_once_another_follows_is_refused(llava):
    last_alone = CHAT_TEMPLATE.replace("'<eos>' if message['role'] == 'assistant' else", "'<eos>' if loop.last else")
    processor = with_template(llava, last_alone.replace("loop.last", "loop.last and message['role'] == 'assistant'"))
    check_template(processor, [sample()])
    with pytest.raises(UserError, match="chat template cannot be trained on"):
        check_template(processor, [sample(), replace(sample(), further=[("how many ?", "a house")])])


def test_a_model_without_a_chat_template_is_refused(llava):
    processor = with_template(llava, None)
    with pytest.raises(UserError, match=r"LlavaProcessor has no chat template.*--set chat_template=FILE\.jinja"):
        render_prompt(processor, PROMPT)


def test_one_beginning_of_text_never_two(llava):
    processor = llava[1]
    text = render_prompt(with_template(llava, "<bos>" + CHAT_TEMPLATE), PROMPT)
    inputs = encode(processor, [text], [[RED]])
    assert (inputs["input_ids"] == processor.tokenizer.bos_token_id).sum() == 1


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_any_image_mode_is_read(llava, mode):
    text = render_prompt(llava[1], PROMPT)
    assert encode(llava[1], [text], [[RED.convert(mode)]])["pixel_values"].shape == (1, 3, 24, 24)


def test_labels_cover_answers_alone_and_rows_start_as_generation_sees_them(llava):
    processor = llava[1]
    batch = training_batch(processor, [sample("red"), sample("a red house .", "<image> what is this there ?")])

    for index, (prompt, answer) in enumerate(
        [(PROMPT, "red <eos>"), ("<image> what is this there ?", "a red house . <eos>")]
    ):
        ids, labels, mask = batch["input_ids"][index], batch["labels"][index], batch["attention_mask"][index]
        seen = encode(processor, [render_prompt(processor, prompt)], [[RED]])["input_ids"][0]
        length = int(mask.sum())
        assert torch.equal(ids[: len(seen)], seen)
        assert processor.tokenizer.decode(ids[len(seen) : length]) == answer
        assert (labels[: len(seen)] == -100).all() and (labels[length:] == -100).all()
        assert torch.equal(labels[len(seen) : length], ids[len(seen) : length])
        assert (ids[length:] == processor.tokenizer.pad_token_id).all() and not mask[length:].any()


def test_every_answer_of_a_conversation_is_learned_after_all_that_stands_before_it(llava):
    processor = llava[1]
    talk = replace(sample("red"), further=[("how many ?", "a house ."), ("what is there ?", "this")])
    batch = training_batch(processor, [talk, sample("red")])

    text = "".join(render_conversation(processor, talk.exchanges))
    whole = encode(processor, [text], [[RED]])["input_ids"][0]
    length = int(batch["attention_mask"][0].sum())
    labels = batch["labels"][0]
    assert torch.equal(batch["input_ids"][0, :length], whole)
    assert processor.tokenizer.decode(labels[labels != -100]) == "red <eos> a house . <eos> this <eos>"
    assert torch.equal(labels[labels != -100], batch["input_ids"][0][labels != -100])
    for earlier, (question, answer) in enumerate(talk.exchanges):
        turns = [turn for pair in talk.exchanges[:earlier] for turn in zip(("user", "assistant"), pair, strict=True)]
        turns.append(("user", question))
        seen = render(processor, [{"role": role, "content": content} for role, content in turns])
        start = encode(processor, [seen], [[RED]])["input_ids"].shape[1]
        count = len(answer.split()) + 1
        assert (labels[start : start + count] != -100).all() and labels[start - 1] == -100


def test_loss_is_that_of_each_sample_alone(llava):
    model, processor = llava
    samples = [sample("red"), sample("a red house .", "<image> what is this there ?")]

    def loss_sum(batch):
        return model(**batch).loss * (batch["labels"][:, 1:] != -100).sum()

    with torch.no_grad():
        together = loss_sum(training_batch(processor, samples))
        apart = sum(loss_sum(training_batch(processor, [each])) for each in samples)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)


def test_text_only_samples(llava):
    batch = training_batch(llava[1], [sample(prompt="how many ?", images=())])
    assert "pixel_values" not in batch


def test_samples_with_and_without_images_share_a_batch(llava):
    batch = training_batch(llava[1], [sample(), sample(prompt="how many ?", images=())])
    assert batch["pixel_values"].shape[0] == 1 and batch["input_ids"].shape[0] == 2


def test_a_row_is_made_once_and_its_batch_is_as_if_made_anew(llava, monkeypatch):
    processor = copy(llava[1])  # Rows are kept by processor: of a copy there are none.
    samples = [sample("red"), sample("a red house .", "<image> what is this there ?"), sample("blue")]
    anew = [training_batch(copy(processor), some) for some in (samples[1:], samples[:1] + samples[2:])]
    training_batch(processor, samples)  # makes the rows
    training_batch(processor, samples)  # tries whether each is of one sample alone

    made = []
    monkeypatch.setattr(prompts, "encode", lambda *call, **options: made.append(call))
    kept = [training_batch(processor, some) for some in (samples[1:], samples[:1] + samples[2:])]

    assert not made
    for found, expected in zip(kept, anew, strict=True):
        assert list(found) == list(expected)
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_rows_that_depend_on_each_other_are_made_anew(llava, monkeypatch):
    processor = copy(llava[1])
    samples = [sample("red"), sample("a red house .", "<image> what is this there ?")]

    def centred(processor, texts, images, **options):
        batch = encode(processor, texts, images, **options)
        return batch | {"pixel_values": batch["pixel_values"] + len(texts)}

    monkeypatch.setattr(prompts, "encode", centred)
    for some in (samples, samples[:1], samples[1:], samples[:1], samples):
        found, expected = training_batch(processor, some), training_batch(copy(processor), some)
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_conversation_is_rendered_once_for_each_template(llava, monkeypatch):
    rendered = []

    def counting(processor, exchanges):
        rendered.append(exchanges)
        return render_conversation(processor, exchanges)

    monkeypatch.setattr(prompts, "render_conversation", counting)
    twice = [sample("quite red"), sample("quite red")]
    first = training_batch(llava[1], twice)
    again = training_batch(llava[1], twice[::-1])
    assert len(rendered) == 1
    assert first.keys() == again.keys() and all(torch.equal(first[name], again[name]) for name in first)

    other = training_batch(with_template(llava, "is " + CHAT_TEMPLATE), twice)
    assert len(rendered) == 2
    assert not torch.equal(other["input_ids"], first["input_ids"])


def test_more_conversations_than_are_kept_are_rendered_again(llava, monkeypatch):
    monkeypatch.setattr(prompts, "_KEPT", WeakKeyDictionary())
    monkeypatch.setattr(prompts, "KEPT_CONVERSATIONS", 1)

    expected = training_batch(llava[1], [sample("red"), sample("blue")])
    again = training_batch(llava[1], [sample("red"), sample("blue")])

    assert all(torch.equal(expected[name], again[name]) for name in expected)
    assert len(prompts._KEPT[llava[1]]) == 1
