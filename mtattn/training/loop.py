"""The training loop of the recipes, on Accelerate: fit and evaluate."""

import math
import time
from collections.abc import Callable, Sequence, Sized
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset

from mtattn._extras import needed_by
from mtattn.functional import group_bce
from mtattn.groups import AttributeGroups, check_known
from mtattn.losses import DWSLoss
from mtattn.metrics import AttributeMetrics
from mtattn.training.checkpoints import BEST_FILE, complete_checkpoints, load_checkpoint, save_best, save_checkpoint
from mtattn.training.watch import LossWatch

with needed_by("mtattn.training", extra="recipes"):
    from accelerate import Accelerator, DataLoaderConfiguration
    from accelerate.state import AcceleratorState, is_initialized
    from accelerate.utils import set_seed
    from safetensors.torch import load_model
    from timm.utils.model_ema import ModelEmaV3
    from tqdm.auto import tqdm

Images = Dataset[tuple[Any, Tensor]]
SCORES = ("mean_accuracy", "mean_balanced_accuracy", "mean_f1", "mean_average_precision")


def fit(
    model: nn.Module,
    loss: DWSLoss,
    optimizer: Optimizer,
    metrics: AttributeMetrics,
    train_data: Images,
    valid_data: Images,
    *,
    output: Path,
    epochs: int,
    batch_size: int,
    warmup: float = 0.1,
    averaging: float | None = None,
    mixed_precision: str = "no",
    select_by: str = "mean_accuracy",
    workers: int = 0,
    seed: int = 0,
    resume: bool = False,
) -> list[dict[str, Any]]:
    """Train a model, keep a checkpoint of every epoch, and end with the weights of the best one.

    The learning rate rises linearly, then falls to zero along a cosine, stepping with every batch. The weights of the
    loss step with every epoch. Nothing in a step waits for the device.

    Args:
        model: From images to logits in the order of ``loss.groups.attributes``. It holds the best weights afterwards.
        loss: Its period is the epoch.
        optimizer: Of the model's parameters, with the peak learning rates.
        metrics: What is measured on ``valid_data`` after each epoch.
        train_data: Images and targets, shuffled anew each epoch; a last batch that is not full is left out.
        valid_data: Images and targets.
        output: The folder where ``checkpoints/`` are kept.
        epochs: How often to go through ``train_data``.
        batch_size: Images a step and process.
        warmup: The share of all steps in which the learning rate rises, in [0, 1).
        averaging: Decay of an averaged copy of the weights, in (0, 1), say 0.999; that copy is what is measured and
            kept. None: no averaging.
        mixed_precision: "no", "bf16" or "fp16".
        select_by: The score on ``valid_data`` that the best epoch has the highest of: "mean_accuracy",
            "mean_balanced_accuracy", "mean_f1" or "mean_average_precision".
        workers: Processes that read images.
        seed: Decides the order of the images and all other chance.
        resume: Whether to go on from the last checkpoint in ``output``; all other arguments stay as they were.

    Returns:
        A record of each epoch, as :func:`mtattn.report.write_report` reads them.

    Raises:
        ValueError: An option is out of range, there are fewer images than a batch, the columns of data, loss and
            metrics differ, or ``output`` holds another run.
        TrainingDiverged: Loss or weights became infinite or NaN; the message says in which step of which epoch.
    """
    _check_options(epochs=epochs, batch_size=batch_size, warmup=warmup, averaging=averaging, select_by=select_by)
    for name, columns in (("train_data", train_data), ("valid_data", valid_data), ("metrics", metrics.groups)):
        _check_columns("fit", name, columns, loss.groups)
    checkpoints = Path(output) / "checkpoints"
    if not resume and complete_checkpoints(checkpoints):
        raise ValueError(f"fit: {checkpoints} holds another run; take resume=True, another output, or delete it.")
    _check_length(train_data, batch_size)
    set_seed(seed)
    train_loader = DataLoader(train_data, batch_size, shuffle=True, drop_last=True, num_workers=workers)
    valid_loader = DataLoader(valid_data, batch_size, num_workers=workers)
    accelerator = _new_accelerator(
        mixed_precision,
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=seed, non_blocking=True),
    )
    scheduled = optimizer  # not what prepare() returns: a scheduler wants the plain optimizer
    model, optimizer, train_loader, valid_loader = accelerator.prepare(model, optimizer, train_loader, valid_loader)
    schedule = LambdaLR(scheduled, warmup_then_cosine(warmup, epochs * len(train_loader)))
    loss, metrics = loss.to(accelerator.device), metrics.to(accelerator.device)
    averaged = ModelEmaV3(accelerator.unwrap_model(model), averaging, use_warmup=True) if averaging else None
    measured = averaged.module if averaged else accelerator.unwrap_model(model)
    accelerator.register_for_checkpointing(loss, schedule, *([averaged] if averaged else []))
    history = load_checkpoint(accelerator, checkpoints) if resume else []

    for epoch in range(len(history) + 1, epochs + 1):
        started, watch = time.perf_counter(), LossWatch(accelerator.device)
        train_loader.set_epoch(epoch)
        model.train()
        bar = tqdm(
            train_loader,
            desc=f"epoch {epoch}/{epochs}",
            unit=" images",
            unit_scale=batch_size * accelerator.num_processes,
            disable=None if accelerator.is_main_process else True,  # None: shown in terminals only
        )
        for step, (images, targets) in enumerate(bar, start=1):
            value = loss(model(images), targets)
            accelerator.backward(value)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            if averaged:
                averaged.update(accelerator.unwrap_model(model), (epoch - 1) * len(train_loader) + step)
            watch.see(value.detach())
            if step % 50 == 0 or step == len(train_loader):  # the only place that waits for the device
                watch.check(epoch, len(train_loader), checkpoints)
                bar.set_postfix(loss=f"{watch.mean:.4f}", lr=f"{schedule.get_last_lr()[-1]:.1e}")
        seconds = time.perf_counter() - started
        weights = _by_group(loss, loss.weights)  # those of this epoch, before the step sets the next ones
        loss.step()
        valid = _headline(_evaluate(accelerator, measured, valid_loader, metrics))
        watch.check_result(accelerator.unwrap_model(model), valid, epoch, checkpoints)
        history.append(
            {
                "epoch": epoch,
                "learning_rate": schedule.get_last_lr()[-1],
                "train_loss": watch.mean,
                "group_losses": _by_group(loss, loss.history.latest),
                "loss_left": _by_group(loss, loss.loss_left),
                "weights": weights,
                "valid": valid,
                "images_per_second": len(train_loader) * batch_size * accelerator.num_processes / seconds,
                "seconds": seconds,
            }
        )
        accelerator.print(_summary(history[-1], epochs))
        scores = [record["valid"][select_by] for record in history]
        if accelerator.is_main_process and _is_best(scores):
            save_best(measured, checkpoints)
        save_checkpoint(accelerator, checkpoints, history)

    model = accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # gives back what prepare() wrapped
    load_model(model, checkpoints / BEST_FILE)
    return history


