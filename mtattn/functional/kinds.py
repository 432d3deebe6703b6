"""The maths of the kinds of attributes."""

import torch
from jaxtyping import Float
from torch import Tensor


def level_exceedance(outputs: Float[Tensor, "batch threshold"]) -> Float[Tensor, "batch threshold"]:
    """Compute the probability that an ordinal attribute lies above each level but the last.

    Column k is the logit of "above level k, given at least level k", so P(level > k) is the product of the first
    sigmoids: it falls with k, whatever the outputs are.

    Example:
        >>> level_exceedance(torch.zeros(1, 3))
        tensor([[0.5000, 0.2500, 0.1250]])

    Source:
        CORN, Shi, Cao and Raschka 2021 (arXiv 2111.08851).
    """
    return outputs.to(torch.promote_types(outputs.dtype, torch.float32)).sigmoid().cumprod(1)
