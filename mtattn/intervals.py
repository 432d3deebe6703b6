"""How far mean scores would move with other test images: the percentile bootstrap."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mtattn._scores import average_precision, binary_scores


def bootstrap_intervals(
    logits: Float[Tensor, "batch attribute"],
    targets: Float[Tensor, "batch attribute"],
    majority: Bool[Tensor, " attribute"],
    *,
    level: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Draw the images again and again, with replacement, and tell between which values the mean scores lie.

    Args:
        logits: The predictions.
        targets: The truth, positive from 0.5; NaN where an attribute is unlabelled.
        majority: What the baseline answers for each attribute.
        level: The share of the resamples that lie inside, in (0, 1).
        num_resamples: How often to draw.
        seed: Which draws.

    Returns:
        The lower and the upper end for each of "mean_accuracy", "mean_balanced_accuracy", "mean_f1",
        "mean_average_precision", "majority_accuracy", and "gain": accuracy minus
        that of the baseline, image by image, over the attributes that have both.

    Raises:
        ValueError: There are no images, or an option is out of range.

    Example:
        >>> targets = (torch.arange(200) % 2).float()[:, None]
        >>> logits = torch.where(torch.arange(200)[:, None] < 20, -1, 1) * (targets - 0.5)  # 90 % are right
        >>> low, high = bootstrap_intervals(logits, targets, torch.tensor([False]))["mean_accuracy"]
        >>> 0.84 < low < 0.88, 0.92 < high < 0.96
        (True, True)
    """
    return resampled(
        lambda times: _mean_scores(times, logits, targets, majority),
        len(logits),
        level=level,
        num_resamples=num_resamples,
        seed=seed,
    )


def resampled(
    score: Callable[[Float[Tensor, "resample batch"]], Mapping[str, Float[Tensor, " resample"]]],
    num_images: int,
    *,
    level: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Tell between which values scores lie when images are drawn again and again; see :func:`bootstrap_intervals`.

    Args:
        score: From how often each image was drawn to the scores of each resample.
        num_images: How many images there are.
        level: The share of the resamples that lie inside, in (0, 1).
        num_resamples: How often to draw.
        seed: Which draws.

    Raises:
        ValueError: There are no images, or an option is out of range.

    Example:
        >>> values = torch.arange(100.0)
        >>> low, high = resampled(lambda times: {"mean": times @ values / 100}, 100)["mean"]
        >>> 43 < low < 45, 54 < high < 56  # the mean is 49.5, its standard error 2.9
        (True, True)
    """
    if not num_images or num_resamples < 1 or not 0 < level < 1:
        raise ValueError(
            f"bootstrap_intervals: needs images, a resample and a level in (0, 1), got {num_images} images, "
            f"num_resamples={num_resamples} and level={level}."
        )
    generator = torch.Generator().manual_seed(seed)
    parts = [
        score(torch.stack([_times_drawn(num_images, generator) for _ in range(start, min(start + 50, num_resamples))]))
        for start in range(0, num_resamples, 50)  # 50 at once: to save memory
    ]
    return {name: _ends(torch.cat([part[name] for part in parts]), level) for name in parts[0]}


def _ends(scores: Float[Tensor, " resample"], level: float) -> tuple[float, float]:
    low, high = scores.nanquantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=scores.dtype)).tolist()
    return low, high


def _times_drawn(num_images: int, generator: torch.Generator) -> Float[Tensor, " batch"]:
    return torch.randint(num_images, (num_images,), generator=generator).bincount(minlength=num_images).float()


def _mean_scores(
    times: Float[Tensor, "resample batch"],
    logits: Float[Tensor, "batch attribute"],
    targets: Float[Tensor, "batch attribute"],
    majority: Bool[Tensor, " attribute"],
) -> dict[str, Float[Tensor, " resample"]]:
    """Score resamples, in which each image stands as often as it was drawn."""
    scores = binary_scores(times, logits, targets, majority)
    columns = zip(logits.unbind(1), targets.unbind(1), strict=True)
    precisions = torch.stack([average_precision(times, *column) for column in columns], 1)
    return {
        "mean_accuracy": scores["accuracy"].nanmean(1),
        "mean_balanced_accuracy": scores["balanced_accuracy"].nanmean(1),
        "mean_f1": scores["f1"].nanmean(1),
        "mean_average_precision": precisions.nanmean(1),
        "majority_accuracy": scores["majority_accuracy"].nanmean(1),
        "gain": (scores["accuracy"] - scores["majority_accuracy"]).nanmean(1),
    }
