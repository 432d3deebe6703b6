"""Keep an eye on the loss without waiting for the device."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtattn._extras import needed_by
from mtattn.models.runs import last_checkpoint

with needed_by("mtattn.training", extra="recipes"):
    from accelerate import Accelerator


class TrainingDiverged(RuntimeError):  # noqa: N818  reads as what it is: raise TrainingDiverged
    """Loss or weights are no longer finite numbers; the last good checkpoint is kept."""


class LossWatch:
    """Adds up the losses of an epoch on the device and notes the first step that went wrong, without waiting."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._total = torch.zeros((), device=accelerator.device)
        self._first_bad = torch.zeros(1, dtype=torch.long, device=accelerator.device)
        self._steps = 0
        self.mean = math.nan

    def see(self, loss: Float[Tensor, ""]) -> None:
        """Take in the loss of one step: this process's part of the mean over processes."""
        self._steps += 1
        self._total += loss
        self._first_bad += torch.where((self._first_bad == 0) & ~loss.isfinite(), self._steps, 0)

    def check(self, epoch: int, num_steps: int, checkpoints: Path) -> None:
        """Wait for the device, set ``mean``, and stop if a loss was not finite.

        Raises:
            TrainingDiverged: One was not.
        """
        self.mean = self._accelerator.reduce(self._total, "mean").item() / self._steps
        if not math.isfinite(self.mean):
            first_bad = self._accelerator.gather(self._first_bad)
            where = f"since epoch {epoch}, step {int(first_bad.where(first_bad > 0, num_steps).min())} of {num_steps}"
            raise TrainingDiverged(_message(f"the loss is {self.mean} {where}", checkpoints))

    def check_result(self, model: nn.Module, scores: Mapping[str, float], epoch: int, checkpoints: Path) -> None:
        """Stop if the epoch ends in a broken model, though every loss was finite: the last step may have spoilt it.

        Raises:
            TrainingDiverged: A weight, a statistic, or the loss on labelled validation data is not finite.
        """
        finite = [tensor.isfinite().all() for tensor in model.state_dict().values() if tensor.is_floating_point()]
        if not torch.stack(finite).all():
            raise TrainingDiverged(_message(f"the model's weights are not finite after epoch {epoch}", checkpoints))
        without_labels = all(math.isnan(score) for name, score in scores.items() if name != "loss")
        if not math.isfinite(scores["loss"]) and not without_labels:
            what = f"the loss on validation data is {scores['loss']} after epoch {epoch}"
            raise TrainingDiverged(_message(what, checkpoints))


def _message(what: str, checkpoints: Path) -> str:
    last = last_checkpoint(checkpoints)
    kept = f"The last good checkpoint is {last}." if last else "There is no checkpoint yet."
    return f"fit: {what}. {kept} Try a smaller learning rate, and look for extreme values in images and targets."
