"""What targets may be, and what outputs mean, attribute by attribute."""

from collections.abc import Iterator
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from mtattn.functional import level_exceedance
from mtattn.groups.kinds import Attribute, Categorical, Number, Ordinal, column_names, name_of

if TYPE_CHECKING:
    from mtattn.groups.grouping import AttributeGroups


def check_fitted(owner: str, groups: "AttributeGroups") -> None:
    """Refuse a :class:`Number` that has no mean and standard deviation yet.

    Raises:
        ValueError: There is one.
    """
    for attribute in groups.kinds:
        if isinstance(attribute, Number) and attribute.std is None:
            raise ValueError(
                f"{owner}: the number {attribute.name!r} has no mean and std yet; "
                f"take groups.fitted(targets) with the training targets, or give mean= and std=."
            )


def check_targets(owner: str, groups: "AttributeGroups", targets: Shaped[Tensor, "image attribute"]) -> None:
    """Refuse targets that cannot be; it looks at the values, so it waits for the device.

    Raises:
        ValueError: They have another width, or one is not what its attribute's kind allows.

    Example:
        >>> groups = AttributeGroups({"face": ["Smiling", Ordinal("age", ("child", "young", "old"))]})
        >>> check_targets("Data", groups, torch.tensor([[1.0, 2.0], [0.0, 3.0]]))
        Traceback (most recent call last):
        ValueError: Data: 'age' has 3 levels, so a target is 0 to 2, or NaN where it is missing; got 3 for image 1.
    """
    num_attributes = len(groups.attributes)
    if targets.ndim != 2 or targets.shape[1] != num_attributes:
        raise ValueError(
            f"{owner}: targets are (image, {num_attributes}), one column an attribute, got {tuple(targets.shape)}."
        )
    if not targets.is_floating_point():
        targets = targets.double()  # whole numbers and truth values cannot be compared with infinity
    lowest, highest = targets.new_tensor(list(map(_range, groups.kinds))).unbind(1)
    whole = torch.tensor([isinstance(kind, Categorical | Ordinal) for kind in groups.kinds], device=targets.device)
    allowed = (targets >= lowest) & (targets <= highest) & targets.isfinite()
    allowed &= ~(whole & (targets != targets.floor()))
    wrong = (~allowed & ~targets.isnan()).nonzero()
    if len(wrong):
        image, attribute = wrong[0].tolist()
        value = targets[image, attribute].item()
        raise ValueError(f"{owner}: {_rule(groups.kinds[attribute])}; got {value:g} for image {image}.")


def fitted_kinds(groups: "AttributeGroups", targets: Float[Tensor, "image attribute"]) -> Iterator[Attribute]:
    """Give the kinds of all attributes, each number with a mean and a standard deviation."""
    check_targets("AttributeGroups.fitted", groups, targets)
    for attribute, column in zip(groups.kinds, targets.unbind(1), strict=True):
        if not isinstance(attribute, Number) or attribute.std is not None:
            yield attribute
            continue
        labels = column[~column.isnan()].double()
        if not len(labels):
            yield replace(attribute, mean=0.0, std=1.0)  # nothing can be learnt of it: any scale will do
            continue
        mean, std = labels.mean().item(), labels.std(correction=0).item()
        if not std > 0:
            raise ValueError(
                f"AttributeGroups.fitted: the labels of {attribute.name!r} are all {mean:g}, so there is nothing to "
                f"learn; leave it out, or give mean= and std=."
            )
        yield replace(attribute, mean=mean, std=std)


def decode(groups: "AttributeGroups", outputs: Float[Tensor, "batch column"]) -> dict[str, Tensor | list[str]]:
    """Say what outputs mean; see :meth:`AttributeGroups.decode`."""
    decoded: dict[str, Tensor | list[str]] = {}
    for attribute, columns in _columns("AttributeGroups.decode", groups, outputs):
        match attribute:
            case Categorical(name, classes):
                decoded[name] = [classes[index] for index in columns.argmax(1).tolist()]
            case Ordinal(name, levels):
                decoded[name] = [levels[index] for index in (level_exceedance(columns) > 0.5).sum(1).tolist()]
            case Number(name):
                mean, std = attribute.moments
                decoded[name] = mean + std * columns[:, 0]
            case str(name):
                decoded[name] = columns[:, 0].sigmoid()
    return decoded


def probabilities(groups: "AttributeGroups", outputs: Float[Tensor, "batch column"]) -> dict[str, Tensor]:
    """Compute the probabilities that outputs stand for; see :meth:`AttributeGroups.probabilities`."""
    found = {}
    for attribute, columns in _columns("AttributeGroups.probabilities", groups, outputs):
        match attribute:
            case Categorical(name):
                found[name] = columns.softmax(1)
            case Ordinal(name):
                above = level_exceedance(columns)
                found[name] = F.pad(above, (1, 0), value=1) - F.pad(above, (0, 1))
            case str(name):
                found[name] = columns[:, 0].sigmoid()
    return found


def texts(groups: "AttributeGroups", outputs: Float[Tensor, "batch column"]) -> dict[str, list[str]]:
    """Write what outputs mean as a person reads it; see :meth:`AttributeGroups.texts`."""
    decoded, shares = decode(groups, outputs), probabilities(groups, outputs)
    return {name_of(kind): list(_texts(kind, decoded[name_of(kind)], shares)) for kind in groups.kinds}


def _texts(attribute: Attribute, said: Tensor | list[str], shares: dict[str, Tensor]) -> Iterator[str]:
    match attribute:
        case Categorical(name, choices) | Ordinal(name, choices):
            rows = zip(said, shares[name].tolist(), strict=True)
            return (f"{choice} ({_percent(row[choices.index(choice)])})" for choice, row in rows)
        case Number():
            return map(attribute.text, map(float, said))
    return map(_percent, map(float, said))


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _columns(
    owner: str, groups: "AttributeGroups", outputs: Float[Tensor, "batch column"]
) -> Iterator[tuple[Attribute, Float[Tensor, "batch _"]]]:
    num_columns = len(groups.columns.attributes)
    if outputs.ndim != 2 or outputs.shape[1] != num_columns:
        raise ValueError(
            f"{owner}: outputs are (batch, {num_columns}), the columns of groups.columns, got {tuple(outputs.shape)}."
        )
    check_fitted(owner, groups)
    outputs = outputs.detach().to(torch.promote_types(outputs.dtype, torch.float32))
    unknown = outputs.isnan().any(0)
    if unknown.any():
        name = groups.attributes[groups.attribute_of[int(unknown.nonzero()[0])]]
        raise ValueError(f"{owner}: an output of {name!r} is NaN, so it says nothing.")
    widths = [len(column_names(kind)) for kind in groups.kinds]
    yield from zip(groups.kinds, outputs.split_with_sizes(widths, 1), strict=True)


def _range(attribute: Attribute) -> tuple[float, float]:
    match attribute:
        case Categorical(_, choices) | Ordinal(_, choices):
            return 0.0, len(choices) - 1.0
        case Number():
            return -inf, inf
    return 0.0, 1.0


def _rule(attribute: Attribute) -> str:
    missing = "or NaN where it is missing"
    match attribute:
        case Categorical(name, choices):
            return f"{name!r} has {len(choices)} classes, so a target is 0 to {len(choices) - 1}, {missing}"
        case Ordinal(name, choices):
            return f"{name!r} has {len(choices)} levels, so a target is 0 to {len(choices) - 1}, {missing}"
        case Number(name):
            return f"{name!r} is a number, so a target is finite, {missing}"
    return f"{attribute!r} is binary, so a target is in [0, 1], {missing}"
