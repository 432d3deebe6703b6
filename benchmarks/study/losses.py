"""What the study minimises: our weighting rules, torchjd's, and the usual answers to imbalance."""

from collections.abc import Callable
from typing import Any

import torch
from timm.loss import AsymmetricLossMultiLabel
from torch import Tensor, nn

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


class Scalarized(Loss):
    """One of torchjd's rules that weighs the groups' losses and learns while it does: UW or FAMO."""

    def __init__(self, groups: AttributeGroups, rule: str) -> None:
        super().__init__()
        from torchjd import scalarization  # noqa: PLC0415  (who only writes the page needs no torchjd)

        self.group_losses, self.rule = DWSLoss(groups).group_losses, getattr(scalarization, rule)(len(groups))

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        value: Tensor = self.rule(self.group_losses(logits, targets))
        return value

    @torch.no_grad()
    def after(self, logits: Callable[[], Tensor], targets: Tensor) -> None:
        if hasattr(self.rule, "update"):  # FAMO looks at the same batch again
            self.rule.update(self.group_losses(logits(), targets))


class Asymmetric(Loss):
    """timm's asymmetric loss (Ridnik 2021), with its own settings where none are given."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.loss = AsymmetricLossMultiLabel(**options)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        value: Tensor = self.loss(logits, targets) / logits.numel()
        return value


LOSSES: dict[str, Callable[..., Loss]] = {
    "weighted": Weighted,
    "uw": lambda groups: Scalarized(groups, "UW"),
    "famo": lambda groups: Scalarized(groups, "FAMO"),
    "asymmetric": lambda _, **options: Asymmetric(**options),
}
