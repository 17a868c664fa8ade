"""`F = mean over samples of (d log p(answer) / dW)^2`: the empirical Fisher information of linear layers.

No gradient of a weight is taken: what enters a layer and the gradient of what leaves it are enough.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hpa_bench import IGNORED, Batch, model_inputs


def fisher_information(
    model: nn.Module, names: Sequence[str], batches: Sequence[Batch], dense: bool
) -> dict[str, Tensor]:
    """Return the mean over samples of the squared gradient of the log-likelihood of a sample's answer.

    Args:
        model: in eval mode.
        names: of its linear layers.
        batches: model inputs with labels.
        dense: `[o, i]` for each layer, else the factors under `<layer>/out` `[o]`, the mean over samples of the sum of
            g^2 over tokens, and `<layer>/in` `[i]`, the mean of x^2 over tokens: their outer product approximates F.

    Returns:
        float32.
    """
    sums: dict[str, Tensor] = {}
    tokens = count = 0
    inputs: dict[str, Tensor] = {}

    def add(key: str, value: Tensor) -> None:
        sums[key] = sums[key].add_(value) if key in sums else value

    def backward(name: str, g: Tensor) -> None:
        x = inputs.pop(name).float()
        if dense:
            # One sample's gradient is the sum over its tokens; padding has g = 0.
            for gradient, entering in zip(g.float(), x, strict=True):
                add(name, (gradient.T @ entering).square())
        else:
            here = mask.to(x)[..., None]
            add(f"{name}/out", (g.float().square() * here).sum((0, 1)))
            add(f"{name}/in", (x.square() * here).sum((0, 1)))

    def forward(name: str, args: tuple[Tensor, ...], output: Tensor) -> None:
        inputs[name] = args[0].detach()
        output.register_hook(lambda g: backward(name, g))

    flags = {parameter: parameter.requires_grad for parameter in model.parameters()}
    hooks = [
        model.get_submodule(name).register_forward_hook(lambda _, args, output, name=name: forward(name, args, output))
        for name in names
    ]
    try:
        for parameter in flags:
            parameter.requires_grad_(False)
        # What the graph hangs on: the embeddings' output, so that no weight needs a gradient.
        model.get_input_embeddings().weight.requires_grad_(True)  # type: ignore[operator]
        for batch in batches:
            mask = batch["attention_mask"].bool()
            labels = batch["labels"][:, 1:]
            logits = model(**model_inputs(batch)).logits[:, :-1]
            loss = cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")
            torch.autograd.grad(loss, model.get_input_embeddings().weight)  # type: ignore[operator]
            count += len(mask)
            tokens += int(mask.sum())
    finally:
        for hook in hooks:
            hook.remove()
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)
    # In place: of a 7B model, one F is 26 GB. A product may be laid out by columns; what is read back is not, and adds
    # up in another order.
    counts = {key: count if dense or key.endswith("/out") else tokens for key in sums}
    return {key: value.div_(counts[key]).contiguous() for key, value in sums.items()}


def mean_entry(fisher: Mapping[str, Tensor]) -> float:
    """Return the mean over all entries of all layers' F, summed in float64.

    Args:
        fisher: what `fisher_information` returned; of factors, the entries are those of their outer products.
    """
    total, count = 0.0, 0
    for key, value in fisher.items():
        if key.endswith("/in"):
            continue
        layer, factored, _ = key.rpartition("/out")
        inward = fisher[f"{layer}/in"] if factored else value.new_ones(1)
        total += float(value.sum(dtype=torch.float64)) * float(inward.sum(dtype=torch.float64))
        count += value.numel() * inward.numel()
    return total / count
