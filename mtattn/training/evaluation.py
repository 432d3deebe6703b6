"""evaluate: measure a model on a data set, in one process or several."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mtattn._extras import needed_by
from mtattn._modes import evaluating
from mtattn.functional import sums_of
from mtattn.losses import AttributeLosses
from mtattn.metrics import AttributeMetrics
from mtattn.training.columns import check_columns
from mtattn.training.distributed import new_accelerator, own_share
from mtattn.training.items import Collate

with needed_by("mtattn.training", extra="recipes"):
    from accelerate import Accelerator
    from accelerate.utils import send_to_device

Images = Dataset[tuple[Any, Tensor]]


def evaluate(
    model: nn.Module,
    data: Images,
    metrics: AttributeMetrics,
    *,
    batch_size: int = 256,
    mixed_precision: str = "no",
    workers: int = 0,
    mirror: bool = False,
) -> dict[str, Any]:
    """Measure a model on a data set; several processes share the images, and all return the same.

    Args:
        model: From images to outputs in the columns of ``metrics.groups.columns``.
        data: Images and targets.
        metrics: What to measure; forgets what it has seen before.
        batch_size: Images a step and process.
        mixed_precision: "no", "bf16" or "fp16".
        workers: Processes that read images.
        mirror: Whether to take the mean of the outputs for each image and its mirror image, in twice the time.

    Returns:
        What ``metrics.compute()`` returns, and "loss", the mean over the labels of their losses, in nats.

    Raises:
        ValueError: The columns of model, data and metrics are known to differ, or a target cannot be.
        TypeError: An item of the data is not an image with its targets.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
        >>> data = torch.utils.data.TensorDataset(torch.rand(8, 3, 2, 2), torch.ones(8, 1))
        >>> metrics = AttributeMetrics(AttributeGroups({"mouth": ["Smiling"]}), train_rates=[1.0])
        >>> evaluate(model, data, metrics)["majority_accuracy"]
        1.0
    """
    check_columns("evaluate", metrics.groups, model=model, data=data)
    accelerator = new_accelerator(mixed_precision)
    collate = Collate("evaluate", metrics.groups)
    loader = DataLoader(own_share(accelerator, data), batch_size, num_workers=workers, collate_fn=collate)
    model = WithMirrorImages(model) if mirror else model
    return measure(accelerator, model.to(accelerator.device), loader, metrics.to(accelerator.device))


class WithMirrorImages(nn.Module):
    """Another model, asked of each image and of its mirror image."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Float[Tensor, "batch color height width"]) -> Float[Tensor, "batch column"]:
        """Compute the mean of both."""
        mean: Tensor = (self.model(images).float() + self.model(images.flip(-1)).float()) / 2
        return mean


@torch.no_grad()
def measure(
    accelerator: Accelerator, model: nn.Module, own_images: DataLoader[tuple[Any, Tensor]], metrics: AttributeMetrics
) -> dict[str, Any]:
    """Measure a model on what the loaders of all processes give; each loader holds its process's own share."""
    metrics.reset()
    losses = AttributeLosses(metrics.groups, device=accelerator.device)
    names = metrics.groups.attributes
    # binary attributes have one sum, as their losses all weigh alike; others one each, to be divided in the end
    joined = torch.ones(len(names), 1) if metrics.groups.columns is metrics.groups else torch.eye(len(names))
    joined = joined.bool().to(accelerator.device)
    total = torch.zeros(3, joined.shape[1], device=accelerator.device)
    with evaluating(model):
        for batch in own_images:
            images, targets = send_to_device(batch, accelerator.device, non_blocking=True)
            with accelerator.autocast():
                logits = model(images).float()
            metrics.update(logits, targets)
            total += torch.stack([sums_of(each, joined) for each in losses.attribute_sums(logits, targets)])
    sums, terms, labels = accelerator.reduce(total)
    loss = (sums * (labels / terms.clamp_min(1))).sum() / labels.sum()
    return {"loss": loss.item(), **metrics.compute()}  # compute() joins the processes, exactly once


def in_words(scores: Mapping[str, Any]) -> str:
    """Tell the mean scores, those that there are.

    Example:
        >>> in_words({"mean_accuracy": 0.9, "majority_accuracy": 0.8, "mean_skill": 0.5})
        'skill 0.5000, accuracy 0.9000 (majority 0.8000)'
    """
    said = {
        "mean_skill": "skill {mean_skill:.4f}",
        "mean_accuracy": "accuracy {mean_accuracy:.4f} (majority {majority_accuracy:.4f})",
        "mean_balanced_accuracy": "balanced {mean_balanced_accuracy:.4f}",
        "mean_average_precision": "average precision {mean_average_precision:.4f}",
    }
    return ", ".join(text.format(**scores) for score, text in said.items() if score in scores)
