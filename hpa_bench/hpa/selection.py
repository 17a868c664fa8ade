"""`M = p_l% of columns: S outside T, then those in S and T by phi = eps_bar - alpha zeta_bar`: part 2 of HPA.

Harmoniously balanced parameter selection: which columns are kept from W0, and how many.
"""

import torch
from torch import Tensor

from hpa_bench.hpa.config import HPAConfig
from hpa_bench.hpa.partition import column_count, focus, top_columns


def keep_percent_at(layer: int, layers: int, p_max: float = 15.0, p_min: float = 5.0) -> float:
    """Return the keep rate of a decoder block, `p_l = p_max - (l/L)(p_max - p_min)`, in percent.

    Args:
        layer: l, the index of the decoder block, 0..L-1.
        layers: L, the number of decoder blocks.
        p_max: percent kept in block 0.
        p_min: percent that the rate falls towards; block L would have it.
    """
    return p_max - layer / layers * (p_max - p_min)


def balance(eps_bar: Tensor, zeta_bar: Tensor, alpha_min: float = 0.4, alpha_max: float = 0.8) -> Tensor:
    """Return alpha, a scalar: `a0 + (a1 - a0) * (1 + tanh(mean(log(eps_bar / zeta_bar)))) / 2`.

    The mean is over the columns where both scores are > 0; with no such column it is 0, and alpha midway.
    """
    both = (eps_bar > 0) & (zeta_bar > 0)
    log_ratio = eps_bar[both].log() - zeta_bar[both].log()
    mean = log_ratio.sum() / max(1, len(log_ratio))
    return alpha_min + (alpha_max - alpha_min) * (1 + mean.tanh()) / 2


def select_columns(eps_bar: Tensor, zeta_bar: Tensor, keep_percent: float, config: HPAConfig) -> Tensor:
    """Return the columns kept from W0, p_l% of them at most: S outside T first, then the shared columns by phi.

    `phi = eps_bar - alpha * zeta_bar`, largest first. `config.selection` switches either step off; `config.shared` says
    which columns are shared. Fewer than p_l% are kept only where the second step stands alone and these are fewer.

    Args:
        eps_bar: the safety score of each column `[c]`.
        zeta_bar: the task score of each column `[c]`.
        keep_percent: p_l.
        config: HPA's hyper-parameters.

    Returns:
        The mask `[c]`, bool; every row of M.
    """
    columns = len(eps_bar)
    count = 0 if config.selection == "none" else column_count(keep_percent, columns)
    safety = focus(eps_bar, keep_percent, config.focus_factor)
    if config.selection == "safety_focused":
        return top_columns(eps_bar, count, among=safety)
    task = focus(zeta_bar, keep_percent, config.focus_factor)
    kept = torch.zeros_like(safety)
    if config.selection == "full":
        kept = top_columns(eps_bar, count, among=safety & ~task)
    phi = eps_bar - balance(eps_bar, zeta_bar, config.alpha_min, config.alpha_max) * zeta_bar
    shared = safety & task if config.shared == "overlap" else safety | task
    return kept | top_columns(phi, count - int(kept.sum()), among=shared & ~kept)
