"""fit: the training loop of the recipes, on Accelerate."""

import math
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from mtattn._baselines import unlearnt_in_words, without_labels
from mtattn._extras import needed_by
from mtattn._modes import modes_kept
from mtattn.groups import AttributeGroups, check_known
from mtattn.losses import DWSLoss
from mtattn.metrics import AttributeMetrics
from mtattn.models.runs import checkpoint_of
from mtattn.models.saving import BEST_FILE
from mtattn.training.begun import how_begun, num_images
from mtattn.training.checkpoints import check_begins, load_checkpoint, save_checkpoint
from mtattn.training.checks import Options, check_length
from mtattn.training.columns import check_columns
from mtattn.training.distributed import given_back, new_accelerator, with_synchronized_batch_norm
from mtattn.training.epochs import Record, Run
from mtattn.training.evaluation import Images, in_words
from mtattn.training.items import check_data, known_targets
from mtattn.training.lock import locked

with needed_by("mtattn.training", extra="recipes"):
    from accelerate import Accelerator, DataLoaderConfiguration
    from accelerate.utils import set_seed
    from safetensors.torch import load_model


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
    select_by: str | None = None,
    workers: int = 0,
    seed: int = 0,
    resume: bool = False,
) -> list[Record]:
    """Train a model, keep a checkpoint of every epoch, and end with the weights of the best one.

    The learning rate rises linearly, then falls to zero along a cosine, with every step. The weights of the
    loss step with every epoch. Nothing in a step waits for the device.

    In several processes (``accelerate launch``, ``torchrun``) each takes its own images of every step, and all end with
    the same model. A step's loss is the mean over all its labels, whichever process and batch they fall into.

    Args:
        model: From images to outputs in the columns of ``loss.groups.columns``. It holds the best weights afterwards.
        loss: A new one; its period is the epoch.
        optimizer: A new one of the model's parameters, with the peak learning rates.
        metrics: What is measured on ``valid_data`` after each epoch.
        train_data: Images and targets, shuffled again each epoch; a last step that is not full is left out. A
            :class:`~mtattn.data.JointDataset` with shares gives each of its data sets its share of every batch. Of an
            attribute that is labelled nowhere nothing is learnt; fit says so.
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
        select_by: The score on ``valid_data`` that the best epoch has the highest of, one of ``metrics.mean_scores``:
            "mean_accuracy", "mean_balanced_accuracy", "mean_f1" or "mean_average_precision", or "mean_skill" where not
            all attributes are binary. None takes the accuracy of binary attributes, else the skill.
        workers: Processes that read images.
        seed: Decides the order of the images and all other chance.
        resume: Whether to go on from the last checkpoint in ``output``; it knows how the run was begun, and of all
            other arguments only ``workers`` and ``compile`` may change.

    Returns:
        A record of each epoch, as :func:`mtattn.report.write_report` reads them; the epoch whose weights were kept is
        in the last one, under "best_epoch".

    Raises:
        ValueError: An option is out of range, there are fewer images than a step takes, the columns of model, loss,
            metrics and data are known to differ, a target cannot be, loss or optimizer were trained with before,
            ``output`` holds another run, or another one is at work there.
        TypeError: An item of the data is not an image with its targets.
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
    select_by = metrics.mean_scores[0] if select_by is None else select_by
    check_known("fit", "score to select by", [select_by], metrics.mean_scores)
    options = Options(
        epochs, batch_size, accumulate, warmup, averaging, mixed_precision, sync_batch_norm, select_by, seed
    )
    check_columns("fit", loss.groups, model=model, metrics=metrics, train_data=train_data, valid_data=valid_data)
    accelerator = new_accelerator(
        mixed_precision,
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=seed, non_blocking=True),
    )
    check_length(train_data, options, accelerator.num_processes)
    check_data(loss.groups, train_data, valid_data)
    _say_what_is_unlearnt(accelerator, loss.groups, train_data)
    if sync_batch_norm and accelerator.num_processes > 1:
        model = with_synchronized_batch_norm(model, accelerator.device)
    counts: dict[str, Any] = {"train_images": num_images(train_data), "valid_images": num_images(valid_data)}
    if (shares := getattr(train_data, "shares", None)) is not None:
        counts["shares"] = list(shares)
    begun = how_begun(options, model, loss, optimizer, num_processes=accelerator.num_processes, **counts)
    checkpoints = Path(output) / "checkpoints"
    with locked(Path(output)), modes_kept(model, loss), given_back(accelerator, model):
        check_begins(checkpoints, loss, optimizer, resume=resume)
        accelerator.wait_for_everyone()  # until all have looked
        set_seed(seed, device_specific=True)
        run = Run(
            accelerator,
            options,
            model,
            loss,
            optimizer,
            train_data=train_data,
            checkpoints=checkpoints,
            workers=workers,
            compiled=compile,
        )
        history = load_checkpoint(accelerator, checkpoints, begun) if resume else []
        for epoch in range(len(history) + 1, epochs + 1):
            history.append(run.epoch(epoch, valid_data, metrics))
            best = _best_epoch(history, select_by)
            history[-1] |= {"select_by": select_by, "best_epoch": best}
            accelerator.print(_summary(history[-1], epochs))
            save_checkpoint(accelerator, checkpoints, history, run.measured if best == epoch else None, begun)
    load_model(model, checkpoint_of(checkpoints, len(history)) / BEST_FILE)
    accelerator.print(_kept(history, select_by))
    return history


def _say_what_is_unlearnt(accelerator: Accelerator, groups: AttributeGroups, data: Images) -> None:
    targets = known_targets(data)
    if targets is not None and (names := without_labels(groups.attributes, targets)):
        accelerator.print(f"fit: {unlearnt_in_words(names)}")


def _best_epoch(history: list[Record], select_by: str) -> int:
    """Find the last of the epochs with the highest score; one that is undefined is below all others."""
    scores = [record["valid"][select_by] for record in history]
    scores = [-math.inf if math.isnan(score) else score for score in scores]
    return max(range(1, len(scores) + 1), key=lambda epoch: (scores[epoch - 1], epoch))


def _kept(history: list[Record], select_by: str) -> str:
    best = _best_epoch(history, select_by)
    score = history[best - 1]["valid"][select_by]
    why = f"valid_data gives no {select_by}" if math.isnan(score) else f"the best by {select_by}, {score:.4f}"
    return f"fit: kept the weights of epoch {best} of {len(history)}: {why}."


def _summary(record: Record, epochs: int) -> str:
    valid = record["valid"]
    return (
        f"epoch {record['epoch']}/{epochs}: train loss {record['train_loss']:.4f}, valid loss {valid['loss']:.4f}, "
        f"{in_words(valid)}, "
        f"{record['images_per_second']:.0f} images/s"
    )
