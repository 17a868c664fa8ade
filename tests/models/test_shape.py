"""A model's size by its configuration alone, and weights drawn in its shape."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from hpa_bench.models.decoder import find_decoder
from hpa_bench.models.loading import load_model
from hpa_bench.models.shape import draw_weights, shape_of
from tests.support.models import save_random_llava


def test_the_size_is_that_of_the_loaded_model_and_needs_no_weights(tmp_path: Path) -> None:
    save_random_llava(tmp_path)
    model, _ = load_model(tmp_path)
    for file in tmp_path.glob("*.safetensors"):
        file.unlink()

    shape = shape_of(tmp_path)

    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    layers = find_decoder(model).linear_layers
    assert shape.layers == [tuple(model.get_submodule(name).weight.shape) for name in layers]
    assert shape.trained(2) == sum(2 * sum(size) for size in shape.layers)


def test_drawn_weights_make_a_checkpoint_of_that_shape(tmp_path: Path) -> None:
    save_random_llava(tmp_path / "model")
    (there,) = (tmp_path / "model").glob("*.safetensors")
    stored = {name: tensor.shape for name, tensor in load_file(there).items()}
    there.unlink()

    drawn = draw_weights(tmp_path / "model", tmp_path / "drawn", torch.bfloat16)

    (file,) = drawn.glob("*.safetensors")
    assert {name: tensor.shape for name, tensor in load_file(file).items()} == stored
    assert {tensor.dtype for tensor in load_file(file).values()} == {torch.bfloat16}
    load_model(drawn)
