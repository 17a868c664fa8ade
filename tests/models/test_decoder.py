"""Where decoder blocks and linear layers are found, and the suite's word on it."""

from pathlib import Path

import pytest
import torch
from torch import nn

from hpa_bench import run
from hpa_bench.errors import UserError
from hpa_bench.models.decoder import find_decoder
from hpa_bench.models.loading import load_model
from hpa_bench.models.weights import Checkpoint
from tests.support.models import random_llava
from tests.support.suites import write_suite

BLOCKS = "model.language_model.layers"


def refused(blocks: str | None = None, layers: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        find_decoder(random_llava()[0], blocks, layers)
    return str(caught.value)


def test_the_suites_layers_are_those_that_match_in_full() -> None:
    model, _ = random_llava()

    found = find_decoder(model, layers=r"self_attn\.[qv]_proj")

    expected = [[f"{BLOCKS}.{block}.self_attn.{name}_proj" for name in "qv"] for block in range(2)]
    assert found.layers == expected


def test_the_suites_blocks_are_taken_wherever_they_are() -> None:
    model, _ = random_llava()

    found = find_decoder(model, blocks="model.vision_tower.encoder.layers")

    assert found.prefix == "model.vision_tower.encoder.layers"
    assert found.linear_layers and all("vision_tower" in name for name in found.linear_layers)


def test_unknown_blocks_name_the_nearest_and_all() -> None:
    message = refused(blocks="language_model.layers")

    assert "Unknown list of decoder blocks 'language_model.layers' (decoder.blocks, in Llava" in message
    assert f"Did you mean '{BLOCKS}'?" in message and "model.vision_tower.encoder.layers" in message


def test_layers_that_match_nothing_name_what_a_block_has() -> None:
    message = refused(layers="q_proj")

    assert "Block 0 of LlavaForConditionalGeneration" in message and "decoder.layers 'q_proj' matches" in message
    assert "self_attn.q_proj, self_attn.k_proj" in message


def test_layers_must_be_a_regular_expression() -> None:
    assert "decoder.layers '[' is not a regular expression" in refused(layers="[")


def test_a_model_without_blocks_beside_its_embeddings_names_the_lists_it_has() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.ModuleDict({"table": nn.Embedding(3, 2)})
            self.stack = nn.ModuleList([nn.Linear(2, 2)])

        def get_input_embeddings(self) -> nn.Module:
            return self.words["table"]

    with pytest.raises(
        UserError, match=r"No decoder blocks found in Odd.*'words'; set decoder.blocks .* one of: stack"
    ):
        find_decoder(Odd())


@pytest.mark.slow
def test_a_run_trains_and_edits_the_suites_layers_alone(tmp_path: Path) -> None:
    suite = write_suite(
        tmp_path,
        aligned=True,
        tasks=["colours"],
        decoder={"blocks": BLOCKS, "layers": "mlp.down_proj"},
        calibration={"safety_set": "refusals", "safety_samples": 2, "task_samples": 4},
    )

    finished = run(str(suite), "hpa", out=tmp_path / "run", device="cpu")

    model, _ = load_model(tmp_path / "model")
    before, after = Checkpoint(tmp_path / "model", model), Checkpoint(finished.stage(1).weights, model)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"{BLOCKS}.{block}.mlp.down_proj.weight" for block in range(2)}


def test_a_wrong_override_is_refused_before_anything_runs(tmp_path: Path) -> None:
    suite = write_suite(tmp_path)

    with pytest.raises(UserError, match=r"Unknown list of decoder blocks 'layers'"):
        run(str(suite), "seqft", out=tmp_path / "run", settings=["decoder.blocks=layers"], device="cpu")
    assert not list((tmp_path / "run").glob("stage*/*/"))
