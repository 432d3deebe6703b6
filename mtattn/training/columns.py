"""What the columns of models, losses, data and metrics are called, however they are wrapped."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from mtattn.groups import Attribute, AttributeGroups, Number

Names = tuple[str, ...]


def check_columns(owner: str, groups: AttributeGroups, **things: Any) -> None:
    """Refuse a model, data or metrics whose columns are known to be others than those of the groups.

    A wrapper hides no names: modules are looked through to the heads, data sets to all data sets that they hold. A
    wrapper that changes the columns says so by an attribute ``attributes`` of its own.

    Args:
        owner: Who complains.
        groups: What the columns have to be.
        **things: What is compared with them, by name.

    Raises:
        ValueError: A thing has other names, or the same in another order, or takes one for another kind.

    Example:
        >>> from torch.utils.data import Subset, TensorDataset
        >>> data = TensorDataset()
        >>> data.attributes = ("Young", "Smiling")
        >>> check_columns("fit", AttributeGroups({"all": ["Smiling", "Young"]}), data=Subset(data, [0]))
        Traceback (most recent call last):
        ValueError: fit: the columns of data are groups.attributes, Smiling, Young, got Young, Smiling; ...
    """
    for name, thing in things.items():
        for names in _known_names(thing):
            if names != groups.attributes:
                raise ValueError(
                    f"{owner}: the columns of {name} are groups.attributes, {_few(groups.attributes, names)}, "
                    f"got {_few(names, groups.attributes)}; make it from these groups, data with "
                    f"attributes=groups.attributes."
                )
        _check_kinds(owner, groups, name, thing)


def _check_kinds(owner: str, groups: AttributeGroups, name: str, thing: Any) -> None:
    """Refuse what means something else by the same name: other classes, or a number in another unit."""
    for kinds in _known_kinds(thing):
        for theirs, ours in zip(kinds, groups.kinds, strict=True):
            if theirs != ours and (isinstance(thing, nn.Module) or _reads_otherwise(theirs, ours)):
                raise ValueError(f"{owner}: {name} takes {theirs!r} for what is {ours!r}; make both from one groups.")


def _known_kinds(thing: Any) -> list[tuple[Attribute, ...]]:
    if isinstance(thing, nn.Module):
        groups = _groups_of(thing)
        return [groups[0].kinds] if len(set(groups)) == 1 else []
    found = ((part, getattr(part, "kinds", None)) for part in _named_parts(thing, set()))
    return [
        kinds  # not everybody's kinds are kinds of attributes
        for part, kinds in found
        if isinstance(kinds, tuple) and tuple(getattr(kind, "name", kind) for kind in kinds) == _own_names(part)
    ]


def _reads_otherwise(theirs: Attribute, ours: Attribute) -> bool:
    """Whether data mean something else; a plain name tells no kind, and the mean of a number changes no target."""
    if isinstance(theirs, Number) and isinstance(ours, Number):
        return theirs.unit != ours.unit
    return not isinstance(theirs, str) and theirs != ours


def _known_names(thing: Any) -> Collection[Names]:
    """Collect what the columns are called; nothing if nobody says so, or if a model has heads for several sets."""
    if isinstance(thing, nn.Module):
        names = {groups.attributes for groups in _groups_of(thing)}
        return names if len(names) == 1 else ()
    return list(map(_own_names, _named_parts(thing, set())))


def _groups_of(module: nn.Module) -> list[AttributeGroups]:
    groups = getattr(module, "groups", None)
    if isinstance(groups, AttributeGroups):
        return [groups]
    return [groups for child in module.children() for groups in _groups_of(child)]


def _named_parts(data: Any, seen: set[int]) -> Iterator[Any]:
    """List the outermost data sets that tell the names of their columns."""
    seen.add(id(data))  # a data set may hold itself
    if _own_names(data):
        yield data
        return
    for part in _held(getattr(data, "__dict__", {}).values()):
        if id(part) not in seen:
            yield from _named_parts(part, seen)


def _own_names(data: Any) -> Names:
    for word in ("attributes", "attr_names"):  # ours, and that of torchvision's CelebA, whose last name is empty
        names = getattr(data, word, None)
        if isinstance(names, Iterable) and not isinstance(names, str):
            names = tuple(names)
            if all(isinstance(name, str) for name in names):
                return tuple(filter(None, names))
    return ()


def _held(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, Dataset) or (hasattr(value, "__getitem__") and _own_names(value)):
            yield value
        elif isinstance(value, Mapping):
            yield from (part for part in value.values() if isinstance(part, Dataset))
        elif isinstance(value, list | tuple):
            yield from (part for part in value if isinstance(part, Dataset))


def _few(names: Names, others: Names) -> str:
    """Show three names, from the first that differs on."""
    pairs = zip(names, others, strict=False)
    first = next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(names), len(others)))
    first = 0 if first < 3 else first
    shown = ", ".join(names[first : first + 3])
    before = f"{first} like them, then " if first else ""
    after = f" and {len(names) - first - 3} more" if len(names) > first + 3 else ""
    return f"{before}{shown or 'no more'}{after}"
