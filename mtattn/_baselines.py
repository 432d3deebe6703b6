"""What training labels alone would answer: the baselines that every score is compared with, by name."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mtattn.groups import (
    Attribute,
    AttributeGroups,
    Categorical,
    Number,
    Ordinal,
    check_groups,
    check_known,
    check_targets,
)


class Baselines:
    """What a model that knows nothing but the training labels would answer for each attribute, by name.

    The majority baseline answers the most frequent class or level; a binary attribute only where more than half of its
    labels are positive. The median baseline answers the middle level or number, whose mean absolute error is lowest.

    Args:
        groups: The attributes.
        train: The training part: a data set with ``attributes`` and ``targets``, whose columns are found by name, or
            targets in the order of ``groups.attributes``. NaN where a label is missing.

    Raises:
        ValueError: A target cannot be, or the data set lacks an attribute.
        TypeError: It is neither.

    Attributes:
        majority: The most frequent class or level of each attribute that has some, 0 or 1 for a binary one.
        median: The median of each ordinal attribute and number; NaN where there is no label.
        rates: The share of positives of each binary attribute, NaN where there is no label.

    Example:
        >>> groups = AttributeGroups({"face": ["Smiling", Number("age", "years")]})
        >>> baselines = Baselines(groups, torch.tensor([[1.0, 20.0], [0.0, 30.0], [0.0, 70.0]]))
        >>> baselines.majority, baselines.median
        ({'Smiling': 0.0}, {'age': 30.0})
    """

    def __init__(self, groups: AttributeGroups, train: Any) -> None:
        check_groups("Baselines", groups)
        targets = _targets_of(groups, train)
        check_targets("Baselines", groups, targets)
        self.kinds: dict[str, Attribute] = dict(zip(groups.attributes, groups.kinds, strict=True))
        self.majority: dict[str, float] = {}
        self.median: dict[str, float] = {}
        self.rates: dict[str, float] = {}
        for (name, kind), column in zip(self.kinds.items(), targets.unbind(1), strict=True):
            labels = column[~column.isnan()]
            match kind:
                case str():
                    self.rates[name] = float((labels >= 0.5).sum() / len(labels)) if len(labels) else torch.nan
                    self.majority[name] = float(self.rates[name] > 0.5)
                case Categorical():
                    self.majority[name] = _most_frequent(labels)
                case Ordinal():
                    self.majority[name], self.median[name] = _most_frequent(labels), _median(labels)
                case Number():
                    self.median[name] = _median(labels)

    @classmethod
    def from_rates(cls, groups: AttributeGroups, rates: Sequence[float]) -> "Baselines":
        """Take the share of positives of each of some binary attributes for what the labels say."""
        baselines = cls(groups, torch.empty(0, len(groups.attributes)))
        baselines.rates = dict(zip(groups.attributes, rates, strict=True))
        baselines.majority = {name: float(rate > 0.5) for name, rate in baselines.rates.items()}
        return baselines

    def check(self, owner: str, groups: AttributeGroups) -> None:
        """Refuse groups with an attribute that is not here, or is of another kind here.

        Raises:
            ValueError: There is one.
        """
        check_known(owner, "training label of", groups.attributes, self.kinds)
        for name, kind in zip(groups.attributes, groups.kinds, strict=True):
            if type(kind) is not type(self.kinds[name]) or choices_of(kind) != choices_of(self.kinds[name]):
                raise ValueError(
                    f"{owner}: the training labels are of {self.kinds[name]!r}, got {kind!r}; make both of one groups."
                )


def baselines_from(owner: str, groups: AttributeGroups, given: Any) -> Baselines:
    """Take baselines that fit the groups, or the rates of binary attributes, by name or in their order.

    Raises:
        ValueError: They do not fit.
    """
    if isinstance(given, Baselines):
        given.check(owner, groups)
        return given
    if groups.columns is not groups:
        raise ValueError(
            f"{owner}: rates tell of binary attributes alone, and not all of these are; "
            f"give Baselines(groups, train) from mtattn.metrics."
        )
    if isinstance(given, Mapping):
        check_known(owner, "rate of", groups.attributes, given)
        given = [given[name] for name in groups.attributes]
    rates = torch.as_tensor(given)
    if tuple(rates.shape) != (len(groups.attributes),):
        raise ValueError(
            f"{owner}: train_rates holds one rate an attribute, "
            f"got shape {tuple(rates.shape)} for {len(groups.attributes)} attributes."
        )
    outside = (rates < 0) | (rates > 1)
    if outside.any():
        name, rate = groups.attributes[int(outside.nonzero()[0])], float(rates[outside][0])
        raise ValueError(f"{owner}: train_rates lie in [0, 1], got {rate:g} for {name!r}.")
    return Baselines.from_rates(groups, rates.tolist())


def without_labels(attributes: Sequence[str], targets: Float[Tensor, "image attribute"]) -> list[str]:
    """List the attributes that no image has a label of: if these train a model, it cannot learn them.

    Example:
        >>> without_labels(["Smiling", "Hat"], torch.tensor([[1.0, torch.nan], [torch.nan, torch.nan]]))
        ['Hat']
    """
    is_known = (~targets.isnan()).any(0).tolist()
    return [name for name, known in zip(attributes, is_known, strict=True) if not known]


def unlearnt_in_words(names: Sequence[str]) -> str:
    """Say which attributes a model could not learn, and why; nothing if it could learn all.

    Example:
        >>> unlearnt_in_words(["Hat"])
        'Unlearnt, because no training image has a label of it: Hat. What the model says of it means nothing.'
    """
    if not names:
        return ""
    it = "it" if len(names) == 1 else "them"
    return (
        f"Unlearnt, because no training image has a label of {it}: {', '.join(names)}. "
        f"What the model says of {it} means nothing."
    )


def checked_within(owner: str, groups: AttributeGroups, within: Mapping[str, float | int] | None) -> dict[str, float]:
    """Return which error of each number is small.

    Raises:
        ValueError: A name is not that of a number, or an error is not above 0.
    """
    numbers = [kind.name for kind in groups.kinds if isinstance(kind, Number)]
    check_known(owner, "number", within or {}, numbers or ["none"])
    for name, distance in (within or {}).items():
        if not distance > 0:
            raise ValueError(f"{owner}: within is above 0, got {distance} for {name!r}.")
    return {name: float(distance) for name, distance in (within or {}).items()}


def choices_of(kind: Attribute) -> tuple[str, ...]:
    """List the classes or levels of an attribute; others have none."""
    match kind:
        case Categorical(_, choices) | Ordinal(_, choices):
            return choices
    return ()


def targets_by_name(owner: str, attributes: tuple[str, ...], data: Any) -> Float[Tensor, "image attribute"]:
    """Take the targets of a data set in the order of these attributes, by their names.

    Raises:
        TypeError: It has no names or no targets.
        ValueError: It lacks an attribute.
    """
    names, targets = getattr(data, "attributes", None), getattr(data, "targets", None)
    if names is None or not isinstance(targets, Tensor):
        raise TypeError(
            f"{owner}: takes targets, or a data set that has attributes and targets, got a {type(data).__name__}; "
            f"give a tensor (image, attribute) in the order of groups.attributes."
        )
    check_known(owner, "attribute", attributes, names)
    return targets[:, [list(names).index(name) for name in attributes]]


def _targets_of(groups: AttributeGroups, train: Any) -> Float[Tensor, "image attribute"]:
    return train if isinstance(train, Tensor) else targets_by_name("Baselines", groups.attributes, train)


def _most_frequent(labels: Float[Tensor, " label"]) -> float:
    return float(labels.long().bincount().argmax()) if len(labels) else 0.0


def _median(labels: Float[Tensor, " label"]) -> float:
    return float(labels.float().median()) if len(labels) else torch.nan  # in the precision of the metrics
