"""From logits to yes or no: a temperature for each group and a threshold for each attribute, chosen on validation."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from mtattn._rules import check_decisions
from mtattn.groups import AttributeGroups, check_known

GOALS = ("f1", "balanced_accuracy")
STATED = {"precision": (0.5, 1.0), "cost": (0.0, math.inf)}  # goals with a value, which lies between these
SUREST = 30.0  # a logit; the sigmoid of larger ones is 1, which has no logit
FEWEST = 20  # positives, and negatives, that a threshold is chosen on; below, chance decides


@dataclass(frozen=True)
class Decisions:
    """How a model answers its binary attributes.

    Args:
        goal: What the thresholds were chosen for, as :func:`choose_decisions` takes it.
        temperatures: What each group's logits are divided by, so that probabilities mean what they say; 1 if absent.
        thresholds: The probability, after the temperature, above which each attribute is there; 1/2 if absent.
        kept: Why an attribute has no threshold of its own.
        absent: The probability, at most the threshold, up to which each attribute is not there; between the two the
            answer is uncertain. The threshold if absent here.
    """

    goal: str
    temperatures: Mapping[str, float] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, float] = field(default_factory=dict)

    def answer(self, name: str, probability: float) -> bool | None:
        """Say whether a binary attribute is there, from its calibrated probability; None where that is uncertain."""
        threshold = self.thresholds.get(name, 0.5)
        return True if probability > threshold else None if probability > self.absent.get(name, threshold) else False

    def calibrated(
        self, groups: AttributeGroups, logits: Float[Tensor, "batch column"]
    ) -> Float[Tensor, "batch column"]:
        """Divide the logits of binary attributes by their group's temperature."""
        scale = [1.0] * len(groups.columns.attributes)
        for name, group in _binary(groups):
            scale[groups.columns_of(name).start] = self.temperatures.get(group, 1.0)
        return logits / logits.new_tensor(scale)

    def centred(self, groups: AttributeGroups, logits: Float[Tensor, "batch column"]) -> Float[Tensor, "batch column"]:
        """Move the logits of binary attributes so that zero is their threshold, as metrics take it."""
        shift = [0.0] * len(groups.columns.attributes)
        for name, _ in _binary(groups):
            threshold = self.thresholds.get(name, 0.5)
            shift[groups.columns_of(name).start] = math.log(threshold / (1 - threshold))
        return self.calibrated(groups, logits) - logits.new_tensor(shift)

    def answered(
        self, groups: AttributeGroups, logits: Float[Tensor, "batch column"]
    ) -> Bool[Tensor, "batch attribute"]:
        """Tell which attributes have an answer: all but the uncertain ones."""
        has_answer = torch.ones(len(logits), len(groups.attributes), dtype=torch.bool, device=logits.device)
        said = self.calibrated(groups, logits).sigmoid()
        for name, absent in self.absent.items():
            shares = said[:, groups.columns_of(name).start]
            has_answer[:, groups.attributes.index(name)] = (shares > self.thresholds[name]) | (shares <= absent)
        return has_answer

    def to_plain(self) -> dict[str, Any]:
        """Describe it by what JSON holds, as a model's config keeps it."""
        return asdict(self)


def decisions_of(config: Mapping[str, Any]) -> Decisions | None:
    """Read the decisions that a model's config keeps, or None.

    Raises:
        ValueError: They are no decisions.
    """
    kept = config.get("decisions")
    if kept is None:
        return None
    check_decisions("decisions_of", kept)
    return Decisions(**kept)


def check_goal(owner: str, goal: str) -> tuple[str, float]:
    """Split a goal into its name and the value that it states, 0 if none.

    Raises:
        ValueError: There is no such goal, or its value cannot be.

    Example:
        >>> check_goal("me", "f1"), check_goal("me", "precision=0.9")
        (('f1', 0.0), ('precision', 0.9))
    """
    name, sign, value = goal.partition("=")
    if not sign:
        check_known(owner, "goal", [goal], (*GOALS, *(f"{stated}=VALUE" for stated in STATED)))
        return name, 0.0
    check_known(owner, "goal with a value", [name], tuple(STATED))
    low, high = STATED[name]
    try:
        stated = float(value)
    except ValueError:
        stated = math.nan
    if not low < stated < high:
        rule = f"between {low:g} and {high:g}" if high < math.inf else f"above {low:g}"
        raise ValueError(f"{owner}: {name} is a number {rule}, got {value!r}; give {name}=0.9.")
    return name, stated