def evaluate(
    model: nn.Module,
    data: Images,
    metrics: AttributeMetrics,
    *,
    batch_size: int = 256,
    mixed_precision: str = "no",
    workers: int = 0,
) -> dict[str, Any]:
    """Measure a model on a data set.

    Args:
        model: From images to logits in the order of the metrics' attributes.
        data: Images and targets.
        metrics: What to measure; forgets what it has seen before.
        batch_size: Images a step and process.
        mixed_precision: "no", "bf16" or "fp16".
        workers: Processes that read images.

    Returns:
        What ``metrics.compute()`` returns, and "loss", the mean binary cross-entropy in nats.
    """
    _check_columns("evaluate", "data", data, metrics.groups)
    accelerator = _new_accelerator(mixed_precision)
    model, loader = accelerator.prepare(model, DataLoader(data, batch_size, num_workers=workers))
    return _evaluate(accelerator, accelerator.unwrap_model(model), loader, metrics.to(accelerator.device))


@torch.no_grad()
def _evaluate(
    accelerator: Accelerator, model: nn.Module, loader: DataLoader[tuple[Any, Tensor]], metrics: AttributeMetrics
) -> dict[str, Any]:
    was_training = model.training
    model.eval()
    metrics.reset()
    total = torch.zeros(2, device=accelerator.device)
    for images, targets in loader:
        with accelerator.autocast():
            logits = model(images)
        all_logits, all_targets = accelerator.gather_for_metrics((logits.float(), targets))
        metrics.update(all_logits, all_targets)
        losses, counts = group_bce(all_logits, all_targets, torch.ones_like(all_targets[0])[:, None])
        total += torch.cat([losses * counts, counts])
    model.train(was_training)
    return {"loss": (total[0] / total[1]).item(), **metrics.compute()}


