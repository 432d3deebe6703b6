"""The maths of the rules that weigh the losses of groups."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_LOW = 0xFFFFFFFF
LOSS_FLOOR = 1e-12  # nats; keeps ratios of losses finite and positive


def sums_of(
    values: Float[Tensor, " attribute"], membership: Bool[Tensor, "attribute group"]
) -> Float[Tensor, " group"]:
    """Add up each group's values, always in the same order; one that is infinite or NaN stays in its own group.

    Example:
        >>> sums_of(torch.tensor([1.0, 2.0, torch.inf]), torch.tensor([[1, 0], [1, 0], [0, 1]]).bool())
        tensor([3., inf])
    """
    return torch.where(membership, values[:, None], 0).sum(0)


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


def loss_left(history: LossHistory) -> Float[Tensor, " task"]:
    """Compute the fraction of each task's first loss that is left.

    NaN where there is none: without any loss so far, with a negative one, or where the first was already zero.

    Example:
        >>> loss_left(LossHistory(torch.tensor([0.5, 0.0]), torch.zeros(2), torch.tensor([0.25, 0.1])))
        tensor([0.5000,    nan])
    """
    return _ratio(history.latest, history.first).where(history.first > LOSS_FLOOR, torch.nan)


def dws_weights(history: LossHistory, *, alpha: float = 1.0) -> Float[Tensor, " task"]:
    """Weigh each task by the fraction of its first loss that is left, ``left^alpha``, scaled to average 1.

    NaN for a task whose first loss was zero: it has no such fraction.

    Source:
        mtattn's reading of FAR-AMTN's dynamic weighting strategy; its formula is not known to us.
    """
    return _mean_one(_safe_exp(alpha * loss_left(history).log()))


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
    # the lower and the upper half of the number one after the other: folded into one, some streams would repeat others
    low = _hash32((draw & _LOW) ^ 0x9E3779B9)
    high = _hash32((draw >> 32 & _LOW) ^ low ^ 0x85EBCA6B)
    counters = _hash32(torch.arange(2 * num_tasks, device=draw.device) ^ low)
    numbers = _hash32((counters + high) & _LOW)
    radius, angle = ((numbers.float() + 0.5) / 2**32).chunk(2)
    normal = (-2 * radius.log()).sqrt() * (2 * torch.pi * angle).cos()
    return num_tasks * normal.softmax(dim=0)


def _hash32(numbers: Int[Tensor, "*number"]) -> Int[Tensor, "*number"]:
    """Mix numbers of 32 bits; different ones stay different."""
    mixed = numbers
    for _ in range(3):
        mixed = ((mixed ^ (mixed >> 16)) * 0x45D9F3B) & _LOW
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
