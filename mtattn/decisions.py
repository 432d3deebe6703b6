"""From logits to yes or no: a temperature for each group and a threshold for each attribute, chosen on validation."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from mtattn.groups import AttributeGroups, check_known

GOALS = ("f1", "balanced_accuracy")
SUREST = 30.0  # a logit; the sigmoid of larger ones is 1, which has no logit
FEWEST = 20  # positives, and negatives, that a threshold is chosen on; below, chance decides


@dataclass(frozen=True)
class Decisions:
    """How a model answers its binary attributes.

    Args:
        goal: What the thresholds were chosen for.
        temperatures: What each group's logits are divided by, so that probabilities mean what they say; 1 if absent.
        thresholds: The probability, after the temperature, above which each attribute is there; 1/2 if absent.
        kept: Why an attribute has no threshold of its own.
    """

    goal: str
    temperatures: Mapping[str, float] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)

    def calibrated(
        self, groups: AttributeGroups, logits: Float[Tensor, "batch column"]
    ) -> Float[Tensor, "batch column"]:
        """Divide the logits of binary attributes by their group's temperature."""
        scale = torch.ones(logits.shape[-1], dtype=logits.dtype, device=logits.device)
        for name, group in _binary(groups):
            scale[groups.columns_of(name)] = self.temperatures.get(group, 1.0)
        return logits / scale

    def centred(self, groups: AttributeGroups, logits: Float[Tensor, "batch column"]) -> Float[Tensor, "batch column"]:
        """Move the logits of binary attributes so that zero is their threshold, as metrics take it."""
        shift = torch.zeros(logits.shape[-1], dtype=logits.dtype, device=logits.device)
        for name, _ in _binary(groups):
            threshold = self.thresholds.get(name, 0.5)
            shift[groups.columns_of(name)] = math.log(threshold / (1 - threshold))
        return self.calibrated(groups, logits) - shift

    def to_plain(self) -> dict[str, Any]:
        """Describe it by what JSON holds, as a model's config keeps it."""
        return asdict(self)


def decisions_of(config: Mapping[str, Any]) -> Decisions | None:
    """Read the decisions that a model's config keeps, or None."""
    return Decisions(**config["decisions"]) if config.get("decisions") else None


def choose_decisions(
    groups: AttributeGroups,
    logits: Float[Tensor, "batch column"],
    targets: Float[Tensor, "batch attribute"],
    *,
    goal: str = "f1",
) -> Decisions:
    """Choose temperatures and thresholds on validation data, never on those of the test.

    The temperature of a group makes its cross-entropy least; it changes no order and no answer by itself. The threshold
    of an attribute makes its F1, or its balanced accuracy, greatest; one with fewer than 20 positives or negatives
    keeps one half, because there chance would choose.

    Args:
        groups: The attributes.
        logits: What the model says of the validation images.
        targets: What is true, NaN where an attribute is unlabelled.
        goal: "f1" or "balanced_accuracy".

    Raises:
        ValueError: There is no such goal, or a logit is NaN.

    Example:
        >>> groups = AttributeGroups({"head": ["Hat"]})
        >>> logits = torch.linspace(-4, 0, 100)[:, None]  # the right order, but no logit above zero
        >>> decisions = choose_decisions(groups, logits, (logits > -1).float())
        >>> (decisions.centred(groups, logits) > 0).equal(logits > -1)
        True

    Source:
        Temperatures: Guo, Pleiss, Sun and Weinberger 2017 (arXiv 1706.04599).
    """
    check_known("choose_decisions", "goal", [goal], GOALS)
    logits, targets = logits.detach().double().cpu(), targets.double().cpu()
    spoilt = [name for name, _ in _binary(groups) if logits[:, groups.columns_of(name)].isnan().any()]
    if spoilt:
        raise ValueError(f"choose_decisions: logits are numbers, got NaN for {spoilt[0]!r}; nothing can be chosen.")
    temperatures, thresholds, kept = {}, {}, {}
    for group in groups:
        members = [name for name, of in _binary(groups) if of == group]
        if members:
            said = logits[:, [groups.columns_of(name).start for name in members]]
            temperatures[group] = _temperature(said, targets[:, [groups.attributes.index(name) for name in members]])
    for name, group in _binary(groups):
        true = targets[:, groups.attributes.index(name)]
        said, true = logits[~true.isnan(), groups.columns_of(name).start], true[~true.isnan()] >= 0.5
        fewest = min(int(true.sum()), int((~true).sum()))
        if fewest < FEWEST:
            kept[name] = f"too few to choose on ({fewest}): 0.5 kept"
        else:
            at = _threshold(said, true, goal) / temperatures[group]
            thresholds[name] = float(at.clamp(-SUREST, SUREST).sigmoid())
    return Decisions(goal, temperatures, thresholds, kept)


def _binary(groups: AttributeGroups) -> list[tuple[str, str]]:
    """List the binary attributes, each with its group."""
    names = [(name, group) for group, members in groups.items() for name in members]
    return [pair for pair, kind in zip(names, groups.kinds, strict=True) if isinstance(kind, str)]


def _temperature(logits: Float[Tensor, "batch attribute"], targets: Float[Tensor, "batch attribute"]) -> float:
    """Find the temperature in [1/8, 8] where the cross-entropy is least; it has one valley."""
    known = ~targets.isnan()
    said, true = logits[known], targets[known]
    if not len(true):
        return 1.0
    low, high, golden = -math.log(8), math.log(8), (math.sqrt(5) - 1) / 2

    def loss(logarithm: float) -> float:
        return float(binary_cross_entropy_with_logits(said / math.exp(logarithm), true))

    for _ in range(40):
        first, second = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, second) if loss(first) <= loss(second) else (first, high)
    return math.exp((low + high) / 2)


def _threshold(logits: Float[Tensor, " image"], true: Bool[Tensor, " image"], goal: str) -> Tensor:
    """Find the logit, between two that occur, above which saying yes scores best; of equals the nearest to zero."""
    order = logits.sort().values
    values = torch.unique_consecutive(order)
    between = (values[1:] + values[:-1]) / 2 if len(values) > 1 else values.new_zeros(1)
    rises = logits[true].sort().values
    num_true, num_false = len(rises), len(order) - len(rises)
    found = num_true - torch.searchsorted(rises, between, right=True).double()
    said = len(order) - torch.searchsorted(order, between, right=True).double()
    rightly_not = num_false - (said - found)
    scores = 2 * found / (said + num_true) if goal == "f1" else (found / num_true + rightly_not / num_false) / 2
    best: Tensor = between[scores >= scores.max() - 1e-12]
    nearest: Tensor = best[best.abs().argmin()]
    return nearest