def _new_accelerator(mixed_precision: str, **options: Any) -> Accelerator:
    """Make an accelerator; Accelerate itself holds every process to the precision of its first one."""
    if is_initialized() and AcceleratorState().mixed_precision != mixed_precision:
        AcceleratorState._reset_state()
    return Accelerator(mixed_precision=mixed_precision, **options)


def _check_columns(owner: str, name: str, data: Images | AttributeGroups, groups: AttributeGroups) -> None:
    attributes = getattr(data, "attributes", None)  # a data set of somebody else's need not say
    if attributes is not None and tuple(attributes) != groups.attributes:
        raise ValueError(
            f"{owner}: the columns of {name} are groups.attributes, {_few(groups.attributes)}, "
            f"got {_few(attributes)}; ask for attributes=groups.attributes."
        )


def _check_length(data: Images, batch_size: int) -> None:
    num_images = len(cast("Sized", data))  # torch's Dataset does not say that it has a length
    if num_images < batch_size:
        raise ValueError(
            f"fit: needs at least one full batch of images, got batch_size={batch_size} for {num_images} images; "
            f"take a smaller one."
        )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _check_options(*, epochs: int, batch_size: int, warmup: float, averaging: float | None, select_by: str) -> None:
    check_known("fit", "score to select by", [select_by], SCORES)
    if epochs < 1 or batch_size < 1:
        raise ValueError(f"fit: epochs and batch_size must be at least 1, got {epochs} and {batch_size}.")
    if not 0 <= warmup < 1:
        raise ValueError(f"fit: warmup is a share in [0, 1), got {warmup}.")
    if averaging is not None and not 0 < averaging < 1:
        raise ValueError(f"fit: averaging is a decay in (0, 1), got {averaging}; None turns it off.")


def warmup_then_cosine(warmup: float, num_steps: int) -> Callable[[int], float]:
    """Make the factor of the learning rate as a function of the step: up linearly, then to zero along a cosine."""
    num_warm = round(warmup * num_steps)

    def factor(step: int) -> float:
        if step < num_warm:
            return (step + 1) / num_warm
        return 0.5 + 0.5 * math.cos(math.pi * (step - num_warm) / max(num_steps - num_warm, 1))

    return factor


def _is_best(scores: list[float]) -> bool:
    """Tell whether the last score is the highest; one that is undefined is below all others."""
    *before, last = (-math.inf if math.isnan(score) else score for score in scores)
    return last >= max(before, default=-math.inf)


def _by_group(loss: DWSLoss, values: Float[Tensor, " group"]) -> dict[str, float | None]:
    return {
        group: value if math.isfinite(value) else None
        for group, value in zip(loss.groups, values.tolist(), strict=True)
    }


def _headline(scores: dict[str, Any]) -> dict[str, float]:
    return {name: score for name, score in scores.items() if isinstance(score, float)}


def _summary(record: dict[str, Any], epochs: int) -> str:
    valid = record["valid"]
    return (
        f"epoch {record['epoch']}/{epochs}: train loss {record['train_loss']:.4f}, valid loss {valid['loss']:.4f}, "
        f"accuracy {valid['mean_accuracy']:.4f} (majority {valid['majority_accuracy']:.4f}), "
        f"balanced {valid['mean_balanced_accuracy']:.4f}, average precision {valid['mean_average_precision']:.4f}, "
        f"{record['images_per_second']:.0f} images/s"
    )
