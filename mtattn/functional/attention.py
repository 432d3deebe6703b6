"""The maths of WSGSA, CGFF and GroupHeads.

``*space`` stands for any spatial axes: none (vectors), one (tokens), two (images) or three (video, volumes).
"""

from collections.abc import Callable
from math import prod, sqrt

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, reduce
from jaxtyping import Bool, Float, Int
from torch import Tensor


def channel_gates(
    pooled: Float[Tensor, "batch channel"],
    down_weight: Float[Tensor, "group reduced channel"],
    down_bias: Float[Tensor, "group reduced"],
    up_weight: Float[Tensor, "group out reduced"],
    up_bias: Float[Tensor, "group out"],
    maximum: Float[Tensor, "batch channel"] | None = None,
) -> Float[Tensor, "batch group out"]:
    """Compute the gate of every group and channel, in (0, 1), all groups at once.

    ``gates_g = sigmoid(up_g relu(down_g pooled + down_bias_g) + up_bias_g)``; with the maximum over space beside the
    mean, ``gates_g = sigmoid(layers_g(pooled) + layers_g(maximum))`` with the same two layers for both.

    Example:
        >>> down, up = torch.randn(3, 4, 64), torch.randn(3, 64, 4)
        >>> channel_gates(torch.randn(2, 64), down, torch.zeros(3, 4), up, torch.zeros(3, 64)).shape
        torch.Size([2, 3, 64])

    Source:
        WSGSA in FAR-AMTN (arXiv 2601.01537); squeeze-and-excitation (arXiv 1709.01507) is its one-group form, and the
        channel gate of CBAM (arXiv 1807.06521) that with the maximum.
    """
    hidden = F.relu(F.linear(pooled, down_weight.flatten(0, 1), down_bias.flatten()))
    if maximum is not None:  # the second layer is linear: once on the sum, its bias twice
        hidden = hidden + F.relu(F.linear(maximum, down_weight.flatten(0, 1), down_bias.flatten()))
        up_bias = 2 * up_bias
    hidden = rearrange(hidden, "batch (group reduced) -> group batch reduced", group=len(down_weight))
    logits = torch.baddbmm(up_bias[:, None], hidden, up_weight.mT)
    return rearrange(logits, "group batch out -> batch group out").sigmoid()


def position_weights(
    shared: Float[Tensor, "batch channel *space"],
    queries: Float[Tensor, "query key"],
    key_weight: Float[Tensor, "key channel"],
    place_weight: Float[Tensor, "query coordinate"] | None = None,
) -> Float[Tensor, "batch query *space"]:
    """Compute where each query looks: positive weights that average to 1 over the positions.

    ``positions_q = S softmax_s(q . K(shared)[s] / sqrt(k) + place_q . coordinates[s])`` with S positions, k key
    channels, and the :func:`coordinates` of each position. A group has one query or several, one after the other, each
    for its own equal part of the channels. mtattn's own extension of WSGSA. float16 cannot say more than 65,504: where
    there are more positions and one has it all, its weight ends there.
    """
    filters = queries @ key_weight / sqrt(queries.shape[1])  # q . K first: a row a query instead of k at every position
    flat = rearrange(shared, "batch channel ... -> batch channel (...)")
    scores = einsum(filters, flat, "query channel, batch channel space -> batch query space")
    if place_weight is not None:
        scores = scores + place_weight @ coordinates(shared)
    weights = scores.softmax(dim=-1) * scores.shape[-1]
    if weights.dtype == torch.float16:
        weights = weights.clamp(max=torch.finfo(torch.float16).max)
    return weights.reshape(*scores.shape[:2], *shared.shape[2:])


