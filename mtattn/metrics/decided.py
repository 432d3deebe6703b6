"""Scores of what a model answers with temperatures and thresholds, in place of yes above one half."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mtattn.decisions import Decisions
from mtattn.metrics.attribute import AttributeMetrics


def rescored(
    metrics: AttributeMetrics, outputs: Float[Tensor, "batch column"], targets: Float[Tensor, "batch attribute"]
) -> AttributeMetrics:
    """Make metrics like others that have seen these instead; of several processes each has all, and gathers nothing."""
    other = AttributeMetrics(metrics.groups, metrics.baselines, within=metrics.within)
    other.distributed_available_fn = _alone
    other.update(outputs, targets)
    return other


def decided_metrics(metrics: AttributeMetrics, decisions: Decisions) -> AttributeMetrics:
    """Make metrics of what others have seen with thresholds in place of one half; uncertain answers count nowhere."""
    outputs, targets = metrics.seen()
    answered = targets.where(decisions.answered(metrics.groups, outputs), torch.nan)
    return rescored(metrics, decisions.centred(metrics.groups, outputs), answered)


def decided_scores(decided: AttributeMetrics, targets: Float[Tensor, "batch attribute"]) -> dict[str, Any]:
    """Score answers as :meth:`AttributeMetrics.compute` does, with precision and recall of the binary attributes.

    ``answered`` is the share of their labels that have an answer, which is not uncertain.

    Args:
        decided: What :func:`decided_metrics` made.
        targets: The truth, also of what has no answer.

    Example:
        >>> from mtattn import AttributeGroups
        >>> from mtattn.metrics import Baselines
        >>> groups, targets = AttributeGroups({"head": ["Hat"]}), torch.tensor([[1.0], [0.0], [0.0]])
        >>> metrics = AttributeMetrics(groups, Baselines(groups, targets))
        >>> metrics.update(torch.tensor([[-1.0], [-2.0], [-3.0]]), targets)
        >>> scores = decided_scores(decided_metrics(metrics, Decisions("f1", thresholds={"Hat": 0.1})), targets)
        >>> scores["mean_precision"], scores["mean_recall"], scores["answered"]
        (0.5, 1.0, 1.0)
    """
    groups, scores = decided.groups, decided.compute()
    pairs = decided.predictions()
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


def _alone() -> bool:
    return False
