"""The maths of what joins features: levels of a backbone, groups with weights of their own, centres of attributes."""

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mtattn.functional.attention import group_logits


def channel_shares(channels: Sequence[int], out_channels: int) -> tuple[int, ...]:
    """Part ``out_channels`` among levels in proportion to their channels, by largest remainder.

    Example:
        >>> channel_shares((192, 384, 768, 768), 512)
        (47, 93, 186, 186)
    """
    total = sum(channels)
    shares = [out_channels * width // total for width in channels]
    by_remainder = sorted(range(len(channels)), key=lambda level: -(out_channels * channels[level] % total))
    for level in by_remainder[: out_channels - sum(shares)]:
        shares[level] += 1
    return tuple(shares)


def group_linear(
    grouped: Float[Tensor, "batch group channel"],
    weight: Float[Tensor, "group out channel"],
    bias: Float[Tensor, "group out"],
) -> Float[Tensor, "batch group out"]:
    """Apply to each group a linear layer of its own, all groups in one product.

    Example:
        >>> group_linear(torch.randn(2, 3, 64), torch.randn(3, 16, 64), torch.zeros(3, 16)).shape
        torch.Size([2, 3, 16])
    """
    products = torch.baddbmm(bias[:, None], rearrange(grouped, "batch group channel -> group batch channel"), weight.mT)
    return rearrange(products, "group batch out -> batch group out")


def attribute_center_loss(
    grouped: Float[Tensor, "batch group channel"],
    centers: Float[Tensor, "attribute channel"],
    targets: Float[Tensor, "batch attribute"],
    group_of: Int[Tensor, " attribute"],
) -> Float[Tensor, ""]:
    """Compute half the mean squared distance of features to the centres of the attributes that their image has.

    ``1 / (2 n) sum_ia y_ia |f_i - c_a|^2`` with f of the attribute's own group and n the number of known labels. The
    square is multiplied out, so nothing as large as images times attributes times channels is built; in float32 at
    least, because differences of squares cancel.

    Example:
        >>> grouped, centers = torch.zeros(1, 1, 2), torch.tensor([[3.0, 4.0]])
        >>> attribute_center_loss(grouped, centers, torch.ones(1, 1), torch.tensor([0]))  # half of 25
        tensor(12.5000)

    Source:
        multi-attribute centre loss in PARFormer (arXiv 2304.07230), there with one feature for all attributes.
    """
    exact = torch.promote_types(grouped.dtype, torch.float32)
    with torch.autocast(grouped.device.type, enabled=False):
        grouped, centers, targets = grouped.to(exact), centers.to(exact), targets.to(exact)
        lengths = grouped.square().sum(-1)[:, group_of] + centers.square().sum(-1)
        products = group_logits(grouped, centers, centers.new_zeros(len(centers)), group_of)
        distances = lengths - 2 * products
        known = ~targets.isnan()
        return torch.where(known, targets, 0).mul(distances).sum() / (2 * known.sum().clamp_min(1))
