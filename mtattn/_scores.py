"""Scores of attributes of every kind, over images that count as often as they were drawn.

``times`` (resample, batch) says how often each image counts: ones score the images as they are. A score is NaN
where the labels leave it undefined, and where a prediction is NaN.
"""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mtattn._baselines import Baselines
from mtattn.functional import level_exceedance
from mtattn.groups import AttributeGroups, Categorical, Number, Ordinal

Times = Float[Tensor, "resample batch"]
Scores = dict[str, Float[Tensor, " resample"]]
SHARES = ("accuracy", "balanced_accuracy", "f1", "average_precision", "majority_accuracy", "skill")
"""Scores whose mean over attributes of several kinds says something; the others are of one kind, or have a unit."""


def attribute_scores(
    times: Times,
    outputs: Float[Tensor, "batch column"],
    targets: Float[Tensor, "batch attribute"],
    groups: AttributeGroups,
    baselines: Baselines,
    *,
    within: Mapping[str, float],
    precision: Callable[[Times, Tensor, Tensor], Tensor],
) -> dict[str, Scores]:
    """Score each attribute by the scores of its kind, by name; ``precision`` computes an average precision."""
    outputs, targets = outputs.to(times.dtype), targets.to(times.dtype)
    rows = _binary_rows(times, outputs, targets, groups, baselines, precision)
    for index, (name, kind) in enumerate(zip(groups.attributes, groups.kinds, strict=True)):
        if isinstance(kind, str):
            continue
        said, labels = predicted(kind, outputs[:, groups.columns_of(name)]), targets[:, index]
        match kind:
            case Categorical(_, classes):
                rows[name] = categorical_scores(times, said, labels, len(classes), baselines.majority[name])
            case Ordinal():
                rows[name] = ordinal_scores(times, said, labels, baselines.majority[name], baselines.median[name])
            case Number():
                rows[name] = number_scores(times, said, labels, baselines.median[name], within.get(name))
    return {name: rows[name] for name in groups.attributes}


def _binary_rows(
    times: Times,
    outputs: Float[Tensor, "batch column"],
    targets: Float[Tensor, "batch attribute"],
    groups: AttributeGroups,
    baselines: Baselines,
    precision: Callable[[Times, Tensor, Tensor], Tensor],
) -> dict[str, Scores]:
    names = [kind for kind in groups.kinds if isinstance(kind, str)]
    if not names:
        return {}
    columns = [groups.columns_of(name).start for name in names]
    logits, labels = outputs[:, columns], targets[:, [groups.attributes.index(name) for name in names]]
    majority = torch.tensor([baselines.majority[name] > 0 for name in names])
    scores = binary_scores(times, logits, labels, majority)
    precisions = [precision(times, *column) for column in zip(logits.unbind(1), labels.unbind(1), strict=True)]
    last = scores.pop("majority_accuracy")
    scores |= {"average_precision": torch.stack(precisions, 1), "majority_accuracy": last}
    if groups.columns is not groups:
        scores["skill"] = 2 * scores["balanced_accuracy"] - 1
    return {name: {score: values[:, index] for score, values in scores.items()} for index, name in enumerate(names)}


def joined(rows: dict[str, Scores], score: str) -> Float[Tensor, "resample attribute"]:
    """Put one score of all attributes side by side, NaN for those that do not have it."""
    some = next(iter(next(iter(rows.values())).values()))
    return torch.stack([row.get(score, torch.full_like(some, torch.nan)) for row in rows.values()], 1)


def shares(rows: dict[str, Scores]) -> list[str]:
    """List the scores whose mean over the attributes says something, of those that there are."""
    return [score for score in SHARES if any(score in row for row in rows.values())]


def binary_scores(
    times: Times,
    logits: Float[Tensor, "batch attribute"],
    targets: Float[Tensor, "batch attribute"],
    majority: Bool[Tensor, " attribute"],
) -> dict[str, Float[Tensor, "resample attribute"]]:
    """Score binary attributes, all but the average precision."""
    positive, negative = (targets >= 0.5).to(times.dtype), (targets < 0.5).to(times.dtype)
    right = torch.where(logits.isnan(), torch.nan, (logits > 0) == (positive > 0))
    right = right.where(~targets.isnan(), 0)
    num_positive, num_negative = times @ positive, times @ negative
    num_labels = num_positive + num_negative
    right_positive, right_negative = times @ (right * positive), times @ (right * negative)
    predicted = right_positive + (num_negative - right_negative)
    f1 = 2 * right_positive / (predicted + num_positive)
    return {
        "accuracy": (right_positive + right_negative) / num_labels,
        "balanced_accuracy": (right_positive / num_positive + right_negative / num_negative) / 2,
        "f1": torch.where(num_positive > 0, f1, torch.nan),
        "majority_accuracy": torch.where(majority, num_positive, num_negative) / num_labels,
    }


