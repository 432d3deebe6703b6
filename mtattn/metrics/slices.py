"""Scores of parts of the images, such as by gender, with how many images each has and the largest gap."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mtattn.metrics.attribute import AttributeMetrics
from mtattn.metrics.decided import rescored

MOST_VALUES = 12
FEWEST_IMAGES = 20  # of a value; the scores of fewer are told, but make no gap
UNKNOWN = "(empty)"


def check_slices(owner: str, columns: Mapping[str, Sequence[str]]) -> None:
    """Refuse columns that are no slices.

    Raises:
        ValueError: A column has one value only, or too many.
    """
    counts = {column: len(set(values)) for column, values in columns.items()}
    if wrong := [f"{count} in {column!r}" for column, count in counts.items() if not 2 <= count <= MOST_VALUES]:
        raise ValueError(
            f"{owner}: slices are columns with 2 to {MOST_VALUES} different values, got {', '.join(wrong)}; "
            f"make a column of a few classes, or leave it out."
        )


def slice_scores(metrics: AttributeMetrics, columns: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Score what the metrics have seen apart for each value of each column, with 95 % intervals.

    Args:
        metrics: What has seen the images.
        columns: By name, the value of each image, in the order in which they were seen; "" where it is unknown.

    Returns:
        By column: "values", by value "images", the mean scores, and their "intervals"; and "gaps", by score the largest
        difference between two values that have 20 images: "gap", and "from" and "to", the worst and the best value.

    Example:
        >>> from mtattn import AttributeGroups
        >>> metrics = AttributeMetrics(AttributeGroups({"mouth": ["Smiling"]}), train_rates=[0.5])
        >>> targets = (torch.arange(80) % 2).float()[:, None]
        >>> metrics.update(torch.where(torch.arange(80)[:, None] < 40, 2 * targets - 1, 1.0), targets)
        >>> found = slice_scores(metrics, {"age": ["young"] * 40 + ["old"] * 40})
        >>> found["age"]["gaps"]["mean_accuracy"]
        {'gap': 0.5, 'from': 'old', 'to': 'young'}
    """
    outputs, targets = metrics.seen()
    found = {}
    for column, values in columns.items():
        rows: dict[str, Any] = {}
        for value in sorted(set(values)):
            chosen = torch.tensor([each == value for each in values])
            part = rescored(metrics, outputs[chosen], targets[chosen])
            scores = part.compute()
            ends = part.intervals(num_resamples=400)
            kept = {name: scores[name] for name in part.mean_scores}
            rows[value or UNKNOWN] = {"images": int(chosen.sum()), **kept, "intervals": {n: ends[n] for n in kept}}
        found[column] = {"values": rows, "gaps": {score: _gap(rows, score) for score in metrics.mean_scores}}
    return found


def _gap(rows: Mapping[str, Mapping[str, Any]], score: str) -> dict[str, Any] | None:
    known = {
        value: row[score]
        for value, row in rows.items()
        if value != UNKNOWN and row["images"] >= FEWEST_IMAGES and not math.isnan(row[score])
    }
    if len(known) < 2:
        return None
    worst, best = min(known, key=lambda value: known[value]), max(known, key=lambda value: known[value])
    return {"gap": known[best] - known[worst], "from": worst, "to": best}
