"""One question on trial, put to parts of one model and to parts of two."""

from pathlib import Path
from typing import Any

import pytest

from hpa_bench.errors import UserError
from hpa_bench.runner.trial import check_answers
from tests.support.models import CHAT_TEMPLATE, random_llama, random_llava, word_tokenizer

FOLDER = Path("/a/model")


def refused(model: Any, processor: Any) -> str:
    with pytest.raises(UserError) as caught:
        check_answers(model, processor, FOLDER)
    assert str(FOLDER) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("make", [random_llava, random_llama])
def test_a_model_takes_a_question(make: Any) -> None:
    check_answers(*make(), FOLDER)


def test_a_tokenizer_of_a_larger_model_is_named() -> None:
    model, processor = random_llava()
    processor.tokenizer = word_tokenizer([f"word{index}" for index in range(99)])

    assert "tokenizer.json" in refused(model, processor)


def test_a_template_that_places_no_image_is_one_of_those_named() -> None:
    model, processor = random_llava(chat_template=CHAT_TEMPLATE.replace(" <image>", " picture"))

    message = refused(model, processor)
    assert "cannot take a question about an image" in message and "the chat template" in message


def test_images_of_another_size_are_told() -> None:
    model, processor = random_llava()
    processor.image_processor.crop_size = {"height": 36, "width": 36}

    assert "processor_config.json" in refused(model, processor)


def test_a_model_without_an_end_is_told_where_to_name_one() -> None:
    model, processor = random_llava(chat_template=CHAT_TEMPLATE.replace("<eos>", " done"))
    processor.tokenizer.eos_token = None
    assert "learns no token that ends a response" in refused(model, processor)

    model.generation_config.eos_token_id = None
    assert "names no token that ends a response: set eos_token in its tokenizer_config.json" in refused(
        model, processor
    )
