"""Keep an eye on the loss without waiting for the device."""

import math
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mtattn.training.checkpoints import complete_checkpoints


class TrainingDiverged(RuntimeError):  # noqa: N818  reads as what it is: raise TrainingDiverged
    """The loss is no longer a finite number; the last good checkpoint is kept."""


class LossWatch:
    """Adds up the losses of an epoch on the device and notes the first step that went wrong, without waiting."""

    def __init__(self, device: torch.device) -> None:
        self._total = torch.zeros((), device=device)
        self._first_bad = torch.zeros((), dtype=torch.long, device=device)
        self._steps = 0
        self.mean = math.nan

    def see(self, loss: Float[Tensor, ""]) -> None:
        """Take in the loss of one step."""
        self._steps += 1
        self._total += loss
        self._first_bad += torch.where((self._first_bad == 0) & ~loss.isfinite(), self._steps, 0)

    def check(self, epoch: int, num_steps: int, checkpoints: Path) -> None:
        """Wait for the device, set ``mean``, and stop if a loss was not finite.

        Raises:
            TrainingDiverged: One was not.
        """
        self.mean = self._total.item() / self._steps
        if not math.isfinite(self.mean):
            last = max(complete_checkpoints(checkpoints), default=None)
            kept = f"The last good checkpoint is {last}." if last else "There is no checkpoint yet."
            raise TrainingDiverged(
                f"fit: the loss is {self.mean} since epoch {epoch}, step {int(self._first_bad)} of {num_steps}. "
                f"{kept} Try a smaller learning rate, and look for extreme values in images and targets."
            )
