"""What is noted is on the disk, a block at a time; what a killed process left half is made again."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hpa_bench.errors import UserError
from hpa_bench.models.decoder import find_decoder
from hpa_bench.models.weights import Checkpoint, Writer
from hpa_bench.runner.journal import ADAPT, EVALUATED, HOOKS, REST, Journal
from tests.support.models import random_llava, save_random_llava


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint(save_random_llava(tmp_path / "model"), random_llava()[0])


def journal(checkpoint: Checkpoint, folder: Path) -> Journal:
    layers = find_decoder(random_llava()[0]).layers
    writer = Writer(folder / "weights", checkpoint)
    writers = {**dict.fromkeys(HOOKS, writer), ADAPT: Writer(folder / "handed_on", checkpoint)}
    return Journal(folder / "journal.jsonl", writers, layers)


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
    assert torch.equal(again.writers[ADAPT].read(block(0)[2]), checkpoint[block(0)[2]])


def test_an_end_is_noted_with_all_that_is_left(checkpoint: Checkpoint, tmp_path: Path) -> None:
    first = journal(checkpoint, tmp_path)
    first.writing(REST, {}, lambda name: None)("lm_head.weight", checkpoint["lm_head.weight"])
    assert first.finished(REST) == set()
    first.end(REST)

    again = journal(checkpoint, tmp_path)

    assert again.ended(REST) and again.finished(REST, ADAPT) == {"lm_head.weight"} and not again.ended(ADAPT)


@pytest.mark.parametrize("harm", [Path.unlink, lambda file: os.truncate(file, 1000)], ids=["gone", "cut"])
def test_a_file_that_was_lost_is_told(harm: Callable[[Path], None], checkpoint: Checkpoint, tmp_path: Path) -> None:
    first = journal(checkpoint, tmp_path)
    journal(checkpoint, tmp_path)  # Nothing is noted yet.
    for name in block(0):
        first.writing(ADAPT, {}, lambda name: None)(name, checkpoint[name])
    harm(tmp_path / "handed_on" / "model.safetensors")

    with pytest.raises(UserError, match=r"handed_on/model.safetensors was gone or cut, to which .*: delete "):
        journal(checkpoint, tmp_path)


def test_a_torn_last_line_is_none(checkpoint: Checkpoint, tmp_path: Path) -> None:
    journal(checkpoint, tmp_path).end(ADAPT)
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write('{"hook": "eval')

    assert journal(checkpoint, tmp_path).ended(ADAPT)
    assert (tmp_path / "journal.jsonl").read_text() == '{"hook": "adapt"}\n'


def test_what_a_hook_hands_on_stays_beside_what_another_writes(checkpoint: Checkpoint, tmp_path: Path) -> None:
    first = journal(checkpoint, tmp_path)
    for name in block(0):
        first.writing(ADAPT, {}, lambda name: None)(name, 2 * checkpoint[name])
    first.end(ADAPT)
    for name in block(0)[:-1]:
        first.writing(EVALUATED, {}, lambda name: None)(name, 3 * checkpoint[name])

    again = journal(checkpoint, tmp_path)

    assert again.ended(ADAPT) and again.finished(ADAPT) == set(block(0)) and not again.finished(EVALUATED)
    for name in block(0):
        assert torch.equal(again.writers[ADAPT].read(name), 2 * checkpoint[name])


def test_its_file_is_whole_or_as_it_was(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal(checkpoint, tmp_path).end(ADAPT)
    before = (tmp_path / "journal.jsonl").read_text()

    def fail(self: Path, target: Path) -> None:
        raise OSError

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError):
        journal(checkpoint, tmp_path)

    assert (tmp_path / "journal.jsonl").read_text() == before
