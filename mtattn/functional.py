"""The maths of mtattn as pure functions: no parameters, no state.

``*space`` stands for any spatial axes: none (vectors), one (tokens), two (images) or three (video, volumes).
"""

from math import prod, sqrt
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, reduce
from jaxtyping import Float, Int
from torch import Tensor

LOSS_FLOOR = 1e-12  # nats; keeps ratios of losses finite and positive
SURE = 1e4  # a logit whose exp(-logit) is zero in every floating type, and which float16 can hold


def channel_gates(
    pooled: Float[Tensor, "batch channel"],
    down_weight: Float[Tensor, "group reduced channel"],
    down_bias: Float[Tensor, "group reduced"],
    up_weight: Float[Tensor, "group out reduced"],
    up_bias: Float[Tensor, "group out"],
) -> Float[Tensor, "batch group out"]:
    """Compute the gate of every group and channel, in (0, 1), all groups at once.

    ``gates_g = sigmoid(up_g relu(down_g pooled + down_bias_g) + up_bias_g)``

    Example:
        >>> down, up = torch.randn(3, 4, 64), torch.randn(3, 64, 4)
        >>> channel_gates(torch.randn(2, 64), down, torch.zeros(3, 4), up, torch.zeros(3, 64)).shape
        torch.Size([2, 3, 64])

    Source:
        WSGSA in FAR-AMTN (arXiv 2601.01537); squeeze-and-excitation (arXiv 1709.01507) is its one-group form.
    """
    hidden = F.relu(F.linear(pooled, down_weight.flatten(0, 1), down_bias.flatten()))
    hidden = rearrange(hidden, "batch (group reduced) -> group batch reduced", group=len(down_weight))
    logits = torch.baddbmm(up_bias[:, None], hidden, up_weight.mT)
    return rearrange(logits, "group batch out -> batch group out").sigmoid()


def position_weights(
    shared: Float[Tensor, "batch channel *space"],
    queries: Float[Tensor, "query key"],
    key_weight: Float[Tensor, "key channel"],
) -> Float[Tensor, "batch query *space"]:
    """Compute where each query looks: positive weights that average to 1 over the positions.

    ``positions_q = S softmax_s(q . K(shared)[s] / sqrt(k))`` with S positions and k key channels. A group has one query
    or several, one after the other, each for its own equal part of the channels. mtattn's own extension of WSGSA.
    """
    filters = queries @ key_weight / sqrt(queries.shape[1])  # q . K first: a row a query instead of k at every position
    flat = rearrange(shared, "batch channel ... -> batch channel (...)")
    scores = einsum(filters, flat, "query channel, batch channel space -> batch query space")
    return (scores.softmax(dim=-1) * scores.shape[-1]).reshape(*scores.shape[:2], *shared.shape[2:])


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


def channel_linear(
    grouped: Float[Tensor, "batch group channel *space"], weight: Float[Tensor, "out channel"]
) -> Float[Tensor, "batch group out *space"]:
    """Apply one linear map to the channels of every group and position."""
    if grouped.ndim == 3:  # one plain matrix product, which a contraction written for any axes would not become
        return F.linear(grouped, weight)
    return einsum(grouped, weight, "batch group channel ..., out channel -> batch group out ...")


def group_affinity(
    queries: Float[Tensor, "batch group key"], keys: Float[Tensor, "batch group key"], num_heads: int
) -> Float[Tensor, "batch head group group"]:
    """Compute how much each group (row) listens to each group (column), per head; rows sum to 1.

    ``softmax(Q K^T / sqrt(width of a head))``

    Source:
        scaled dot-product attention (arXiv 1706.03762), across the group axis.
    """
    queries = rearrange(queries, "batch group (head width) -> batch head group width", head=num_heads)
    keys = rearrange(keys, "batch group (head width) -> batch head width group", head=num_heads)
    return (queries @ keys / sqrt(queries.shape[-1])).softmax(dim=-1)


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


def group_bce(
    logits: Float[Tensor, "batch attribute"],
    targets: Float[Tensor, "batch attribute"],
    membership: Float[Tensor, "attribute group"],
    pos_weight: Float[Tensor, " attribute"] | None = None,
) -> tuple[Float[Tensor, " group"], Float[Tensor, " group"]]:
    """Compute each group's mean binary cross-entropy in nats, and the number of labels it is the mean of.

    A NaN target is a missing label: whatever stands in its place is never read. A group without labels has loss 0.

    Example:
        >>> targets = torch.tensor([[1.0, 0.0], [1.0, torch.nan]])
        >>> group_bce(torch.zeros(2, 2), targets, torch.eye(2))  # log 2 each, of two labels and of one
        (tensor([0.6931, 0.6931]), tensor([2., 1.]))
        >>> group_bce_sums(torch.zeros(2, 2), targets, torch.eye(2))
        (tensor([1.3863, 0.6931]), tensor([2., 1.]))
    """
    sums, counts = group_bce_sums(logits, targets, membership, pos_weight)
    return sums / counts.clamp_min(1), counts


