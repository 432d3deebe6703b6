"""One epoch after another: what is prepared once for all of them, training, and measuring."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from mtattn._extras import needed_by
from mtattn.losses import DWSLoss
from mtattn.metrics import AttributeMetrics
from mtattn.training.checks import Options
from mtattn.training.distributed import Batch, in_steps, label_shares, own_share, share_buffers, step_counts
from mtattn.training.evaluation import Images, measure
from mtattn.training.items import Collate
from mtattn.training.watch import LossWatch

with needed_by("mtattn.training", extra="recipes"):
    from accelerate import Accelerator
    from timm.utils.model_ema import ModelEmaV3
    from tqdm.auto import tqdm

Record = dict[str, Any]


class Run:
    """A run: everything that its epochs share.

    Attributes:
        measured: The model that is measured and kept: the trained one or its averaged copy.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        options: Options,
        model: nn.Module,
        loss: DWSLoss,
        optimizer: Optimizer,
        *,
        train_data: Images,
        checkpoints: Path,
        workers: int,
        compiled: bool,
    ) -> None:
        collate = Collate("fit", loss.groups)
        in_shares: Any = train_data if getattr(train_data, "shares", None) else None  # a JointDataset
        order = {"shuffle": True} if in_shares is None else {"sampler": in_shares.sampler(options.seed)}
        loader = DataLoader(
            train_data, options.batch_size, drop_last=True, num_workers=workers, collate_fn=collate, **order
        )
        self.accelerator, self.options, self.checkpoints, self.workers = accelerator, options, checkpoints, workers
        self.model, self.optimizer, self.loader = accelerator.prepare(model, optimizer, loader)
        self.loss = loss.to(accelerator.device)
        self.num_steps = len(self.loader) // options.accumulate
        # the plain optimizer, not what prepare() returns: that is what a scheduler wants
        self.schedule = LambdaLR(optimizer, warmup_then_cosine(options.warmup, options.epochs * self.num_steps))
        plain = accelerator.unwrap_model(self.model)
        self.averaged = ModelEmaV3(plain, options.averaging, use_warmup=True) if options.averaging else None
        self.measured = self.averaged.module if self.averaged else plain
        accelerator.register_for_checkpointing(loss, self.schedule, *([self.averaged] if self.averaged else []))
        self._loss_of = _loss_function(self.model, loss, compiled=compiled)

    @property
    def images_a_step(self) -> int:
        """How many images all processes together take in a step."""
        num_processes: int = self.accelerator.num_processes
        return self.options.batch_size * self.options.accumulate * num_processes

    def epoch(self, epoch: int, valid_data: Images, metrics: AttributeMetrics) -> Record:
        """Train for one epoch, measure, and tell how it went."""
        started, watch = time.perf_counter(), LossWatch(self.accelerator)
        self._train(epoch, watch)
        seconds = time.perf_counter() - started
        share_buffers(self.accelerator, self.accelerator.unwrap_model(self.model), self.measured)
        weights = _by_group(self.loss, self.loss.weights)  # those of this epoch, before the step sets the next ones
        self.loss.step()
        valid = _headline(self._measure(valid_data, metrics))
        watch.check_result(self.accelerator.unwrap_model(self.model), valid, epoch, self.checkpoints)
        return {
            "epoch": epoch,
            "learning_rate": self.schedule.get_last_lr()[-1],
            "train_loss": watch.mean,
            "group_losses": _by_group(self.loss, self.loss.history.latest),
            "loss_left": _by_group(self.loss, self.loss.loss_left),
            "weights": weights,
            "valid": valid,
            "images_per_second": self.num_steps * self.images_a_step / seconds,
            "seconds": seconds,
        }

    def _train(self, epoch: int, watch: LossWatch) -> None:
        self.loader.set_epoch(epoch)
        self.model.train()
        self.loss.train()
        bar = tqdm(
            in_steps(self.loader, self.options.accumulate),
            total=self.num_steps,
            desc=f"epoch {epoch}/{self.options.epochs}",
            unit=" images",
            unit_scale=self.images_a_step,
            disable=None if self.accelerator.is_main_process else True,  # None: shown in terminals only
        )
        for step, batches in enumerate(bar, start=1):
            watch.see(self._backward(batches))
            self.optimizer.step()
            self.schedule.step()
            self.optimizer.zero_grad()
            if self.averaged:
                num_before = (epoch - 1) * self.num_steps
                self.averaged.update(self.accelerator.unwrap_model(self.model), num_before + step)
            if step % 50 == 0 or step == self.num_steps:  # the only place that waits for the device
                watch.check(epoch, self.num_steps, self.checkpoints)
                bar.set_postfix(loss=f"{watch.mean:.4f}", lr=f"{self.schedule.get_last_lr()[-1]:.1e}")

    def _backward(self, batches: Sequence[Batch]) -> Tensor:
        """Add up the gradients of a step; return its loss, this process's part of the mean over processes."""
        total = torch.zeros((), device=self.accelerator.device)
        shares = label_shares(self.accelerator, batches)
        counts = step_counts(self.accelerator, self.loss, batches)
        for index, (share, batch) in enumerate(zip(shares, batches, strict=True), start=1):
            with nullcontext() if index == len(batches) else self.accelerator.no_sync(self.model):
                value = self._loss_of(*batch, counts) * share / len(batches)
                self.accelerator.backward(value)
            total += value.detach()
        return total

    def _measure(self, data: Images, metrics: AttributeMetrics) -> dict[str, Any]:
        share = own_share(self.accelerator, data)
        collate = Collate("fit", metrics.groups)
        loader = DataLoader(share, self.options.batch_size, num_workers=self.workers, collate_fn=collate)
        return measure(self.accelerator, self.measured, loader, metrics.to(self.accelerator.device))


def _loss_function(model: nn.Module, loss: DWSLoss, *, compiled: bool) -> Callable[..., Tensor]:
    def loss_of(images: Any, targets: Tensor, counts: Tensor | None) -> Tensor:
        value: Tensor = loss(model(images), targets, counts)
        return value

    return torch.compile(loss_of) if compiled else loss_of


def warmup_then_cosine(warmup: float, num_steps: int) -> Callable[[int], float]:
    """Make the factor of the learning rate as a function of the step: up linearly, then to zero along a cosine."""
    num_warm = round(warmup * num_steps)

    def factor(step: int) -> float:
        if step < num_warm:
            return (step + 1) / num_warm
        return 0.5 + 0.5 * math.cos(math.pi * (step - num_warm) / max(num_steps - num_warm, 1))

    return factor


def _by_group(loss: DWSLoss, values: Float[Tensor, " group"]) -> dict[str, float | None]:
    return {
        group: value if math.isfinite(value) else None
        for group, value in zip(loss.groups, values.tolist(), strict=True)
    }


def _headline(scores: dict[str, Any]) -> dict[str, float]:
    return {name: score for name, score in scores.items() if isinstance(score, float)}