def choose_decisions(
    groups: AttributeGroups,
    logits: Float[Tensor, "batch column"],
    targets: Float[Tensor, "batch attribute"],
    *,
    goal: str = "f1",
    uncertain: bool = False,
) -> Decisions:
    """Choose temperatures and thresholds on validation data, never on those of the test.

    The temperature of a group makes its cross-entropy least; it changes no order and no answer by itself. The threshold
    of an attribute is the best for the goal there; one with fewer than 20 positives or negatives keeps one half,
    because there chance would choose. So does one that does not reach the stated precision in 20 answers.

    Args:
        groups: The attributes.
        logits: What the model says of the validation images.
        targets: What is true, NaN where an attribute is unlabelled.
        goal: "f1"; "balanced_accuracy"; "precision=0.9": as many as can be found while 90 % of those said to be there
            are; "cost=5": least cost, where to miss one costs as much as 5 false alarms.
        uncertain: With a stated precision: say no only where as large a share of the noes
            is right, and nothing between.

    Raises:
        ValueError: There is no such goal, a logit is NaN, or ``uncertain`` has no stated precision.

    Example:
        >>> groups = AttributeGroups({"head": ["Hat"]})
        >>> logits = torch.linspace(-4, 0, 100)[:, None]  # the right order, but no logit above zero
        >>> decisions = choose_decisions(groups, logits, (logits > -1).float())
        >>> (decisions.centred(groups, logits) > 0).equal(logits > -1)
        True

    Source:
        Temperatures: Guo, Pleiss, Sun and Weinberger 2017 (arXiv 1706.04599).
    """
    aim, stated = check_goal("choose_decisions", goal)
    if uncertain and aim != "precision":
        raise ValueError(f"choose_decisions: uncertain needs a stated precision, got {goal!r}; give precision=0.9.")
    logits, targets = logits.detach().double().cpu(), targets.double().cpu()
    spoilt = [name for name, _ in _binary(groups) if logits[:, groups.columns_of(name)].isnan().any()]
    if spoilt:
        raise ValueError(f"choose_decisions: logits are numbers, got NaN for {spoilt[0]!r}; nothing can be chosen.")
    temperatures: dict[str, float] = {}
    for group in groups:
        members = [name for name, of in _binary(groups) if of == group]
        if members:
            said = logits[:, [groups.columns_of(name).start for name in members]]
            temperatures[group] = _temperature(said, targets[:, [groups.attributes.index(name) for name in members]])
    thresholds: dict[str, float] = {}
    kept: dict[str, str] = {}
    absent: dict[str, float] = {}
    for name, group in _binary(groups):
        true = targets[:, groups.attributes.index(name)]
        said, true = logits[~true.isnan(), groups.columns_of(name).start], true[~true.isnan()] >= 0.5
        fewest = min(int(true.sum()), int((~true).sum()))
        found = [_threshold(said, true, aim, stated)] if fewest >= FEWEST else []
        if found and uncertain:
            found.append(_threshold(-said, ~true, aim, stated))  # of no: the same question, the other way round
        ends = [_probability(at / temperatures[group]) for at in found if at is not None]
        if not found:
            kept[name] = f"too few to choose on ({fewest}): 0.5 kept"
        elif len(ends) < len(found):
            kept[name] = f"no threshold reaches {goal}: 0.5 kept"
        else:
            thresholds[name] = ends[0]
            if uncertain:
                absent[name] = min(ends[0], 1 - ends[1])
    return Decisions(goal, temperatures, thresholds, kept, absent)


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


def _probability(logit: Tensor) -> float:
    return float(logit.clamp(-SUREST, SUREST).sigmoid())


def _threshold(logits: Float[Tensor, " image"], true: Bool[Tensor, " image"], aim: str, stated: float) -> Tensor | None:
    """Find the logit, between two that occur or outside them, above which saying yes is best for the goal.

    Of equals it is the nearest to zero. None: no logit reaches the stated precision.
    """
    order = logits.sort().values
    values = torch.unique_consecutive(order)
    between = torch.cat([values[:1] - 1, (values[1:] + values[:-1]) / 2, values[-1:] + 1])
    rises = logits[true].sort().values
    num_true, num_false = len(rises), len(order) - len(rises)
    found = num_true - torch.searchsorted(rises, between, right=True).double()
    said = len(order) - torch.searchsorted(order, between, right=True).double()
    if aim == "precision":
        reached = between[(said >= FEWEST) & (found >= stated * said)]
        return reached.min() if len(reached) else None
    scores = {
        "f1": 2 * found / (said + num_true),
        "balanced_accuracy": (found / num_true + 1 - (said - found) / num_false) / 2,
        "cost": -(stated * (num_true - found) + said - found),
    }[aim]
    best: Tensor = between[scores >= scores.max() - 1e-12]
    nearest: Tensor = best[best.abs().argmin()]
    return nearest
