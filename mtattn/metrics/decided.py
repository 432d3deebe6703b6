"""Scores of what a model answers with temperatures and thresholds, in place of yes above one half."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mtattn._baselines import Baselines
from mtattn.decisions import Decisions
from mtattn.groups import AttributeGroups
from mtattn.metrics.attribute import AttributeMetrics


def decided_metrics(
    groups: AttributeGroups,
    baselines: Baselines,
    outputs: Float[Tensor, "batch column"],
    targets: Float[Tensor, "batch attribute"],
    decisions: Decisions,
) -> AttributeMetrics:
    """Make the metrics of the images with thresholds in place of one half; uncertain answers count nowhere."""
    metrics = AttributeMetrics(groups, baselines)
    answered = targets.where(decisions.answered(groups, outputs), torch.nan)
    metrics.update(decisions.centred(groups, outputs), answered)
    return metrics


def decided_scores(
    groups: AttributeGroups,
    baselines: Baselines,
    outputs: Float[Tensor, "batch column"],
    targets: Float[Tensor, "batch attribute"],
    decisions: Decisions,
) -> dict[str, Any]:
    """Score answers as :meth:`AttributeMetrics.compute` does, with precision and recall of the binary attributes.

    ``answered`` is the share of their labels that have an answer, which is not uncertain.

    Example:
        >>> groups, targets = AttributeGroups({"head": ["Hat"]}), torch.tensor([[1.0], [0.0], [0.0]])
        >>> logits, baselines = torch.tensor([[-1.0], [-2.0], [-3.0]]), Baselines(groups, targets)
        >>> chosen = Decisions("f1", thresholds={"Hat": 0.1})
        >>> scores = decided_scores(groups, baselines, logits, targets, chosen)
        >>> scores["mean_precision"], scores["mean_recall"], scores["answered"]
        (0.5, 1.0, 1.0)
    """
    metrics = decided_metrics(groups, baselines, outputs, targets, decisions)
    scores = metrics.compute()
    pairs = metrics.predictions()
    names = [kind for kind in groups.kinds if isinstance(kind, str)]
    for name in names:
        said, truth = (side > 0 for side in pairs[name])
        both = (said & truth).sum().double()
        scores["attributes"][name] |= {"precision": float(both / said.sum()), "recall": float(both / truth.sum())}
    for score in ("precision", "recall"):
        scores[f"mean_{score}"] = torch.tensor([scores["attributes"][name][score] for name in names]).nanmean().item()
    labelled = ~targets[:, [groups.attributes.index(name) for name in names]].isnan()
    answered = sum(len(pairs[name][0]) for name in names)
    return scores | {"answered": answered / max(int(labelled.sum()), 1)}
