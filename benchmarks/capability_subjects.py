"""The loss weightings that capabilities.py tries, each used as its own documentation shows."""

import copy
from typing import Any, ClassVar

import torch
from gradnorm_pytorch import GradNormLossWeighter
from torch import Tensor, nn
from torchjd.aggregation import UPGrad
from torchjd.autojac import backward, jac_to_grad
from torchjd.scalarization import DWA, FAMO, UW

from mtattn import AttributeGroups, DWSLoss

Batch = tuple[Tensor, Tensor]
GROUPS = AttributeGroups({"first": ["a"], "second": ["b"]})
ZERO = {"a loss of zero for the absent task": {"absent": 0.0}}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shared, self.heads = nn.Linear(6, 8), nn.Linear(8, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.heads(self.shared(images).tanh())


def task_losses(
    logits: Tensor,
    targets: Tensor,
    *,
    absent: float = torch.nan,
    lowered: tuple = (),
    scale: float = 1,
    **_: Any,
) -> Tensor:
    """Compute the mean loss of each task over its labels, in the precision asked for."""
    labelled = ~targets.isnan()
    bce = nn.functional.binary_cross_entropy_with_logits(logits, targets.nan_to_num(), reduction="none")
    means = (bce * labelled).sum(0) / labelled.sum(0).clamp_min(1)
    losses = scale * torch.where(labelled.any(0), means, absent)
    for dtype in lowered:
        losses = losses.to(dtype)
    return losses


class Subject:
    """One weighting: its module, and what a training loop does with it."""

    has_state = True
    ways: ClassVar[dict[str, dict[str, Any]]] = {"a NaN loss for the absent task": {}, **ZERO}
    module: nn.Module

    def __init__(self, net: Net) -> None:
        self.net = net

    def parameters(self) -> list[nn.Parameter]:
        return []

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        images, targets = batch
        return (task_losses(self.net(images), targets),)

    def backward(self, logits: Tensor, targets: Tensor, **how: Any) -> None:
        self.module(task_losses(logits, targets, **how)).backward()

    def after_step(self, logits: Tensor, targets: Tensor, **how: Any) -> None:
        pass

    def end_epoch(self) -> None:
        pass

    def weights(self) -> Tensor:
        """By how much the total grows with each loss."""
        losses = torch.ones(2, requires_grad=True)
        copy.deepcopy(self.module)(losses).backward()
        return losses.grad


class Ours(Subject):
    ways: ClassVar[dict[str, dict[str, Any]]] = {"NaN targets": {}}

    def __init__(self, net: Net) -> None:
        super().__init__(net)
        self.module = DWSLoss(GROUPS)

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        images, targets = batch
        return self.net(images), targets

    def backward(self, logits: Tensor, targets: Tensor, *, lowered: tuple = (), scale: float = 1, **_: Any) -> None:
        for dtype in lowered:
            logits = (scale * logits).to(dtype)
            scale = 1
        self.module(logits, targets).backward()

    def end_epoch(self) -> None:
        self.module.step()

    def weights(self) -> Tensor:
        return self.module.weights.clone()


class JdDWA(Subject):
    def __init__(self, net: Net) -> None:
        super().__init__(net)
        self.module = DWA()

    def end_epoch(self) -> None:
        self.module.step()


class JdUW(Subject):
    def __init__(self, net: Net) -> None:
        super().__init__(net)
        self.module = UW(2)

    def parameters(self) -> list[nn.Parameter]:
        return list(self.module.parameters())


class JdFAMO(Subject):
    def __init__(self, net: Net) -> None:
        super().__init__(net)
        self.module = FAMO(2)

    def after_step(self, logits: Tensor, targets: Tensor, **how: Any) -> None:
        self.module.update(task_losses(logits, targets, **how))

    def weights(self) -> Tensor:
        return self.module._w.detach().softmax(0)


class JdUPGrad(Subject):
    has_state = False  # its weights are computed again from the gradients of each batch

    def __init__(self, net: Net) -> None:
        super().__init__(net)
        self.module, self.last = UPGrad(), torch.ones(2)

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        losses = super().inputs(batch)[0]
        rows = [torch.autograd.grad(loss, [*self.net.parameters()], retain_graph=True) for loss in losses]
        return (torch.stack([torch.cat([part.flatten() for part in row]) for row in rows]),)

    def backward(self, logits: Tensor, targets: Tensor, **how: Any) -> None:
        backward(task_losses(logits, targets, **how))
        self.last = jac_to_grad(self.net.parameters(), self.module)

    def weights(self) -> Tensor:
        return self.last


class GradNorm(Subject):
    ways: ClassVar[dict[str, dict[str, Any]]] = {
        **Subject.ways,
        "a loss of zero and its loss_mask": {"absent": 0.0, "mask": [True, False]},
    }

    def __init__(self, net: Net) -> None:
        super().__init__(net)
        options = {"learning_rate": 1e-2, "restoring_force_alpha": 1.0}
        self.module = GradNormLossWeighter(num_losses=2, grad_norm_parameters=net.shared.weight, **options)

    def backward(self, logits: Tensor, targets: Tensor, *, mask: list[bool] | None = None, **how: Any) -> None:
        self.module.backward(task_losses(logits, targets, **how), loss_mask=mask)

    def weights(self) -> Tensor:
        return self.module.loss_weights.clone()


SUBJECTS: dict[str, type[Subject]] = {
    "DWSLoss": Ours,
    "torchjd DWA": JdDWA,
    "torchjd UW": JdUW,
    "torchjd FAMO": JdFAMO,
    "torchjd UPGrad": JdUPGrad,
    "gradnorm-pytorch": GradNorm,
}
