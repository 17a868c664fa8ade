"""Vicuna's tokenizer and `vicuna_v1`: tokens of prompts are LLaVA's, and what is of another kind is refused."""

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from hpa_bench.errors import UserError
from hpa_bench.models.config import read_chat_template
from hpa_bench.models.prompts import prompt_ids, render, render_conversation
from hpa_bench.models.vicuna import load_tokenizer
from hpa_bench.spec import RunOptions, make_spec
from tests.support.llava_parts import (
    SYSTEM,
    SlowTokenizer,
    bpe_scores,
    llava_tokens,
    pieces_of,
    sentencepiece_model,
    write_vicuna,
)

SCORES = bpe_scores()
CASES = [
    [("<image>\nwhat colour is this ?", None)],
    [("<image>\nHow many dogs are there?\nAnswer the question using a single word or phrase.", None)],
    [("<image>\nWhich?\nA. one\nB. two", "A"), ("And now?", None)],
    [("what is a house ?", None)],
    [("what is a house ?", "a house is a house ."), ("is it red ?", "yes"), ("and blue ?", None)],
    [("<image>\n<image>\nare these the same ?", "no"), ("why ?", None)],
    [("café, naïve, 東京, 🙂 & <b>\t12345.67%", None)],
    [("<image>\ntwo  spaces and  a tab\there", "it is so"), ("<image>\nand this ?", "no"), ("sure ?", None)],
    [("</s> in a question", None)],
]


def tokenizer_of(folder: Path, legacy: bool | None = False):
    write_vicuna(folder, SCORES, legacy)
    load_tokenizer(folder).save_pretrained(folder / "saved")
    return AutoTokenizer.from_pretrained(folder / "saved")


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_tokenizer(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("legacy", [False, True, None])
@pytest.mark.parametrize("exchanges", CASES, ids=str)
def test_tokens_of_prompts_are_llavas(tmp_path: Path, legacy: bool | None, exchanges) -> None:
    tokenizer = tokenizer_of(tmp_path / "vicuna", legacy)
    turns = []
    for question, answer in exchanges:
        turns.append({"role": "user", "content": question})
        turns += [{"role": "assistant", "content": answer}] if answer is not None else []

    found = prompt_ids(tokenizer, render(tokenizer, turns))

    image = len(pieces_of(SCORES))
    assert tokenizer.convert_tokens_to_ids("<image>") == image
    assert found == llava_tokens(SlowTokenizer(SCORES, legacy is not False), exchanges, image)


def test_an_answered_conversation_ends_with_the_end_of_text(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(tmp_path / "vicuna")
    exchanges = [("<image>\nwhat colour is this ?", "red"), ("sure ?", "yes , it is")]

    found = prompt_ids(tokenizer, "".join(render_conversation(tokenizer, exchanges)))

    assert found == llava_tokens(SlowTokenizer(SCORES, False), exchanges, len(pieces_of(SCORES)))
    assert found[-1] == tokenizer.eos_token_id == 2 and tokenizer.pad_token_id == 0


def test_a_system_turn_takes_the_place_of_the_usual_one(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(tmp_path / "vicuna")
    turns = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "why ?"}]

    assert render(tokenizer, turns) == "Be short. USER: why ? ASSISTANT:"


@pytest.mark.parametrize("suite", ["ucit", "mllm-dcl"])
def test_suites_of_mcitlib_ask_the_published_checkpoint_in_vicuna_v1(tmp_path: Path, suite: str) -> None:
    tokenizer = tokenizer_of(tmp_path / "vicuna")
    template = make_spec(RunOptions(suite, "seqft"), model=False).suite.chat_template_path()
    tokenizer.chat_template = read_chat_template(template)
    exchanges = [("<image>\nWhat is it?", "A cat."), ("Sure?", "Yes."), ("Why?", "It meows.")]

    pieces = render_conversation(tokenizer, exchanges)

    assert pieces == [
        f"{SYSTEM} USER: <image>\nWhat is it? ASSISTANT:",
        " A cat.</s>",
        "USER: Sure? ASSISTANT:",
        " Yes.</s>",
        "USER: Why? ASSISTANT:",
        " It meows.</s>",
    ]
    assert render(tokenizer, [{"role": "user", "content": exchanges[0][0]}]) == pieces[0]


def test_text_comes_back_as_it_was(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(tmp_path / "vicuna")

    for text in ("a house", "café, 東京\n🙂", "two  spaces"):
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_a_tokenizer_json_is_read_as_its_tokenizer_model(tmp_path: Path) -> None:
    write_vicuna(tmp_path / "one", SCORES, False)
    first = load_tokenizer(tmp_path / "one")
    (tmp_path / "two").mkdir()
    first.backend_tokenizer.save(str(tmp_path / "two" / "tokenizer.json"))
    (tmp_path / "two" / "tokenizer_config.json").write_text(json.dumps({"legacy": False}))

    second = load_tokenizer(tmp_path / "two")

    text = CASES[6][0][0]
    assert second(text)["input_ids"] == first(text)["input_ids"] and len(second) == len(first)


def test_the_reader_agrees_with_sentencepiece_itself(tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece", reason="needs sentencepiece, of the extra test")
    write_vicuna(tmp_path / "vicuna", SCORES, False)
    itself = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "vicuna" / "tokenizer.model"))
    mine = load_tokenizer(tmp_path / "vicuna")

    for exchanges in CASES[:-1]:
        text = exchanges[0][0].replace("<image>", "image")
        assert mine(text)["input_ids"] == [1, *itself.encode(text)]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (None, "There is no tokenizer in"),
        (b"", "is no sentencepiece model"),
        (b"{}", "is no sentencepiece model"),
        (sentencepiece_model(SCORES)[:5000], "is no sentencepiece model"),
        (sentencepiece_model(SCORES, algorithm=1), "is not Vicuna's: it is no byte-pair encoding"),
        (sentencepiece_model({"a": 0.0}), "it has no '▁'"),
    ],
)
def test_a_tokenizer_of_another_kind_is_refused(tmp_path: Path, wrong: bytes | None, said: str) -> None:
    if wrong is not None:
        (tmp_path / "tokenizer.model").write_bytes(wrong)

    message = refused(tmp_path)

    assert said in message and "lmsys/vicuna-7b-v1.5" in message


def test_a_byte_level_tokenizer_is_refused(tmp_path: Path) -> None:
    model = {"type": "BPE", "vocab": {"a": 0}, "merges": [], "byte_fallback": False}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": model}))

    assert "is not Vicuna's: it is no byte-pair encoding with byte fall-back" in refused(tmp_path)
