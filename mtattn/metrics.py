"""AttributeMetrics: how good the predictions are, attribute by attribute, beside the majority-class baseline."""

from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from mtattn._extras import needed_by
from mtattn.groups import AttributeGroups, check_groups
from mtattn.intervals import bootstrap_intervals

with needed_by("mtattn.metrics", extra="recipes"):
    from torchmetrics import Metric
    from torchmetrics.functional.classification import binary_average_precision
    from torchmetrics.utilities import dim_zero_cat


def train_rates(targets: Float[Tensor, "batch attribute"]) -> Float[Tensor, " attribute"]:
    """Measure the share of positives of each attribute among its labels.

    Args:
        targets: Targets in [0, 1], positive from 0.5; NaN where an attribute is unlabelled.

    Returns:
        The rates in [0, 1], NaN for an attribute without labels.

    Example:
        >>> train_rates(torch.tensor([[1.0, 0.0], [1.0, float("nan")], [0.0, float("nan")], [1.0, 0.0]]))
        tensor([0.7500, 0.0000])
    """
    return (targets >= 0.5).sum(0) / (~targets.isnan()).sum(0)


class AttributeMetrics(Metric):
    r"""Accuracy, balanced accuracy, F1 and average precision of each attribute, each group, and in the mean.

    An attribute is predicted when its logit is above zero. With :math:`P` positives and :math:`N` negatives among the
    labels, of which :math:`p` and :math:`n` are predicted rightly:

    .. math::
        \text{accuracy} &= \frac{p + n}{P + N} \\
        \text{balanced accuracy} &= \frac{1}{2}\left(\frac{p}{P} + \frac{n}{N}\right) \\
        \text{F1} &= \frac{2 p}{p + P + (N - n)}

    Average precision is exact, without bins, and equal logits share one threshold. The majority baseline predicts an
    attribute for every image if more than half of its training labels are positive, else for none.

    What the labels leave undefined is NaN: all five numbers of an attribute without labels, F1 and average precision
    without positives, balanced accuracy with one class only. Means skip NaN. A NaN logit makes its attribute's scores
    NaN, except the baseline's.

    Args:
        groups: The attributes in the order of the columns.
        train_rates: The share of positives of each attribute in the training split, in [0, 1]; see :func:`train_rates`.
            NaN, for an attribute that was never labelled, counts as zero.

    Raises:
        ValueError: There is not one rate an attribute, or a rate lies outside [0, 1].

    Example:
        >>> groups = AttributeGroups({"eyes": ["Eyeglasses"], "mouth": ["Smiling"]})
        >>> metrics = AttributeMetrics(groups, train_rates=torch.tensor([0.1, 0.6]))
        >>> metrics.update(torch.tensor([[3.0, 1.0], [-2.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        >>> scores = metrics.compute()
        >>> scores["mean_accuracy"], scores["majority_accuracy"], scores["attributes"]["Smiling"]["accuracy"]
        (0.75, 0.5, 0.5)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    logits: list[Tensor]
    targets: list[Tensor]
    majority: Tensor

    def __init__(self, groups: AttributeGroups, train_rates: Float[Tensor, " attribute"] | Sequence[float]) -> None:
        super().__init__()
        check_groups("AttributeMetrics", groups)
        num_attributes = len(groups.attributes)
        train_rates = torch.as_tensor(train_rates)
        if tuple(train_rates.shape) != (num_attributes,):
            raise ValueError(
                f"AttributeMetrics: train_rates holds one rate an attribute, "
                f"got shape {tuple(train_rates.shape)} for {num_attributes} attributes."
            )
        outside = (train_rates < 0) | (train_rates > 1)
        if outside.any():
            name, rate = groups.attributes[int(outside.nonzero()[0])], float(train_rates[outside][0])
            raise ValueError(f"AttributeMetrics: train_rates lie in [0, 1], got {rate:g} for {name!r}.")
        self.groups = groups
        self.register_buffer("majority", train_rates > 0.5, persistent=False)
        self.add_state("logits", [], dist_reduce_fx="cat")
        self.add_state("targets", [], dist_reduce_fx="cat")

    def update(self, logits: Float[Tensor, "batch attribute"], targets: Float[Tensor, "batch attribute"]) -> None:
        """Remember a batch; nothing waits for the device.

        Args:
            logits: The predictions.
            targets: The truth in [0, 1], positive from 0.5; NaN where an attribute is unlabelled, which counts nowhere.
        """
        num_attributes = len(self.groups.attributes)
        if logits.shape != targets.shape or tuple(logits.shape[1:]) != (num_attributes,):
            raise ValueError(
                f"AttributeMetrics: logits and targets have one column an attribute, got logits {tuple(logits.shape)} "
                f"and targets {tuple(targets.shape)} for {num_attributes} attributes; "
                f"ask the data set for attributes=groups.attributes."
            )
        # Flat and in torchmetrics' own dtype, because that is what it sends for a rank that has seen no data.
        dtype = torch.promote_types(logits.dtype, self.dtype)
        unlabelled = targets.isnan()
        positive = (targets >= 0.5).to(self.dtype)
        self.logits.append(logits.detach().masked_fill(unlabelled, 0).to(dtype).flatten())
        self.targets.append(positive.masked_fill(unlabelled, torch.nan).flatten())

    def compute(self) -> dict[str, Any]:
        """Score everything since the last ``reset``.

        Returns:
            Plain floats in [0, 1] or NaN. There are ``mean_accuracy``, ``mean_balanced_accuracy``, ``mean_f1``,
            ``mean_average_precision``, ``majority_accuracy``, and under ``attributes`` and ``groups``, by name,
            ``accuracy``, ``balanced_accuracy``, ``f1``, ``average_precision``, ``majority_accuracy``; a group's are
            the means over its attributes.
        """
        scores = _scores(self._seen(self.logits), self._seen(self.targets), self.majority.cpu())
        group_of = torch.tensor(self.groups.group_of)
        mean = _rows({score: values.nanmean(0, keepdim=True) for score, values in scores.items()})[0]
        majority_accuracy = mean.pop("majority_accuracy")
        group_means = {
            score: torch.stack([values[group_of == index].nanmean() for index in range(len(self.groups))])
            for score, values in scores.items()
        }
        return {
            **{f"mean_{score}": value for score, value in mean.items()},
            "majority_accuracy": majority_accuracy,
            "attributes": dict(zip(self.groups.attributes, _rows(scores), strict=True)),
            "groups": dict(zip(self.groups, _rows(group_means), strict=True)),
        }

    def intervals(self, **options: Any) -> dict[str, tuple[float, float]]:
        """Tell the 95 % intervals of the mean scores of everything since the last ``reset``, had the images differed.

        Several processes all call it, as they do ``compute``.

        Args:
            **options: Those of :func:`mtattn.intervals.bootstrap_intervals`.

        Returns:
            The lower and the upper end of each mean score, of ``majority_accuracy``, and of ``gain``, the accuracy
            minus that of the baseline.
        """
        with self.sync_context():
            logits, targets = self._seen(self.logits), self._seen(self.targets)
        return bootstrap_intervals(logits, targets, self.majority.cpu(), **options)

    def _seen(self, state: list[Tensor] | Tensor) -> Float[Tensor, "batch attribute"]:
        seen = dim_zero_cat(state).cpu() if len(state) else torch.empty(0)
        return rearrange(seen, "(batch attribute) -> batch attribute", attribute=len(self.groups.attributes))


def _rows(scores: dict[str, Float[Tensor, " _"]]) -> list[dict[str, float]]:
    return [dict(zip(scores, row, strict=True)) for row in zip(*map(Tensor.tolist, scores.values()), strict=True)]


def _scores(
    logits: Float[Tensor, "batch attribute"],
    targets: Float[Tensor, "batch attribute"],
    majority: Bool[Tensor, " attribute"],
) -> dict[str, Float[Tensor, " attribute"]]:
    positive, negative = targets >= 0.5, targets < 0.5
    right = torch.where(logits.isnan(), torch.nan, ((logits > 0) == positive).double())
    num_positive, num_negative = positive.sum(0).double(), negative.sum(0).double()
    num_labels = num_positive + num_negative
    right_positive, right_negative = (right * positive).sum(0), (right * negative).sum(0)
    predicted = right_positive + (num_negative - right_negative)
    f1 = 2 * right_positive / (predicted + num_positive)
    return {
        "accuracy": (right_positive + right_negative) / num_labels,
        "balanced_accuracy": (right_positive / num_positive + right_negative / num_negative) / 2,
        "f1": torch.where(num_positive > 0, f1, torch.nan),
        "average_precision": _average_precisions(logits, targets),
        "majority_accuracy": torch.where(majority, num_positive, num_negative) / num_labels,
    }


def _average_precisions(
    logits: Float[Tensor, "batch attribute"], targets: Float[Tensor, "batch attribute"]
) -> Float[Tensor, " attribute"]:
    columns = zip(logits.unbind(1), targets.unbind(1), strict=True)
    precisions = [_average_precision(scores, truth) for scores, truth in columns]
    return torch.tensor(precisions, dtype=torch.float64)


def _average_precision(logits: Float[Tensor, " batch"], targets: Float[Tensor, " batch"]) -> float:
    """Rank first: torchmetrics takes values outside [0, 1] for logits, and a sigmoid would tie the confident ones."""
    labelled = ~targets.isnan()
    logits, positive = logits[labelled], targets[labelled] >= 0.5
    if not positive.any() or logits.isnan().any():
        return torch.nan
    ranks = torch.unique(logits, return_inverse=True)[1].double() / len(logits)
    return float(binary_average_precision(ranks, positive.long(), validate_args=False))
