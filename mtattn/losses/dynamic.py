"""DynamicWeighting: weigh any losses so that their tasks converge together."""

from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, distributed

from mtattn import functional
from mtattn._state import Float32State
from mtattn.functional import LossHistory
from mtattn.groups import check_known

RuleName = Literal["dws", "equal", "dwa", "trend", "random"]
Rule = Callable[[LossHistory], Tensor]


class DynamicWeighting(Float32State):
    """Weigh the losses of several tasks, and set new weights at the end of each period.

    While training it remembers each task's losses. :meth:`step` closes the period: the rule looks at the *unweighted*
    mean losses of the first, the last and the last but one period and sets the weights of the next. All state is in
    buffers, kept in float32 whatever the losses' type, so a resumed run goes on exactly; nothing waits for the device.
    ``torch.func`` (gradients of each image, for example) cannot change buffers: call ``eval()`` first.

    Args:
        num_tasks: Number of tasks.
        rule: "dws" (loss left), "equal", "dwa" (Liu 2019), "trend" (He 2017), "random" (drawn at each call, Lin 2022),
            or a function from :class:`~mtattn.functional.LossHistory` to one positive number a task; the weights are
            these, scaled to average 1. A task for which it returns NaN or a negative number keeps its weight.
        alpha: For "dws": how strongly the weights follow the loss that is left, at least 0; 0 gives equal weights.
        seed: For "random": which random weights.
        device: Device of the state.

    Raises:
        ValueError: ``num_tasks`` is not positive, ``alpha`` or ``seed`` is out of range, or there is no such rule.

    Attributes:
        weights: The weight of each task, a buffer that later steps change; keep ``weights.clone()``. They average to 1.

    Example:
        >>> weighting = DynamicWeighting(2)
        >>> for losses in ([1.0, 1.0], [0.4, 0.8]):  # the second task learns more slowly
        ...     total = weighting(torch.tensor(losses))
        ...     weighting.step()
        >>> weighting.weights
        tensor([0.6667, 1.3333])

    Source:
        "dws" is mtattn's reading of FAR-AMTN (arXiv 2601.01537); for the others see :mod:`mtattn.functional`.
    """

    weights: Tensor
    _history: Tensor
    _period: Tensor
    _draws: Tensor

    def __init__(
        self,
        num_tasks: int,
        *,
        rule: RuleName | Rule = "dws",
        alpha: float = 1.0,
        seed: int = 0,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        if num_tasks < 1:
            raise ValueError(f"DynamicWeighting: num_tasks must be at least 1, got {num_tasks}.")
        if not 0 <= alpha < inf:
            raise ValueError(f"DynamicWeighting: alpha must be at least 0 and finite, got {alpha}.")
        if not 0 <= seed < 2**31:
            raise ValueError(f"DynamicWeighting: seed must be in [0, 2**31), got {seed}.")
        self.num_tasks, self.rule, self.alpha, self.seed = num_tasks, rule, alpha, seed
        self._rule = rule if callable(rule) else _named_rule(rule, alpha)
        self.register_buffer("weights", torch.empty(num_tasks, dtype=torch.float32, device=device))
        self.register_buffer("_history", torch.empty(3, num_tasks, dtype=torch.float32, device=device))
        self.register_buffer("_period", torch.empty(2, num_tasks, dtype=torch.float32, device=device))
        self.register_buffer("_draws", torch.empty((), dtype=torch.int64, device=device))
        self.reset()

    def reset(self) -> None:
        """Forget every loss and give every task the weight 1."""
        self.weights.fill_(1)
        self._history.fill_(torch.nan)
        self._period.zero_()
        self._draws.fill_(self.seed << 32)

    @property
    def history(self) -> LossHistory:
        """Each task's mean loss over the first, the last but one and the last period; NaN where there is none."""
        return LossHistory(*self._history.clone().unbind())

    @property
    def loss_left(self) -> Float[Tensor, " task"]:
        """The fraction of each task's first loss that was left in the last closed period; NaN where there is none."""
        return functional.loss_left(self.history)

    def forward(
        self, losses: Float[Tensor, " task"], counts: Float[Tensor, " task"] | None = None
    ) -> Float[Tensor, ""]:
        """Compute the weighted mean of the losses and, while training, remember them.

        Args:
            losses: Each task's loss in this batch, at least 0; "dws" and "dwa" leave the weight of a task alone whose
                loss is negative. One that is not finite is part of the mean but not remembered.
            counts: How many labels each loss is the mean of: its share in the mean and in the history. A task with
                count 0 is absent, whatever its loss. None counts every task alike.
        """
        if not isinstance(losses, Tensor) or losses.shape != (self.num_tasks,):
            got = f"shape {tuple(losses.shape)}" if isinstance(losses, Tensor) else f"a {type(losses).__name__}"
            raise ValueError(f"DynamicWeighting: expects {self.num_tasks} losses in one tensor, got {got}.")
        dtype = torch.promote_types(losses.dtype, torch.float32)  # a count times a loss outgrows half precision
        counts = torch.ones_like(losses, dtype=dtype) if counts is None else counts.to(dtype)
        if counts.shape != losses.shape:
            raise ValueError(
                f"DynamicWeighting: counts has one number for each of {self.num_tasks} losses, "
                f"got shape {tuple(counts.shape)}."
            )
        return self.weighted_mean(counts * losses.where(counts > 0, 0), counts)

    def weighted_mean(self, sums: Float[Tensor, " task"], counts: Float[Tensor, " task"]) -> Float[Tensor, ""]:
        """Do what a call does, from the sum of each task's losses and how many they are; 0 where there are none."""
        if self.training:
            self._remember(torch.stack([sums.detach(), counts]).float())
        total = counts.sum(0, keepdim=True)
        return (self.weights / total.where(total > 0, 1) * sums).sum()

    @torch.no_grad()
    def step(self) -> None:
        """Close the period and set the next weights; call it once an epoch, or every so many steps.

        Under ``torch.distributed`` the period's losses are averaged over the ranks, so that all hold the same weights.
        A task without any loss in the period keeps its weight.
        """
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(self._period)
        total, count = self._period
        seen = count > 0
        mean = total / count.clamp_min(torch.finfo(count.dtype).tiny)
        first, _, latest = self._history.clone()
        self._history[0] = mean.where(seen & first.isnan(), first)
        self._history[1] = latest.where(seen, self._history[1])
        self._history[2] = mean.where(seen, latest)
        self._period.zero_()
        self._set_weights(self._rule(self.history), seen)

    def extra_repr(self) -> str:  # noqa: D102
        return f"{self.num_tasks}, rule={self.rule!r}" + (f", alpha={self.alpha}" if self.rule == "dws" else "")

    @torch.no_grad()
    def _remember(self, sums_and_counts: Float[Tensor, "2 task"]) -> None:
        try:
            self._period += sums_and_counts.where(sums_and_counts[0].abs() < torch.inf, 0)
        except RuntimeError as error:
            error.add_note(
                "DynamicWeighting: remembers losses in buffers, which torch.func cannot change; eval() first."
            )
            raise
        if self.rule == "random":
            self._draws += 1
            self.weights.copy_(functional.random_weights(self._draws, self.num_tasks))

    def _set_weights(self, proposed: Any, seen: Tensor) -> None:
        if not isinstance(proposed, Tensor) or proposed.shape != self.weights.shape:
            raise ValueError(
                f"DynamicWeighting: a rule returns a tensor with one number for each of {self.num_tasks} tasks, "
                f"got {getattr(proposed, 'shape', type(proposed).__name__)}."
            )
        moves = seen & proposed.isfinite() & (proposed >= 0) & (self.rule != "random")
        to_share = torch.where(moves, self.weights, 0).sum()  # what the others keep is theirs: the mean stays 1
        raw = torch.where(moves, proposed, 0)
        moved = raw / raw.sum() * to_share
        self.weights.copy_(torch.where(moves & (raw.sum() > 0), moved, self.weights))


def _named_rule(name: str, alpha: float) -> Rule:
    check_known("DynamicWeighting", "rule", [name], get_args(RuleName))
    rules: dict[str, Rule] = {
        "dws": partial(functional.dws_weights, alpha=alpha),
        "dwa": functional.dwa_weights,
        "trend": functional.trend_weights,
    }
    return rules.get(name, functional.equal_weights)
