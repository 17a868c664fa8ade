"""What a method yields is checked: its name, shape, dtype and values, each once."""

import pytest
import torch
from torch import Tensor

from hpa_bench.errors import UserError
from hpa_bench.models.weights import Checkpoint
from hpa_bench.runner.edits import checked
from tests.support.models import random_llava, save_random_llava

LAYER = "model.language_model.layers.0.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = save_random_llava(tmp_path_factory.mktemp("model"))
    return Checkpoint(folder, random_llava()[0])


def test_the_form_of_a_parameter_is_that_of_its_tensor(weights: Checkpoint) -> None:
    for name, tensor in weights.items():
        assert weights.form(name) == (list(tensor.shape), tensor.dtype)


def test_good_edits_pass_as_they_are(weights: Checkpoint) -> None:
    edited = weights[LAYER] * 2

    assert torch.equal(checked([(LAYER, edited)], weights, "mine", "adapt")[LAYER], edited)
    assert checked([], weights, "mine", "adapt") == {}


def bad(tensor: Tensor, name: str = LAYER, times: int = 1) -> list[tuple[str, Tensor]]:
    return [(name, tensor)] * times


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda w: bad(w, LAYER.removesuffix(".weight")), rf"Unknown weight .* Did you mean '{LAYER}'"),
        (lambda w: bad(w, times=2), "yielded by adapt of method 'mine' twice"),
        (lambda w: bad(w[:1]), r"is \[1, \d+\] in float32: expected \[\d+, \d+\] in float32"),
        (lambda w: bad(w.bfloat16()), "in bfloat16: expected .* in float32"),
        (lambda w: bad(w.clone().index_fill(0, torch.tensor([0]), torch.nan)), r"has \d+ of \d+ values that are NaN"),
        (lambda w: bad(w / 0), "NaN or infinite"),
        (lambda w: [(LAYER, "w")], "is a str: expected a tensor"),
        (lambda w: [LAYER], r"yields a str: expected \(name, tensor\)"),
    ],
)
def test_a_bad_edit_is_one_sentence(spoil, sentence: str, weights: Checkpoint) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        checked(spoil(weights[LAYER]), weights, "mine", "adapt")
    assert "\n" not in str(caught.value)


def test_what_a_method_changes_in_place_changes_nobody_elses_weights(weights: Checkpoint) -> None:
    before = weights[LAYER].clone()
    weights[LAYER].mul_(0)

    assert torch.equal(weights[LAYER], before)
