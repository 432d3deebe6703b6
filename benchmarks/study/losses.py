"""What the study minimises: our weighting rules, torchjd's, and the usual answers to imbalance."""

from collections.abc import Callable
from typing import Any

import torch
from timm.loss import AsymmetricLossMultiLabel
from torch import Tensor, nn
from torchjd.scalarization import FAMO, UW

from mtattn import AttributeGroups, DWSLoss


class Loss(nn.Module):
    """One number to minimise; ``step`` closes a period, ``after`` follows each step of the optimizer."""

    def step(self) -> None:
        """Close the period."""

    def after(self, logits: Callable[[], Tensor], targets: Tensor) -> None:
        """Look at the same batch again."""


class Weighted(Loss):
    """DWSLoss under one of its rules."""

    def __init__(self, groups: AttributeGroups, **options: Any) -> None:
        super().__init__()
        self.loss = DWSLoss(groups, **options)
        self.step = self.loss.step

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        value: Tensor = self.loss(logits, targets)
        return value


class Uncertainty(Loss):
    """torchjd's uncertainty weighting of the groups' losses; its weights are learned with the model."""

    def __init__(self, groups: AttributeGroups) -> None:
        super().__init__()
        self.group_losses, self.rule = DWSLoss(groups).group_losses, UW(len(groups))

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        value: Tensor = self.rule(self.group_losses(logits, targets))
        return value


class Famo(Loss):
    """torchjd's FAMO of the groups' losses, with its second look at the batch."""

    def __init__(self, groups: AttributeGroups) -> None:
        super().__init__()
        self.group_losses, self.rule = DWSLoss(groups).group_losses, FAMO(len(groups))

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        value: Tensor = self.rule(self.group_losses(logits, targets))
        return value

    @torch.no_grad()
    def after(self, logits: Callable[[], Tensor], targets: Tensor) -> None:
        self.rule.update(self.group_losses(logits(), targets))


class Asymmetric(Loss):
    """timm's asymmetric loss (Ridnik 2021) with its own settings."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = AsymmetricLossMultiLabel()

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        value: Tensor = self.loss(logits, targets) / logits.numel()
        return value


LOSSES: dict[str, Callable[..., Loss]] = {
    "weighted": Weighted,
    "uw": Uncertainty,
    "famo": Famo,
    "asymmetric": lambda _: Asymmetric(),
}