def coordinates(features: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "coordinate position"]:
    """Tell where each position lies: its place on each spatial axis, from -1 to 1, and the products of any two of them.

    For images y, x, y y, y x and x x. With them a linear score has a highest place, near which it falls off. Each
    averages to zero over the positions, so that what tells no position from another is zero.

    Example:
        >>> coordinates(torch.zeros(1, 8, 1, 4))
        tensor([[ 0.0000,  0.0000,  0.0000,  0.0000],
                [-0.7500, -0.2500,  0.2500,  0.7500],
                [ 0.0000,  0.0000,  0.0000,  0.0000],
                [-0.0000, -0.0000,  0.0000,  0.0000],
                [ 0.2500, -0.2500, -0.2500,  0.2500]])
    """
    dtype, device = torch.promote_types(features.dtype, torch.float32), features.device
    axes = [torch.arange(1 - size, size, 2, dtype=dtype, device=device) / size for size in features.shape[2:]]
    places = torch.stack(torch.meshgrid(axes, indexing="ij")).flatten(1) if axes else features.new_empty(0, 1)
    terms = torch.cat([places, *(places[axis : axis + 1] * places[axis:] for axis in range(len(places)))])
    return (terms - terms.mean(1, keepdim=True)).to(features.dtype)


def gate(
    shared: Float[Tensor, "batch channel *space"],
    gates: Float[Tensor, "batch group channel"],
    positions: Float[Tensor, "batch query *space"] | None = None,
) -> Float[Tensor, "batch group channel *space"]:
    """Give each group its own view of the shared features: gated by channel and, if asked, weighted by position."""
    grouped = gates.reshape(*gates.shape, *[1] * (shared.ndim - 2)) * shared.unsqueeze(1)
    if positions is None:
        return grouped
    looking = rearrange(positions, "batch (group head) ... -> batch group head 1 ...", group=gates.shape[1])
    parts = rearrange(grouped, "batch group (head part) ... -> batch group head part ...", head=looking.shape[2])
    return (parts * looking).reshape(grouped.shape)


def gate_mean(
    shared: Float[Tensor, "batch channel *space"],
    gates: Float[Tensor, "batch group channel"],
    positions: Float[Tensor, "batch query *space"] | None = None,
) -> Float[Tensor, "batch group channel"]:
    """Compute ``gate(shared, gates, positions)`` averaged over space, exactly and without ever building it.

    Example:
        >>> shared, gates = torch.randn(2, 64, 7, 7), torch.rand(2, 3, 64)
        >>> positions = position_weights(shared, torch.randn(3, 16), torch.randn(16, 64))
        >>> grouped = gate(shared, gates, positions)
        >>> positions.shape, grouped.shape
        (torch.Size([2, 3, 7, 7]), torch.Size([2, 3, 64, 7, 7]))
        >>> torch.allclose(grouped.mean((-2, -1)), gate_mean(shared, gates, positions), atol=1e-5)
        True
    """
    if positions is None:
        return gates * reduce(shared, "batch channel ... -> batch 1 channel", "mean")
    shares = rearrange(positions / prod(shared.shape[2:]), "b (g head) ... -> b g head (...)", g=gates.shape[1])
    parts = rearrange(shared, "b (head channel) ... -> b head channel (...)", head=shares.shape[2])
    means = einsum(shares, parts, "b group head space, b head channel space -> b group head channel")
    return gates * means.flatten(2)


def gate_max(
    shared: Float[Tensor, "batch channel *space"], gates: Float[Tensor, "batch group channel"]
) -> Float[Tensor, "batch group channel"]:
    """Compute the maximum of ``gate(shared, gates)`` over space, exactly and without ever building it.

    A positive factor passes through a maximum: ``max_s(g x) = g max_s x``.

    Example:
        >>> shared, gates = torch.randn(2, 64, 7, 7), torch.rand(2, 3, 64)
        >>> torch.equal(gate_max(shared, gates), gate(shared, gates).amax((-2, -1)))
        True
    """
    return gates * reduce(shared, "batch channel ... -> batch 1 channel", "max")


def channel_linear(
    grouped: Float[Tensor, "batch group channel *space"], weight: Float[Tensor, "out channel"]
) -> Float[Tensor, "batch group out *space"]:
    """Apply one linear map to the channels of every group and position."""
    if grouped.ndim == 3:  # one plain matrix product, which a contraction written for any axes would not become
        return F.linear(grouped, weight)
    return einsum(grouped, weight, "batch group channel ..., out channel -> batch group out ...")


