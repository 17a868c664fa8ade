import json
import statistics
from pathlib import Path

import pytest
from safetensors.torch import load_file

import hpa_bench
from hpa_bench.data.samples import content_hash
from hpa_bench.data.tasks import load_tasks, training_samples
from hpa_bench.runner.alignment import MANIFEST
from hpa_bench.suite import package_task_folders
from hpa_bench.tiny import lessons, safety, tasks

FOLDER = Path(hpa_bench.__file__).parent / "suites" / "tiny"


@pytest.fixture(scope="module", params=["aligned", "unaligned"])
def processor(request):
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(FOLDER / request.param)


def all_rows():
    for task in tasks.TASKS:
        for part in tasks.ROWS:
            yield from tasks.rows(task, part)
    for name in safety.SETS:
        for part in ("validation", "test"):
            yield from safety.rows(name, part)
    yield from safety.calibration_rows()
    yield from safety.harmful_rows()


@pytest.mark.slow
def test_every_word_of_every_row_is_known(processor):
    texts = [f"{row['question']} {row['answer']}" for row in (*all_rows(), *lessons.alignment_rows())]

    unknown = processor.tokenizer.unk_token_id
    assert not [
        text for text, ids in zip(texts, processor.tokenizer(texts)["input_ids"], strict=True) if unknown in ids
    ]


def test_answers_survive_the_tokenizer(processor):
    tokenizer = processor.tokenizer
    answers = sorted({row["answer"] for row in all_rows()})

    assert [tokenizer.decode(tokenizer(answer)["input_ids"]) for answer in answers] == answers


def test_a_conversation_begins_with_its_prompt_and_ends_with_the_end_token(processor):
    row = tasks.rows("ad", "test")[0]
    user = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": row["question"]}]}
    assistant = {"role": "assistant", "content": [{"type": "text", "text": row["answer"]}]}

    prompt = processor.apply_chat_template([user], add_generation_prompt=True)
    whole = processor.apply_chat_template([user, assistant])

    assert whole == f"{prompt}{row['answer']}{processor.tokenizer.eos_token}"


@pytest.mark.parametrize("name", ["aligned", "unaligned"])
def test_a_checkpoint_loads_and_its_tensors_are_named_as_its_parameters(name):
    from safetensors import safe_open
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(FOLDER / name)
    with safe_open(FOLDER / name / "model.safetensors", framework="pt") as file:
        stored = set(file.keys())

    assert 1e6 < sum(parameter.numel() for parameter in model.parameters()) < 4e6
    assert stored == {name for name, _ in model.named_parameters()}  # the tied output layer is stored once


@pytest.mark.slow
def test_the_aligned_checkpoint_was_made_from_the_unaligned_one_and_todays_rows():
    manifest = json.loads((FOLDER / "aligned" / MANIFEST).read_text())
    rows = training_samples(load_tasks(["tiny_alignment"], package_task_folders())["tiny_alignment"])

    assert manifest["data"] == {"tiny_alignment": content_hash(rows)}
    assert manifest["model"] == "hpa_bench/suites/tiny/unaligned"
    logged = json.loads((Path(__file__).parents[2] / "scripts" / "make_tiny_model.json").read_text())["aligned"]
    assert manifest == {key: value for key, value in logged.items() if key != "validation"}


def test_the_safety_vector_is_as_large_as_the_docs_say():
    """docs/methods/weight-edits.md: 9 to 22% of a linear layer's norm, median 14, and 21% of the embeddings'."""
    aligned, unaligned = (load_file(FOLDER / name / "model.safetensors") for name in ("aligned", "unaligned"))
    shares = {
        name: 100 * float((weight - unaligned[name]).norm() / weight.norm())
        for name, weight in aligned.items()
        if "language_model" in name and weight.ndim == 2
    }
    embeddings = next(name for name in shares if "embed_tokens" in name)
    assert round(shares[embeddings]) == 21
    linear = [share for name, share in shares.items() if "proj" in name]
    assert len(linear) == 28
    assert [round(share) for share in (min(linear), statistics.median(linear), max(linear))] == [9, 14, 22]
