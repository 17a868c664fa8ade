"""What is noted is on the disk, a block at a time; what a killed process left half is made again."""

from pathlib import Path

import pytest
import torch

from hpa_bench.models.decoder import find_decoder
from hpa_bench.models.weights import Checkpoint, Writer
from hpa_bench.runner.journal import ADAPT, EVALUATED, REST, Journal
from tests.support.models import random_llava, save_random_llava


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint(save_random_llava(tmp_path / "model"), random_llava()[0])


def journal(checkpoint: Checkpoint, folder: Path) -> Journal:
    layers = find_decoder(random_llava()[0]).layers
    return Journal(folder / "journal.jsonl", Writer(folder / "weights", checkpoint), layers)


def block(index: int) -> list[str]:
    return [f"{name}.weight" for name in find_decoder(random_llava()[0]).layers[index]]


def test_a_block_counts_once_it_is_whole(checkpoint: Checkpoint, tmp_path: Path) -> None:
    first = journal(checkpoint, tmp_path)
    write = first.writing(ADAPT, {block(0)[0]: {"kept": 3}}, lambda name: None)
    for name in [*block(0), *block(1)[:-1]]:
        write(name, checkpoint[name])

    again = journal(checkpoint, tmp_path)

    assert again.finished(ADAPT) == set(block(0)) == first.finished(ADAPT)
    assert again.notes(ADAPT)[0] == {"hook": ADAPT, "name": block(0)[0], "kept": 3}
    assert not again.ended(ADAPT)
    assert torch.equal(again.writer.read(block(0)[2]), checkpoint[block(0)[2]])


def test_an_end_is_noted_with_all_that_is_left(checkpoint: Checkpoint, tmp_path: Path) -> None:
    first = journal(checkpoint, tmp_path)
    first.writing(REST, {}, lambda name: None)("lm_head.weight", checkpoint["lm_head.weight"])
    assert first.finished(REST) == set()
    first.end(REST)

    again = journal(checkpoint, tmp_path)

    assert again.ended(REST) and again.finished(REST, ADAPT) == {"lm_head.weight"} and not again.ended(ADAPT)


def test_a_torn_last_line_is_none(checkpoint: Checkpoint, tmp_path: Path) -> None:
    journal(checkpoint, tmp_path).end(ADAPT)
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write('{"hook": "eval')

    assert journal(checkpoint, tmp_path).ended(ADAPT)
    assert (tmp_path / "journal.jsonl").read_text() == '{"hook": "adapt"}\n'


def test_weights_that_two_hooks_write_are_both_made_again(checkpoint: Checkpoint, tmp_path: Path) -> None:
    for hook in (ADAPT, EVALUATED):
        first = journal(checkpoint, tmp_path)
        for name in block(0):
            first.writing(hook, {}, lambda name: None)(name, checkpoint[name])
        first.end(hook) if hook == ADAPT else None

    again = journal(checkpoint, tmp_path)

    assert again.finished(ADAPT, EVALUATED) == set() and not again.ended(ADAPT)
