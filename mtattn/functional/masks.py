"""Masks of parts of an image become places to look at."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def mask_positions(
    masks: Float[Tensor, "batch group mask_height mask_width"], size: tuple[int, int], floor: float = 1e-6
) -> Float[Tensor, "batch group height width"]:
    """Turn masks into where each group looks: positive weights that average to 1 over the positions.

    ``positions = P / mean_s P`` with P the mask averaged over the area of each position, plus ``floor``. With
    :func:`gate_mean` this is masked average pooling.

    The area of a position is its square of the image. Cells of a trunk with strides look up to half a cell up and left
    of their squares (:func:`mtattn.models.map_centres`). Where a part is smaller than a cell, shift its mask by that.

    Args:
        masks: Zero or more, of any scale and any size; what a network returns goes through its sigmoid first. Below
            zero counts as zero. NaN is an unknown pixel and counts as zero, too; a mask without anything in it, or
            unknown as a whole, looks everywhere alike.
        size: Height and width of the features that they weigh, ``x.shape[-2:]``.
        floor: What every position has.

    Example:
        >>> left = torch.tensor([1.0, 1.0, 0.0, 0.0]).expand(1, 1, 4, 4)
        >>> mask_positions(left, (2, 2)).round(decimals=3)
        tensor([[[[2., 0.],
                  [2., 0.]]]])
    """
    areas = F.adaptive_avg_pool2d(masks.nan_to_num(0).clamp_min(0), (size[0], size[1])) + floor
    return areas / areas.mean((-2, -1), keepdim=True)


def mask_bce(
    logits: Float[Tensor, "batch group height width"], masks: Float[Tensor, "batch group mask_height mask_width"]
) -> Float[Tensor, ""]:
    """Compute the mean binary cross-entropy of predicted masks in nats, over the pixels that are known.

    Args:
        logits: What :class:`mtattn.modules.MaskHead` returns.
        masks: In [0, 1], of any size; averaged over the area of each position. NaN is an unknown pixel and counts
            nowhere. Without any known pixel the loss is zero.

    Example:
        >>> mask_bce(torch.zeros(1, 2, 4, 4), torch.rand(1, 2, 32, 32).round())  # knowing nothing costs ln 2
        tensor(0.6931)
    """
    size = (logits.shape[-2], logits.shape[-1])
    known = F.adaptive_avg_pool2d((~masks.isnan()).to(logits.dtype), size)
    target = F.adaptive_avg_pool2d(masks.to(logits.dtype).nan_to_num(0), size) / known.where(known > 0, 1)
    each = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return torch.where(known > 0, each * known, 0).sum() / known.sum().clamp_min(torch.finfo(known.dtype).eps)
