"""fit: the training loop of the recipes, on Accelerate."""

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
from mtattn.training.checkpoints import (
    BEST_FILE,
    checkpoint_of,
    complete_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from mtattn.training.checks import check_columns, check_length, check_options
from mtattn.training.distributed import (
    Batch,
    in_steps,
    label_shares,
    new_accelerator,
    own_share,
    share_buffers,
    with_synchronized_batch_norm,
)
from mtattn.training.evaluation import Images, measure
from mtattn.training.watch import LossWatch

with needed_by("mtattn.training", extra="recipes"):
    from accelerate import Accelerator, DataLoaderConfiguration
    from accelerate.utils import set_seed
    from safetensors.torch import load_model
    from timm.utils.model_ema import ModelEmaV3
    from tqdm.auto import tqdm


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
    accumulate: int = 1,
    warmup: float = 0.1,
    averaging: float | None = None,
    mixed_precision: str = "no",
    compile: bool = False,  # noqa: A002  torch's word
    sync_batch_norm: bool = False,
    select_by: str = "mean_accuracy",
    workers: int = 0,
    seed: int = 0,
    resume: bool = False,
) -> list[dict[str, Any]]:
    """Train a model, keep a checkpoint of every epoch, and end with the weights of the best one.

    The learning rate rises linearly, then falls to zero along a cosine, with every step. The weights of the
    loss step with every epoch. Nothing in a step waits for the device.

    In several processes (``accelerate launch``, ``torchrun``) each takes its own images of every step, and all end with
    the same model. A step's loss is the mean over all its labels, whichever process and batch they fall into.

    Args:
        model: From images to logits in the order of ``loss.groups.attributes``. It holds the best weights afterwards.
        loss: Its period is the epoch.
        optimizer: Of the model's parameters, with the peak learning rates.
        metrics: What is measured on ``valid_data`` after each epoch.
        train_data: Images and targets, shuffled anew each epoch; a last step that is not full is left out.
        valid_data: Images and targets.
        output: The folder where ``checkpoints/`` are kept; all machines must see the same one.
        epochs: How often to go through ``train_data``.
        batch_size: Images a process computes at once.
        accumulate: How many batches make a step: the same step as with one batch that is as many times larger, except
            that batch norms see the small ones and the rule "random" draws for each.
        warmup: The share of all steps in which the learning rate rises, in [0, 1).
        averaging: Decay of an averaged copy of the weights, in (0, 1), say 0.999; that copy is what is measured and
            kept. None: no averaging.
        mixed_precision: "no", "bf16" or "fp16" (with a gradient scaler; needs a GPU). The loss stays in float32.
        compile: Whether ``torch.compile`` makes one program of model and loss for training.
        sync_batch_norm: Whether batch norms take their statistics from all processes' images; needs GPUs. Otherwise
            each process normalizes its own images, and the statistics of the first are kept.
        select_by: The score on ``valid_data`` that the best epoch has the highest of: "mean_accuracy",
            "mean_balanced_accuracy", "mean_f1" or "mean_average_precision".
        workers: Processes that read images.
        seed: Decides the order of the images and all other chance.
        resume: Whether to go on from the last checkpoint in ``output``; all other arguments stay as they were.

    Returns:
        A record of each epoch, as :func:`mtattn.report.write_report` reads them.

    Raises:
        ValueError: An option is out of range, there are fewer images than a step takes, the columns of data, loss and
            metrics differ, or ``output`` holds another run.
        OSError: A checkpoint cannot be written; those before it are kept.
        TrainingDiverged: Loss or weights became infinite or NaN; the message says in which step of which epoch.

    Example:
        >>> import tempfile
        >>> groups = AttributeGroups({"mouth": ["Smiling"]})
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
        >>> optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        >>> metrics = AttributeMetrics(groups, train_rates=[1.0])
        >>> data = torch.utils.data.TensorDataset(torch.rand(8, 3, 2, 2), torch.ones(8, 1))
        >>> options = {"output": Path(tempfile.mkdtemp()), "epochs": 1, "batch_size": 4}
        >>> history = fit(model, DWSLoss(groups), optimizer, metrics, data, data, **options)
        epoch 1/1: train loss ...
        >>> history[0]["weights"]
        {'mouth': 1.0}
    """
    check_options(epochs, batch_size, accumulate, warmup=warmup, averaging=averaging, select_by=select_by)
    for name, columns in (("train_data", train_data), ("valid_data", valid_data), ("metrics", metrics.groups)):
        check_columns("fit", name, columns, loss.groups)
    accelerator = new_accelerator(
        mixed_precision,
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=seed, non_blocking=True),
    )
    check_length(train_data, batch_size, accumulate, accelerator.num_processes)
    checkpoints = Path(output) / "checkpoints"
    if not resume and complete_checkpoints(checkpoints):
        raise ValueError(f"fit: {checkpoints} holds another run; take resume=True, another output, or delete it.")
    accelerator.wait_for_everyone()  # until all have looked
    set_seed(seed, device_specific=True)
    if sync_batch_norm and accelerator.num_processes > 1:
        model = with_synchronized_batch_norm(model, accelerator.device)
    train_loader = DataLoader(train_data, batch_size, shuffle=True, drop_last=True, num_workers=workers)
    valid_loader = DataLoader(own_share(accelerator, valid_data), batch_size, num_workers=workers)
    scheduled = optimizer  # not what prepare() returns: a scheduler wants the plain optimizer
    model, optimizer, train_loader = accelerator.prepare(model, optimizer, train_loader)
    num_steps = len(train_loader) // accumulate
    schedule = LambdaLR(scheduled, warmup_then_cosine(warmup, epochs * num_steps))
    loss, metrics = loss.to(accelerator.device), metrics.to(accelerator.device)
    averaged = ModelEmaV3(accelerator.unwrap_model(model), averaging, use_warmup=True) if averaging else None
    measured = averaged.module if averaged else accelerator.unwrap_model(model)
    accelerator.register_for_checkpointing(loss, schedule, *([averaged] if averaged else []))
    history = load_checkpoint(accelerator, checkpoints) if resume else []
    loss_of = _loss_function(model, loss, compiled=compile)
    images_a_step = batch_size * accumulate * accelerator.num_processes
    for epoch in range(len(history) + 1, epochs + 1):
        started, watch = time.perf_counter(), LossWatch(accelerator)
        train_loader.set_epoch(epoch)
        model.train()
        bar = tqdm(
            in_steps(train_loader, accumulate),
            total=num_steps,
            desc=f"epoch {epoch}/{epochs}",
            unit=" images",
            unit_scale=images_a_step,
            disable=None if accelerator.is_main_process else True,  # None: shown in terminals only
        )
        for step, batches in enumerate(bar, start=1):
            watch.see(_backward(accelerator, model, loss_of, batches))
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            if averaged:
                averaged.update(accelerator.unwrap_model(model), (epoch - 1) * num_steps + step)
            if step % 50 == 0 or step == num_steps:  # the only place that waits for the device
                watch.check(epoch, num_steps, checkpoints)
                bar.set_postfix(loss=f"{watch.mean:.4f}", lr=f"{schedule.get_last_lr()[-1]:.1e}")
        seconds = time.perf_counter() - started
        share_buffers(accelerator, accelerator.unwrap_model(model), measured)
        weights = _by_group(loss, loss.weights)  # those of this epoch, before the step sets the next ones
        loss.step()
        valid = _headline(measure(accelerator, measured, valid_loader, metrics))
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
                "images_per_second": num_steps * images_a_step / seconds,
                "seconds": seconds,
            }
        )
        accelerator.print(_summary(history[-1], epochs))
        is_best = _is_best([record["valid"][select_by] for record in history])
        save_checkpoint(accelerator, checkpoints, history, measured if is_best else None)

    model = accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # gives back what prepare() wrapped
    load_model(model, checkpoint_of(checkpoints, len(history)) / BEST_FILE)
    return history


def _loss_function(model: nn.Module, loss: DWSLoss, *, compiled: bool) -> Callable[..., Tensor]:
    def loss_of(images: Any, targets: Tensor) -> Tensor:
        value: Tensor = loss(model(images), targets)
        return value

    return torch.compile(loss_of) if compiled else loss_of


def _backward(
    accelerator: Accelerator, model: nn.Module, loss_of: Callable[..., Tensor], batches: Sequence[Batch]
) -> Tensor:
    """Add up the gradients of a step; return its loss, this process's part of the mean over processes."""
    total = torch.zeros((), device=accelerator.device)
    for index, (share, batch) in enumerate(zip(label_shares(accelerator, batches), batches, strict=True), start=1):
        with nullcontext() if index == len(batches) else accelerator.no_sync(model):
            value = loss_of(*batch) * share / len(batches)
            accelerator.backward(value)
        total += value.detach()
    return total


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
