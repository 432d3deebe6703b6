"""How far mean scores would move with other test images: the percentile bootstrap."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


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
        "mean_average_precision", "majority_accuracy", and "gain": accuracy minus that of the baseline, image by image.

    Raises:
        ValueError: There are no images, or an option is out of range.

    Example:
        >>> targets = (torch.arange(200) % 2).float()[:, None]
        >>> logits = torch.where(torch.arange(200)[:, None] < 20, -1, 1) * (targets - 0.5)  # 90 % are right
        >>> low, high = bootstrap_intervals(logits, targets, torch.tensor([False]))["mean_accuracy"]
        >>> 0.84 < low < 0.88, 0.92 < high < 0.96
        (True, True)
    """
    if not len(logits) or num_resamples < 1 or not 0 < level < 1:
        raise ValueError(
            f"bootstrap_intervals: needs images, a resample and a level in (0, 1), got {len(logits)} images, "
            f"num_resamples={num_resamples} and level={level}."
        )
    generator = torch.Generator().manual_seed(seed)
    draws = [torch.randint(len(logits), (len(logits),), generator=generator) for _ in range(num_resamples)]
    parts = [torch.stack(draws[start : start + 50]) for start in range(0, num_resamples, 50)]  # 50: to save memory
    means = [_mean_scores(_times_drawn(part), logits, targets, majority) for part in parts]
    return {score: _ends(torch.cat([part[score] for part in means]), level) for score in means[0]}


def _ends(scores: Float[Tensor, " resample"], level: float) -> tuple[float, float]:
    low, high = scores.nanquantile(torch.tensor([(1 - level) / 2, (1 + level) / 2])).tolist()
    return low, high


def _times_drawn(draws: Tensor) -> Float[Tensor, "resample batch"]:
    return torch.zeros(draws.shape).scatter_add_(1, draws, torch.ones(draws.shape))


def _mean_scores(
    times: Float[Tensor, "resample batch"],
    logits: Float[Tensor, "batch attribute"],
    targets: Float[Tensor, "batch attribute"],
    majority: Bool[Tensor, " attribute"],
) -> dict[str, Float[Tensor, " resample"]]:
    """Score resamples, in which each image stands as often as it was drawn."""
    positive, negative = (targets >= 0.5).float(), (targets < 0.5).float()
    right = torch.where(logits.isnan(), torch.nan, ((logits > 0) == (positive > 0)).float())
    num_positive, num_negative = times @ positive, times @ negative
    right_positive, right_negative = times @ (right * positive), times @ (right * negative)
    num_labels = num_positive + num_negative
    predicted = right_positive + num_negative - right_negative
    f1 = 2 * right_positive / (predicted + num_positive)
    accuracy = ((right_positive + right_negative) / num_labels).nanmean(1)
    baseline = (torch.where(majority, num_positive, num_negative) / num_labels).nanmean(1)
    columns = zip(logits.unbind(1), targets.unbind(1), strict=True)
    return {
        "mean_accuracy": accuracy,
        "mean_balanced_accuracy": ((right_positive / num_positive + right_negative / num_negative) / 2).nanmean(1),
        "mean_f1": torch.where(num_positive > 0, f1, torch.nan).nanmean(1),
        "mean_average_precision": torch.stack([_average_precision(times, *column) for column in columns], 1).nanmean(1),
        "majority_accuracy": baseline,
        "gain": accuracy - baseline,
    }


def _average_precision(
    times: Float[Tensor, "resample batch"], logits: Float[Tensor, " batch"], targets: Float[Tensor, " batch"]
) -> Float[Tensor, " resample"]:
    labelled = (~targets.isnan()).nonzero()[:, 0]
    if not len(labelled) or logits[labelled].isnan().any():
        return times.new_full((len(times),), torch.nan)
    order = labelled[logits[labelled].argsort(descending=True)]
    falling = -logits[order]
    last = torch.searchsorted(falling, falling, right=True) - 1  # equal logits share one threshold
    seen = times[:, order]
    hits = seen * (targets[order] >= 0.5)
    precision = (hits.cumsum(1) / seen.cumsum(1).clamp_min(1))[:, last]
    return (hits * precision).sum(1) / hits.sum(1)