def on_channels(
    layer: Callable[[Tensor], Tensor], grouped: Float[Tensor, "batch group channel *space"]
) -> Float[Tensor, "batch group out *space"]:
    """Call a layer for the last axis, such as nn.Linear, on the channels of every group and position.

    The layer is called, its weight is not read: adapters, hooks and counters that are put on it act.

    Example:
        >>> on_channels(torch.nn.Linear(64, 16), torch.randn(2, 3, 64, 7, 7)).shape
        torch.Size([2, 3, 16, 7, 7])
    """
    return layer(grouped) if grouped.ndim == 3 else layer(grouped.movedim(2, -1)).movedim(-1, 2)


def group_affinity(
    queries: Float[Tensor, "batch group key"],
    keys: Float[Tensor, "batch group key"],
    num_heads: int,
    allowed: Bool[Tensor, "group group"] | None = None,
    prior: Float[Tensor, "head group group"] | None = None,
) -> Float[Tensor, "batch head group group"]:
    """Compute how much each group (row) listens to each group (column), per head; rows sum to 1.

    ``softmax(Q K^T / sqrt(width of a head) + prior)``. Pairs that are not allowed are left out of the softmax, so that
    neither values nor gradients pass between them.

    Source:
        scaled dot-product attention (arXiv 1706.03762), across the group axis.
    """
    queries = rearrange(queries, "batch group (head width) -> batch head group width", head=num_heads)
    keys = rearrange(keys, "batch group (head width) -> batch head width group", head=num_heads)
    scores = queries @ keys / sqrt(queries.shape[-1])
    return scores_affinity(scores if prior is None else scores + prior, allowed)


def scores_affinity(
    scores: Float[Tensor, "*batch head group group"], allowed: Bool[Tensor, "group group"] | None = None
) -> Float[Tensor, "*batch head group group"]:
    """Turn scores of who listens to whom into an affinity: the softmax over those who are allowed.

    Example:
        >>> scores_affinity(torch.zeros(1, 2, 2), torch.tensor([[True, True], [False, True]]))
        tensor([[[0.5000, 0.5000],
                 [0.0000, 1.0000]]])
    """
    return (scores if allowed is None else scores.masked_fill(~allowed, -torch.inf)).softmax(dim=-1)


def mix_groups(
    affinity: Float[Tensor, "batch head group group"], values: Float[Tensor, "batch group channel *space"]
) -> Float[Tensor, "batch group channel *space"]:
    """Replace each group's values by the mean over all groups that its row of the affinity asks for, per head.

    Example:
        >>> affinity = group_affinity(torch.randn(2, 3, 16), torch.randn(2, 3, 16), num_heads=4)
        >>> values = channel_linear(torch.randn(2, 3, 32, 7, 7), torch.randn(64, 32))
        >>> affinity.shape, mix_groups(affinity, values).shape
        (torch.Size([2, 4, 3, 3]), torch.Size([2, 3, 64, 7, 7]))
    """
    heads = rearrange(values, "batch group (head width) ... -> batch head group width ...", head=affinity.shape[1])
    mixed = affinity @ heads.flatten(3)
    return rearrange(mixed, "batch head group rest -> batch group (head rest)").reshape(values.shape)


def group_logits(
    grouped: Float[Tensor, "batch group channel *space"],
    weight: Float[Tensor, "attribute channel"],
    bias: Float[Tensor, " attribute"],
    group_of: Int[Tensor, " attribute"],
) -> Float[Tensor, "batch attribute *space"]:
    """Apply to each attribute its own linear layer on the features of its own group.

    One product gives every attribute's logit for every group, of which each attribute keeps its own group's: cheaper
    than to copy a group's features for each of its attributes, because features are wide and attributes are few.

    Example:
        >>> group_logits(torch.randn(2, 3, 64), torch.randn(5, 64), torch.zeros(5), torch.tensor([0, 0, 1, 2, 2])).shape
        torch.Size([2, 5])
    """
    every_group = channel_linear(grouped, weight)
    is_own = group_of == torch.arange(grouped.shape[1], device=group_of.device)[:, None]
    logits = every_group.where(is_own.reshape(*is_own.shape, *[1] * (grouped.ndim - 3)), 0).sum(1)
    return logits + bias.reshape(-1, *[1] * (logits.ndim - 2))
