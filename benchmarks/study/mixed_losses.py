"""What mixed.py minimises: the losses of groups of mixed kinds, in the common unit or in their own scale."""

import math
from collections.abc import Callable
from typing import Any

import torch
from losses import Loss, Scalarized
from torch import Tensor

from mtattn import AttributeGroups, Categorical, DWSLoss, Number
from mtattn.losses import LossSums


class InOwnScale(DWSLoss):
    """DWSLoss without the common unit: cross-entropy in nats, a number's smooth L1 in its own unit, as people do."""

    def __init__(self, groups: AttributeGroups, **options: Any) -> None:
        super().__init__(groups, **options)
        self.register_buffer("factors", torch.tensor([_own(kind) for kind in groups.kinds]))

    def attribute_sums(self, outputs: Tensor, targets: Tensor) -> LossSums:
        sums, terms, labels = super().attribute_sums(outputs, targets)
        return LossSums(sums * self.get_buffer("factors"), terms, labels)


def _own(kind: Any) -> float:
    """Undo the factor that gives a kind's loss the common unit."""
    if isinstance(kind, Categorical):
        return math.log(len(kind.classes)) / math.log(2)
    if isinstance(kind, Number):
        return kind.moments[1] / 1.632  # smooth L1 in its unit, with the knee at one standard deviation
    return 1.0


class Alike(Loss):
    """The plain mean of the groups' losses, where DWSLoss takes the mean over labels; what UW and FAMO start from."""

    def __init__(self, loss: DWSLoss) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.loss.group_losses(outputs, targets).mean()


class Weighted(Loss):
    """DWSLoss under one of its rules, in either unit."""

    def __init__(self, loss: DWSLoss) -> None:
        super().__init__()
        self.loss = loss
        self.step = loss.step

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        value: Tensor = self.loss(outputs, targets)
        return value


def _scalarized(rule: str) -> Callable[[DWSLoss], Loss]:
    def build(loss: DWSLoss) -> Loss:
        scalarized = Scalarized(loss.groups, rule)
        scalarized.group_losses = loss.group_losses
        return scalarized

    return build


RULES: dict[str, tuple[str, Callable[[DWSLoss], Loss]]] = {
    "equal": ("equal", Weighted),
    "dws": ("dws", Weighted),
    "dwa": ("dwa", Weighted),
    "random": ("random", Weighted),
    "alike": ("equal", Alike),
    "uw": ("equal", _scalarized("UW")),
    "famo": ("equal", _scalarized("FAMO")),
}


def loss_of(groups: AttributeGroups, rule: str, unit: str, *, seed: int) -> Loss:
    """Build the loss of a rule in a unit, "common" or "own"."""
    kind = InOwnScale if unit == "own" else DWSLoss
    name, build = RULES[rule]
    return build(kind(groups, rule=name, seed=seed))
