from typing import Any

import torch
from PIL import Image

from hpa_bench.data.samples import Sample
from hpa_bench.models.answers import AnswerRows
from hpa_bench.models.prompts import IGNORED, training_batch
from tests.support.models import random_llava


def test_the_head_sees_what_predicts_answers_and_the_loss_is_the_same() -> None:
    model, processor = random_llava()
    answers = ("red", "a green house", "yes")
    data = [
        Sample(answer, "t", "<image>\nwhat colour is this ?", answer, [Image.new("RGB", (24, 24))])
        for answer in answers
    ]
    batch = training_batch(processor, data)
    seen: list[int] = []
    head: Any = model.get_output_embeddings()
    head.register_forward_hook(lambda module, args, logits: seen.append(logits[..., 0].numel()))
    rows = AnswerRows(batch["labels"])

    with torch.no_grad():
        with rows.chosen(model):
            alone = model(**{**batch, "labels": rows.labels})
        whole = model(**batch)

    answered = batch["labels"][:, 1:] != IGNORED
    assert seen == [answered.sum() + 1, batch["labels"].numel()]
    torch.testing.assert_close(alone.loss, whole.loss)
    spread = rows.spread(alone).logits[:, :-1]
    torch.testing.assert_close(spread[answered], whole.logits[:, :-1][answered])
    assert not spread[~answered].any()
