"""VerificationMetrics: do two pictures show the same person? Measured as on LFW."""

from collections.abc import Sequence
from math import sqrt
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mtattn._extras import needed_by

with needed_by("mtattn.verification", extra="recipes"):
    from torchmetrics import Metric
    from torchmetrics.functional.classification import binary_eer, binary_roc
    from torchmetrics.utilities import dim_zero_cat


class VerificationMetrics(Metric):
    """The LFW protocol: for each fold a threshold is chosen on the other folds, and accuracy measured on it.

    Two pictures are taken for the same person where their similarity is at least the threshold. The threshold is the
    one with the highest accuracy on the other folds, halfway between two neighbouring similarities there; of several
    the lowest. Beside it the equal error rate, and at stated rates of false accepts the rate of true accepts, both over
    all pairs at once.

    Args:
        false_accept_rates: At which to measure the rate of true accepts, in (0, 1).

    Raises:
        ValueError: A rate lies outside (0, 1); in ``compute``, there are fewer than two folds, all pairs of the others
            are alike, or a similarity is NaN.

    Example:
        >>> metrics = VerificationMetrics(false_accept_rates=[0.5])
        >>> similarity = torch.tensor([0.9, 0.2, 0.8, 0.1])
        >>> metrics.update(similarity, torch.tensor([True, False, True, False]), torch.tensor([0, 0, 1, 1]))
        >>> scores = metrics.compute()
        >>> scores["accuracy"], scores["standard_error"], scores["pairs"]
        (1.0, 0.0, 4)

    Source:
        Huang and others, Labeled Faces in the Wild, 2007: the restricted setting, ten folds.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    similarity: list[Tensor]
    same: list[Tensor]
    fold: list[Tensor]

    def __init__(self, false_accept_rates: Sequence[float] = (1e-2, 1e-3)) -> None:
        super().__init__()
        wrong = [rate for rate in false_accept_rates if not 0 < rate < 1]
        if wrong:
            raise ValueError(f"VerificationMetrics: a rate of false accepts lies in (0, 1), got {wrong[0]}.")
        self.false_accept_rates = tuple(false_accept_rates)
        for state in ("similarity", "same", "fold"):
            self.add_state(state, [], dist_reduce_fx="cat")

    def update(
        self, similarity: Float[Tensor, " pair"], same: Bool[Tensor, " pair"], fold: Int[Tensor, " pair"]
    ) -> None:
        """Remember pairs; nothing waits for the device.

        Args:
            similarity: Of the two pictures, of any scale: the cosine of their embeddings, for instance.
            same: Whether both show the same person.
            fold: To which part of the protocol each pair belongs.
        """
        if not similarity.shape == same.shape == fold.shape or similarity.ndim != 1:
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in (similarity, same, fold))
            raise ValueError(f"VerificationMetrics: similarity, same and fold have one number a pair, got {shapes}.")
        self.similarity.append(similarity.detach().to(torch.float64, copy=True))  # the caller may reuse its tensors
        self.same.append(same.clone())
        self.fold.append(fold.clone())

    def compute(self) -> dict[str, Any]:
        """Measure all pairs so far.

        Returns:
            "accuracy" (mean over folds), "standard_error" of it, "thresholds" (one a fold), "eer", "tar" (a dict from
            each rate of false accepts) and "pairs", how many there were.
        """
        similarity, same, fold = map(dim_zero_cat, (self.similarity, self.same, self.fold))
        if similarity.isnan().any():
            count = int(similarity.isnan().sum())
            raise ValueError(
                f"VerificationMetrics: similarities are numbers, got NaN for {count} of {len(same)} pairs."
            )
        folds = torch.unique(fold).tolist()
        if len(folds) < 2:
            raise ValueError(
                f"VerificationMetrics: the threshold comes from the other folds: give two or more, got {len(folds)}."
            )
        accuracies, thresholds = [], []
        for number in folds:
            here = fold == number
            threshold = _best_threshold(similarity[~here], same[~here])
            accuracies.append(((similarity[here] >= threshold) == same[here]).double().mean())
            thresholds.append(float(threshold))
        of_folds = torch.stack(accuracies)
        ranks = torch.unique(similarity, return_inverse=True)[1].double()
        ranks = ranks / ranks.max().clamp_min(1)  # torchmetrics sends what lies outside [0, 1] through a sigmoid
        false_accepts, true_accepts, _ = binary_roc(ranks, same.int())
        return {
            "accuracy": float(of_folds.mean()),
            "standard_error": float(of_folds.std() / sqrt(len(folds))),
            "thresholds": thresholds,
            "eer": float(binary_eer(ranks, same.int())),
            "tar": {rate: float(true_accepts[false_accepts <= rate].max()) for rate in self.false_accept_rates},
            "pairs": len(same),
        }


def _best_threshold(similarity: Float[Tensor, " pair"], same: Bool[Tensor, " pair"]) -> Float[Tensor, ""]:
    if same.all() or not same.any():
        raise ValueError("VerificationMetrics: the other folds hold pairs of both kinds, got one kind only.")
    values, place = torch.unique(similarity, return_inverse=True)
    counts = torch.zeros(2, len(values), dtype=torch.long, device=values.device)
    counts.view(-1).index_add_(0, place + len(values) * same.long(), torch.ones_like(place))
    below = torch.nn.functional.pad(counts.cumsum(1), (1, 0))  # pairs below each threshold, different and same
    right = below[0] + below[1, -1] - below[1]
    edges = torch.cat([values[:1] - 1, (values[1:] + values[:-1]) / 2, values[-1:] + 1])
    return edges[right.argmax()]
