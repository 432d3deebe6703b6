"""The maths of the kinds of attributes: losses in one unit, in which knowing nothing costs log 2."""

from math import erf, exp, log, pi, sqrt

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

SURE = 1e4  # a logit whose exp(-logit) is zero in every floating type, and which float16 can hold
_WITHIN_ONE = erf(1 / sqrt(2))  # the share of normal numbers within one standard deviation
_EXPECTED_SMOOTH_L1 = _WITHIN_ONE - 0.5 + exp(-0.5) / sqrt(2 * pi)  # of a standard normal number
NUMBER_SCALE = log(2) / _EXPECTED_SMOOTH_L1  # 1.632: the mean's own loss becomes log 2 where labels are normal


def binary_losses(
    logits: Float[Tensor, "batch attribute"],
    targets: Float[Tensor, "batch attribute"],
    pos_weight: Float[Tensor, " attribute"] | None = None,
) -> Float[Tensor, "batch attribute"]:
    """Compute binary cross-entropies in nats; 0 where the target is NaN, and whatever stands there is never read.

    Example:
        >>> binary_losses(torch.zeros(1, 3), torch.tensor([[1.0, 0.5, torch.nan]]))
        tensor([[0.6931, 0.6931, 0.0000]])
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    missing = targets.isnan()
    return F.binary_cross_entropy_with_logits(
        logits.masked_fill(missing, SURE).to(dtype),  # a sure and right prediction: loss and gradient are exactly zero
        targets.masked_fill(missing, 1).to(dtype),
        reduction="none",
        pos_weight=None if pos_weight is None else pos_weight.to(dtype),
    )


def threshold_targets(
    targets: Float[Tensor, "batch threshold"],
    levels: Float[Tensor, " threshold"],
    highest: Float[Tensor, " threshold"],
) -> Float[Tensor, "batch threshold"]:
    """Turn ordinal targets into binary ones, one a threshold: whether the level is above it, given that it is reached.

    A threshold above the level is a missing label, NaN. With ``levels`` at minus infinity a column stays as it is:
    it belongs to a binary attribute.

    Args:
        targets: The level, repeated for each of its thresholds; infinite for one that does not exist, which makes the
            loss infinite or NaN.
        levels: The level below each threshold.
        highest: The highest level there is.

    Example:
        >>> levels = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
        >>> threshold_targets(levels, torch.arange(2.0), torch.full((2,), 2.0))
        tensor([[0., nan],
                [1., 0.],
                [1., 1.]])

    Source:
        CORN, Shi, Cao and Raschka 2021 (arXiv 2111.08851).
    """
    above = (targets > levels).to(targets.dtype).where(targets >= levels, torch.nan)
    exists = (targets == targets.floor()) & (targets >= 0) & (targets <= highest)
    ordinal = above.where(exists, torch.inf).where(~targets.isnan(), torch.nan)
    return ordinal.where(levels >= 0, targets)


def categorical_losses(
    scores: Float[Tensor, "batch attribute choice"],
    targets: Float[Tensor, "batch attribute"],
    is_choice: Bool[Tensor, "attribute choice"],
    weight: Float[Tensor, "attribute choice"] | None = None,
) -> Float[Tensor, "batch attribute"]:
    """Compute cross-entropies times log 2 / log (number of classes); 0 where the target is NaN.

    Args:
        scores: One a class; whatever stands at a missing label or at no class is never read.
        targets: The index of the class. One that does not exist makes its loss NaN.
        is_choice: Which scores belong to a class: attributes with fewer than others leave the last ones unused.
        weight: What a label of each class weighs.

    Example:
        >>> two_or_three = torch.tensor([[True, True, False], [True, True, True]])
        >>> categorical_losses(torch.zeros(1, 2, 3), torch.tensor([[1.0, 2.0]]), two_or_three)
        tensor([[0.6931, 0.6931]])
    """
    missing = targets.isnan()
    scores = scores.masked_fill(missing[..., None], 0).to(torch.promote_types(scores.dtype, torch.float32))
    index = torch.arange(is_choice.shape[1], device=targets.device, dtype=targets.dtype)
    is_label = (targets[..., None] == index) & is_choice
    likelihoods = scores.masked_fill(~is_choice, -torch.inf).log_softmax(-1)
    losses = -likelihoods.where(is_label, 0).sum(
        -1
    )  # not gather: on a GPU an index that does not exist ends the process
    losses = losses * (log(2) / is_choice.sum(-1).to(losses.dtype).log())
    if weight is not None:
        losses = losses * weight.to(losses.dtype).where(is_label, 0).sum(-1)
    return losses.where(is_label.any(-1), torch.nan).where(~missing, 0)


def number_losses(
    outputs: Float[Tensor, "batch attribute"],
    targets: Float[Tensor, "batch attribute"],
    mean: Float[Tensor, " attribute"],
    std: Float[Tensor, " attribute"],
) -> Float[Tensor, "batch attribute"]:
    """Compute smooth L1 losses of numbers in standard deviations, times 1.632; 0 where the target is NaN.

    Who always says the mean of normal labels pays log 2.

    Example:
        >>> number_losses(torch.zeros(2, 1), torch.tensor([[33.0], [53.0]]), torch.tensor([33.0]), torch.tensor([20.0]))
        tensor([[0.0000],
                [0.8161]])
    """
    missing = targets.isnan()
    dtype = torch.promote_types(outputs.dtype, torch.float32)
    scaled = ((targets.to(torch.promote_types(targets.dtype, torch.float32)) - mean) / std).masked_fill(missing, 0)
    losses = F.smooth_l1_loss(outputs.masked_fill(missing, 0).to(dtype), scaled.to(dtype), reduction="none")
    return NUMBER_SCALE * losses


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