def predicted(kind: Categorical | Ordinal | Number, outputs: Float[Tensor, "batch _"]) -> Float[Tensor, " batch"]:
    """Tell the class, the level or the number that outputs stand for, NaN where an output is."""
    match kind:
        case Categorical():
            values = outputs.argmax(1).to(outputs.dtype)
        case Ordinal():
            values = (level_exceedance(outputs) > 0.5).sum(1).to(outputs.dtype)
        case Number():
            mean, std = kind.moments
            values = mean + std * outputs[:, 0]
    return values.masked_fill(outputs.isnan().any(1), torch.nan)


def categorical_scores(
    times: Times, said: Float[Tensor, " batch"], labels: Float[Tensor, " batch"], num_classes: int, majority: float
) -> Scores:
    """Score classes. A class that has no label has no recall, and one that is not even predicted no F1 either."""
    known = ~labels.isnan()
    classes = torch.arange(num_classes)
    is_label = (labels[:, None] == classes).to(times.dtype)
    is_said = (said[:, None] == classes).to(times.dtype) * known[:, None]
    hits, num_labels, num_said = times @ (is_label * is_said), times @ is_label, times @ is_said
    recall = (hits / num_labels).nanmean(1)  # NaN where a class has no label
    by_chance = 1 / (num_labels > 0).sum(1)  # what any constant answer reaches
    spoilt = _nan_where((said.isnan() & known).any())
    return {
        "accuracy": hits.sum(1) / num_labels.sum(1) + spoilt,
        "balanced_accuracy": recall + spoilt,
        "macro_f1": (2 * hits / (num_labels + num_said)).nanmean(1) + spoilt,
        "majority_accuracy": _mean(times, labels == majority, known),
        "skill": ((recall - by_chance) / (1 - by_chance)).where(by_chance < 1, torch.nan) + spoilt,
    }


def ordinal_scores(
    times: Times, said: Float[Tensor, " batch"], labels: Float[Tensor, " batch"], majority: float, median: float
) -> Scores:
    """Score levels; errors count in levels."""
    known, error, blind = ~labels.isnan(), (said - labels).abs(), (median - labels).abs()
    spoilt = _nan_where((said.isnan() & known).any())
    error_mean, blind_mean = _mean(times, error, known), _mean(times, blind, known)
    return {
        "accuracy": _mean(times, error == 0, known) + spoilt,
        "within_one": _mean(times, error <= 1, known) + spoilt,
        "mean_absolute_error": error_mean,
        "majority_accuracy": _mean(times, labels == majority, known),
        "median_error": blind_mean,
        "skill": _skill(error_mean, blind_mean),
    }


def number_scores(
    times: Times, said: Float[Tensor, " batch"], labels: Float[Tensor, " batch"], median: float, within: float | None
) -> Scores:
    """Score numbers; errors are in the number's unit."""
    known, error, blind = ~labels.isnan(), (said - labels).abs(), (median - labels).abs()
    error_mean, blind_mean = _mean(times, error, known), _mean(times, blind, known)
    centred = labels - labels.nanmean()  # only to lose no digits below
    spread = _mean(times, centred.square(), known) - _mean(times, centred, known).square()
    unexplained = _mean(times, error.square(), known) / spread
    scores = {
        "mean_absolute_error": error_mean,
        "r_squared": (1 - unexplained).where(spread > 0, torch.nan),
        "median_error": blind_mean,
        "skill": _skill(error_mean, blind_mean),
    }
    if within is not None:
        close = (error <= within).where(~error.isnan(), torch.nan)
        scores = {"mean_absolute_error": error_mean, "within": _mean(times, close, known)} | scores
    return scores


def _skill(error: Float[Tensor, " resample"], blind: Float[Tensor, " resample"]) -> Float[Tensor, " resample"]:
    return (1 - error / blind).where(blind > 0, torch.nan)


def _mean(
    times: Times, values: Float[Tensor, " batch"] | Bool[Tensor, " batch"], known: Bool[Tensor, " batch"]
) -> Float[Tensor, " resample"]:
    return times @ values.to(times.dtype).where(known, 0) / (times @ known.to(times.dtype))


def _nan_where(condition: Bool[Tensor, ""]) -> Float[Tensor, ""]:
    return torch.where(condition, torch.nan, 0.0)


def average_precision(
    times: Times, logits: Float[Tensor, " batch"], targets: Float[Tensor, " batch"]
) -> Float[Tensor, " resample"]:
    """Compute the average precision of one binary attribute; equal logits share one threshold."""
    labelled = (~targets.isnan()).nonzero()[:, 0]
    if not len(labelled) or logits[labelled].isnan().any():
        return times.new_full((len(times),), torch.nan)
    order = labelled[logits[labelled].argsort(descending=True)]
    falling = -logits[order]
    last = torch.searchsorted(falling, falling, right=True) - 1
    seen = times[:, order]
    hits = seen * (targets[order] >= 0.5)
    precision = (hits.cumsum(1) / seen.cumsum(1).clamp_min(1))[:, last]
    return (hits * precision).sum(1) / hits.sum(1)
