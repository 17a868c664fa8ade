"""A model without weights runs block by block as the model in memory does, and has no storage afterwards."""

from pathlib import Path

import pytest
import torch

from hpa_bench.errors import UserError
from hpa_bench.models.activations import ActivationStream
from hpa_bench.models.decoder import find_decoder
from hpa_bench.models.loading import load_model
from hpa_bench.models.prompts import training_batch
from hpa_bench.models.skeleton import given, load_skeleton
from hpa_bench.models.weights import Checkpoint
from tests.support import architectures
from tests.support.models import random_llama, save_random_llava
from tests.support.stages import coloured_samples


def save(name: str, folder: Path) -> Path:
    """Write a random checkpoint: of an architecture that sees images, or of a model that reads text alone."""
    if name == "llama":
        for part in random_llama():
            part.save_pretrained(folder)
    else:
        architectures.save(name, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", *architectures.ARCHITECTURES])
def test_second_moments_are_those_of_the_model_in_memory(name: str, tmp_path: Path) -> None:
    folder = save(name, tmp_path / "model")
    model, processor = load_model(folder)
    samples = coloured_samples(4)
    if name == "llama":
        samples = [type(each)(each.id, each.task, "what is this ?", each.target, []) for each in samples]
    batches = [training_batch(processor, samples[:3]), training_batch(processor, samples[3:])]
    skeleton = load_skeleton(folder, "cpu", "float32")
    weights = Checkpoint(folder, skeleton)

    theirs, ours = (ActivationStream(each, weights, batches, "cpu") for each in (model, skeleton))

    assert theirs.layers == ours.layers
    for block in range(len(ours.layers)):
        expected, found = theirs.second_moments(block), ours.second_moments(block)
        assert all(torch.equal(found[layer], h) for layer, h in expected.items())
        assert all(parameter.is_meta for parameter in skeleton.parameters())


def test_a_part_has_weights_for_a_while(tmp_path: Path) -> None:
    folder = save_random_llava(tmp_path / "model")
    skeleton = load_skeleton(folder, "cpu", "bfloat16")
    weights = Checkpoint(folder, skeleton)
    name = f"{find_decoder(skeleton).linear_layers[0]}.weight"

    with given(skeleton, weights, [name], torch.device("cpu")):
        assert torch.equal(skeleton.get_parameter(name), weights[name].bfloat16())
        assert [each for each, parameter in skeleton.named_parameters() if not parameter.is_meta] == [name]

    assert all(parameter.is_meta for parameter in skeleton.parameters())


def test_a_name_that_the_model_does_not_have_is_refused(tmp_path: Path) -> None:
    skeleton = load_skeleton(save_random_llava(tmp_path / "model"), "cpu", "float32")

    with pytest.raises(UserError, match="has no parameter 'nothing.weight'"):
        given(skeleton, {}, ["nothing.weight"], torch.device("cpu")).__enter__()


def test_a_folder_of_no_model_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "unheard_of"}')

    with pytest.raises(UserError, match="is no checkpoint of an image-text-to-text model") as caught:
        load_skeleton(tmp_path, "cpu", "float32")
    assert "\n" not in str(caught.value)
