"""One run of the study: a row, a seed, a learning rate and a weight decay; the same steps for all."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from features import Features
from grouping import default_groups, grouping
from heads import HEADS
from losses import LOSSES
from results import spread
from rows import BATCH, Row
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_calibration_error

from mtattn import AttributeGroups
from mtattn.metrics import AttributeMetrics, train_rates
from mtattn.training.epochs import warmup_then_cosine

PARTS_OF_EPOCH = 4  # how often the groups' losses are noted


@dataclass(frozen=True)
class Settings:
    """What the search chooses, and how long to train."""

    learning_rate: float
    weight_decay: float
    epochs: int
    trunk_factor: float = 0.5  # where the trunk is trained too


def run(
    row: Row,
    features: Features,
    seed: int,
    settings: Settings,
    *,
    split: str,
    trunk: nn.Module | None = None,
    device: str = "cpu",
    also: Callable[[nn.Module], dict[str, Any]] = lambda _: {},
) -> dict[str, Any]:
    """Train once and score on a split; where there are mirror images, also with the mean of the logits of both.

    ``also`` reads more off the trained model.
    """
    torch.manual_seed(seed)
    groups = grouping(row.grouping, features.attributes, features.labels["train"], seed)
    shape = (features.channels, features.side) if trunk is None else _shape_after(trunk, features)
    head = HEADS[row.head](shape, groups, **row.head_options)
    model = head if trunk is None else nn.Sequential(trunk, head).to(memory_format=torch.channels_last)
    model.to(device)
    targets = features.targets("train", groups.attributes).to(device)
    rates = train_rates(targets.cpu())
    balance = {"pos_weight": (1 - rates) / rates} if row.balanced else {}
    loss = LOSSES[row.loss](groups, **row.loss_options, **balance).to(device)
    losses = fit(model, loss, features, targets, settings, groups, periods=row.periods)
    scores: dict[str, Any] = score(model, features, split, groups, rates)
    if features.inputs[split].shape[1] == 2:
        scores["mirrored"] = score(model, features, split, groups, rates, views=2)
    return {
        "row": row.name,
        "seed": seed,
        **also(model),
        **asdict(settings),
        "split": split,
        **scores,
        "spread": spread(losses),
        "parameters": sum(parameter.numel() for parameter in head.parameters()),
    }


def fit(
    model: nn.Module,
    loss: Any,
    features: Features,
    targets: Tensor,
    settings: Settings,
    groups: AttributeGroups,
    *,
    periods: int,
) -> np.ndarray:
    """Train, and note each default group's mean training loss over every quarter of an epoch: (quarter, group)."""
    optimizer = torch.optim.AdamW(parameter_groups(model, loss, settings))
    steps = len(targets) // BATCH
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_then_cosine(0.1, settings.epochs * steps))
    members = _members(groups)
    ends = {round(steps * (part + 1) / PARTS_OF_EPOCH) for part in range(PARTS_OF_EPOCH)}
    closes = {round(steps * (part + 1) / periods) for part in range(periods)}
    noted, sums, count = [], torch.zeros_like(targets[0]), 0
    model.train()
    for _ in range(settings.epochs):
        order = torch.randperm(len(targets))
        views = torch.randint(features.inputs["train"].shape[1], (len(targets),))
        for step in range(1, steps + 1):
            images = order[(step - 1) * BATCH : step * BATCH]
            inputs = features.batch("train", images, views[images]).to(targets.device)
            truth = targets[images.to(targets.device)]
            logits = model(inputs)
            optimizer.zero_grad()
            loss(logits, truth).backward()
            optimizer.step()
            schedule.step()
            loss.after(lambda inputs=inputs: model(inputs), truth)
            sums += F.binary_cross_entropy_with_logits(logits.detach(), truth, reduction="none").mean(0)
            count += 1
            if step in ends:
                noted.append(members @ sums.cpu() / count)
                sums, count = torch.zeros_like(sums), 0
            if step in closes:
                loss.step()
    return torch.stack(noted).numpy()


@torch.no_grad()
def score(
    model: nn.Module, features: Features, split: str, groups: AttributeGroups, rates: Tensor, *, views: int = 1
) -> dict[str, float]:
    """Score the model on a split; the worst group is that of the default groups, whatever the row's are."""
    targets = features.targets(split, groups.attributes)
    logits = torch.stack([predict(model, features, split, view) for view in range(views)]).mean(0)
    metrics = AttributeMetrics(groups, rates)
    metrics.update(logits, targets)
    scores = metrics.compute()
    accuracies = {name: values["accuracy"] for name, values in scores["attributes"].items()}
    default = default_groups(groups.attributes)
    return {
        "loss": float(F.binary_cross_entropy_with_logits(logits, targets)),
        "accuracy": scores["mean_accuracy"],
        "balanced_accuracy": scores["mean_balanced_accuracy"],
        "average_precision": scores["mean_average_precision"],
        "majority_accuracy": scores["majority_accuracy"],
        "calibration_error": calibration_error(logits, targets),
        "worst_group": min(sum(accuracies[a] for a in own) / len(own) for own in default.values()),
    }


@torch.no_grad()
def predict(model: nn.Module, features: Features, split: str, view: int = 0) -> Tensor:
    """Compute the logits of all images of a split."""
    model.eval()
    device = next(model.parameters()).device
    parts = torch.arange(len(features.labels[split])).split(512)
    batches = (features.batch(split, part, torch.full_like(part, view)).to(device) for part in parts)
    return torch.cat([model(batch).cpu() for batch in batches])


def calibration_error(logits: Tensor, targets: Tensor) -> float:
    """Give the expected calibration error in 15 bins, in the mean over the attributes."""
    columns = zip(logits.sigmoid().T, targets.T, strict=True)
    errors = [float(binary_calibration_error(p, t.long(), n_bins=15)) for p, t in columns]
    return sum(errors) / len(errors)


def _members(groups: AttributeGroups) -> Tensor:
    """Average the row's columns over the default groups."""
    default = default_groups(groups.attributes)
    return torch.tensor([[(a in own) / len(own) for a in groups.attributes] for own in default.values()])


def parameter_groups(model: nn.Module, loss: nn.Module, settings: Settings) -> list[dict[str, Any]]:
    """Give the optimizer the parameters with their rates; only matrices decay."""
    whole = isinstance(model, nn.Sequential) and len(model) == 2
    parts = [(model[0], settings.trunk_factor), (model[1], 1.0)] if whole else [(model, 1.0)]
    return [
        {
            "params": [p for p in part.parameters() if (p.ndim > 1) == decays],
            "lr": factor * settings.learning_rate,
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for part, factor in [*parts, (loss, 1.0)]
        for decays in (True, False)
    ]


@torch.no_grad()
def _shape_after(trunk: nn.Module, features: Features) -> tuple[int, int]:
    shape = trunk.eval()(features.batch("valid", torch.arange(1))).shape
    return int(shape[1]), int(shape[2])
