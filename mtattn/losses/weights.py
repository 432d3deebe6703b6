"""What labels weigh: weights as their user writes them, by name or in order, as checked tensors."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mtattn.groups import AttributeGroups, Categorical, check_known

PosWeight = Float[Tensor, " attribute"] | Sequence[float] | Mapping[str, float] | None
ClassWeight = Mapping[str, Float[Tensor, " choice"] | Sequence[float] | Mapping[str, float]] | None


def pos_weight_tensor(
    owner: str, pos_weight: PosWeight, groups: AttributeGroups, device: torch.device | str | None
) -> Float[Tensor, " attribute"] | None:
    """Make one number an attribute; those of other kinds than binary are 1."""
    if pos_weight is None:
        return None
    if isinstance(pos_weight, Mapping):
        check_known(owner, "attribute", pos_weight, groups.attributes)
        pos_weight = [float(pos_weight.get(name, 1)) for name in groups.attributes]
    weight = torch.as_tensor(pos_weight, dtype=torch.float32, device="cpu")
    if weight.shape != (len(groups.attributes),):
        raise ValueError(
            f"{owner}: pos_weight has one number for each of {len(groups.attributes)} attributes, "
            f"got shape {tuple(weight.shape)}."
        )
    _check_positive(owner, "pos_weight", weight)
    for kind, value in zip(groups.kinds, weight.tolist(), strict=True):
        if not isinstance(kind, str) and value != 1:
            raise ValueError(
                f"{owner}: pos_weight is for binary attributes, got {value:g} for {kind.name!r}, "
                f"a {type(kind).__name__}; the weights of classes go into class_weight."
            )
    return _copied(weight, device)


def class_weight_tensor(
    owner: str, class_weight: ClassWeight, groups: AttributeGroups, device: torch.device | str | None
) -> Float[Tensor, "categorical choice"] | None:
    """Make one number a class and categorical attribute, 1 where none is given and behind the last class."""
    if class_weight is None:
        return None
    kinds = {kind.name: kind for kind in groups.kinds if isinstance(kind, Categorical)}
    if not isinstance(class_weight, Mapping):
        raise TypeError(
            f"{owner}: class_weight is a mapping from the names of categorical attributes to one number a class, "
            f"got a {type(class_weight).__name__}; write {{{next(iter(kinds), 'name')!r}: [...]}}."
        )
    check_known(owner, "attribute", class_weight, groups.attributes)
    check_known(owner, "categorical attribute", class_weight, kinds or ["none"])
    weight = torch.ones(len(kinds), max((len(kind.classes) for kind in kinds.values()), default=0), device="cpu")
    for row, kind in zip(weight, kinds.values(), strict=True):
        given = class_weight.get(kind.name, {})
        if isinstance(given, Mapping):
            check_known(owner, f"class of {kind.name!r}", given, kind.classes)
            given = [float(given.get(name, 1)) for name in kind.classes]
        if len(given) != len(kind.classes):
            raise ValueError(
                f"{owner}: class_weight has one number for each of the {len(kind.classes)} classes of {kind.name!r}, "
                f"got {len(given)}."
            )
        row[: len(given)] = torch.as_tensor(given, device="cpu")
    _check_positive(owner, "class_weight", weight)
    return _copied(weight, device)


def _copied(weight: Tensor, device: torch.device | str | None) -> Tensor:
    """Copy weights, which were made on the CPU because they are looked at, to the device of the loss."""
    return weight.to(torch.get_default_device() if device is None else device, copy=True)


def _check_positive(owner: str, name: str, weight: Tensor) -> None:
    if not (weight.isfinite() & (weight > 0)).all():
        raise ValueError(f"{owner}: {name} is positive and finite, got {weight.tolist()}.")
