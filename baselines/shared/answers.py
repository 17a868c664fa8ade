"""The logits that predict a batch's answers."""

from torch import Tensor, nn

from hpa_bench import IGNORED, Batch, model_inputs


def answer_logits(model: nn.Module, inputs: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Return the logits `[n, V]` that predict the n answer tokens of a batch, the tokens `[n]`, and their shares `[n]`.

    A token's share is 1 / (tokens of its answer x samples of the batch): shares add to 1.
    """
    following = inputs["labels"][:, 1:]
    places = following != IGNORED
    logits = model(**model_inputs(inputs)).logits[:, :-1]
    shares = places / places.sum(1, keepdim=True) / len(places)
    return logits[places], following[places], shares[places]