def group_bce_sums(
    logits: Float[Tensor, "batch attribute"],
    targets: Float[Tensor, "batch attribute"],
    membership: Float[Tensor, "attribute group"],
    pos_weight: Float[Tensor, " attribute"] | None = None,
) -> tuple[Float[Tensor, " group"], Float[Tensor, " group"]]:
    """Compute the sum of each group's binary cross-entropies in nats, and over how many labels; see ``group_bce``."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    missing = targets.isnan()
    losses = F.binary_cross_entropy_with_logits(
        logits.masked_fill(missing, SURE).to(dtype),  # a sure and right prediction: loss and gradient are exactly zero
        targets.masked_fill(missing, 1).to(dtype),
        reduction="none",
        pos_weight=None if pos_weight is None else pos_weight.to(dtype),
    )
    # a product and a sum, not a matrix product: exact under TF32 and in the same order on every run
    membership = membership.to(dtype)
    sums = (losses.sum(0)[:, None] * membership).sum(0)
    counts = ((~missing).sum(0)[:, None] * membership).sum(0)
    return sums, counts


class LossHistory(NamedTuple):
    """What a weighting rule may look at: each task's mean loss over three closed periods, in the losses' unit.

    NaN where there is none: a task without any loss so far, or, in ``previous``, with one period only.

    Attributes:
        first: The first period.
        previous: The last period but one.
        latest: The period just closed.

    Example:
        >>> history = LossHistory(torch.tensor([0.6, 0.5]), torch.tensor([0.3, 0.4]), torch.tensor([0.18, 0.35]))
        >>> dws_weights(history), equal_weights(history)
        (tensor([0.6000, 1.4000]), tensor([1., 1.]))
        >>> dwa_weights(history), trend_weights(history)
        (tensor([0.9314, 1.0686]), tensor([1.4118, 0.5882]))
    """

    first: Float[Tensor, " task"]
    previous: Float[Tensor, " task"]
    latest: Float[Tensor, " task"]


def dws_weights(history: LossHistory, *, alpha: float = 1.0) -> Float[Tensor, " task"]:
    """Weigh each task by the fraction of its first loss that is left, ``left^alpha``, scaled to average 1.

    Source:
        mtattn's reading of FAR-AMTN's dynamic weighting strategy; its formula is not known to us.
    """
    return _mean_one(_safe_exp(alpha * _ratio(history.latest, history.first).log()))


def equal_weights(history: LossHistory) -> Float[Tensor, " task"]:
    """Give every task the weight 1."""
    return torch.ones_like(history.latest)


def dwa_weights(history: LossHistory, *, temperature: float = 2.0) -> Float[Tensor, " task"]:
    """Weigh each task by how slowly it fell in the last period: ``T softmax(latest / previous / temperature)``.

    Source:
        dynamic weight average, Liu et al. 2019 (arXiv 1803.10704).
    """
    return _mean_one(_safe_exp(_ratio(history.latest, history.previous) / temperature))


def trend_weights(history: LossHistory) -> Float[Tensor, " task"]:
    """Weigh each task by the trend of its loss times the scale of its loss.

    ``(trend / mean trend) (latest / mean latest)`` with ``trend = |latest - previous| / latest``, scaled to average 1.
    A task whose loss did not change gets weight 0.

    Source:
        He et al. 2017 (adaptively weighted multi-task learning, ACM MM); they use losses on validation data.
    """
    trend = (history.latest - history.previous).abs() / history.latest.clamp_min(LOSS_FLOOR)
    return _mean_one(_mean_one(trend) * _mean_one(history.latest))


def random_weights(draw: Int[Tensor, ""], num_tasks: int) -> Float[Tensor, " task"]:
    """Draw weights that ignore the losses: ``T softmax(standard normal)``, a pure function of the number ``draw``.

    The numbers come from a hash of ``draw`` and not from a generator, so that a resumed run and every rank agree.

    Example:
        >>> weights = random_weights(torch.tensor(1), 3)
        >>> weights.mean().round(decimals=4), torch.equal(weights, random_weights(torch.tensor(1), 3))
        (tensor(1.), True)

    Source:
        random loss weighting, Lin et al. 2022 (arXiv 2111.10603): the control that every rule has to beat.
    """
    counters = draw * (2 * num_tasks) + torch.arange(2 * num_tasks, device=draw.device)
    radius, angle = ((_hash32(counters).float() + 0.5) / 2**32).chunk(2)
    normal = (-2 * radius.log()).sqrt() * (2 * torch.pi * angle).cos()
    return num_tasks * normal.softmax(dim=0)


def _hash32(numbers: Int[Tensor, " number"]) -> Int[Tensor, " number"]:
    mixed = (numbers ^ (numbers >> 32)) & 0xFFFFFFFF
    for _ in range(3):
        mixed = ((mixed ^ (mixed >> 16)) * 0x45D9F3B) & 0xFFFFFFFF
    return mixed ^ (mixed >> 16)


def _ratio(now: Float[Tensor, " task"], then: Float[Tensor, " task"]) -> Float[Tensor, " task"]:
    """Divide losses; one below zero has no fraction that is left, so there is no ratio: NaN."""
    ratio = now.clamp_min(LOSS_FLOOR) / then.clamp_min(LOSS_FLOOR)
    return ratio.where((now >= 0) & (then >= 0), torch.nan)


def _safe_exp(scores: Float[Tensor, " task"]) -> Float[Tensor, " task"]:
    """Exponentiate up to a common factor, so that nothing overflows and nothing becomes zero."""
    below_largest = scores - scores.nan_to_num(nan=-torch.inf).amax()
    return below_largest.clamp_min(-80).exp()


def _mean_one(raw: Float[Tensor, " task"]) -> Float[Tensor, " task"]:
    return raw / raw.nanmean()
