"""The kinds of attributes: a plain name is binary, the others say what they are."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import ceil, inf, isfinite, log10
from typing import Any

from mtattn.groups.names import check_no_doublet, checked_name


@dataclass(frozen=True)
class Categorical:
    """An attribute that is one of several classes, such as an expression.

    Its target is the index of the class. It has one column a class, and the softmax of these is their probability.

    Args:
        name: Of the attribute.
        classes: The names of the classes, at least two.

    Raises:
        TypeError: A name is no string, or ``classes`` is no list of them.
        ValueError: There are fewer than two classes, or one stands twice.

    Example:
        >>> AttributeGroups({"mouth": [Categorical("expression", ("happy", "sad", "neutral"))]}).columns.attributes
        ('expression=happy', 'expression=sad', 'expression=neutral')
    """

    name: str
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        _set(self, name=_own_name(self), classes=_choices("Categorical", self.name, "class", self.classes))

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its columns."""
        return tuple(f"{self.name}={choice}" for choice in self.classes)


@dataclass(frozen=True)
class Ordinal:
    """An attribute with ordered levels, such as an age group.

    Its target is the index of the level, 0 for the first. It has one column a threshold between neighbouring levels.
    The sigmoid of column k is the probability of a level above k, given that it is at least k; so the product of the
    first sigmoids is P(level > k), which falls with k whatever the columns are.

    Args:
        name: Of the attribute.
        levels: The names of the levels from the lowest to the highest, at least two.

    Raises:
        TypeError: A name is no string, or ``levels`` is no list of them.
        ValueError: There are fewer than two levels, or one stands twice.

    Example:
        >>> AttributeGroups({"age": [Ordinal("age", ("child", "young", "old"))]}).columns.attributes
        ('age>child', 'age>young')

    Source:
        CORN, Shi, Cao and Raschka 2021 (arXiv 2111.08851).
    """

    name: str
    levels: tuple[str, ...]

    def __post_init__(self) -> None:
        _set(self, name=_own_name(self), levels=_choices("Ordinal", self.name, "level", self.levels))

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its columns."""
        return tuple(f"{self.name}>{level}" for level in self.levels[:-1])


@dataclass(frozen=True)
class Number:
    """An attribute that is a number, such as an age in years.

    Its target is the number itself. It has one column, in standard deviations from the mean.

    Args:
        name: Of the attribute.
        unit: What it is measured in; shown behind the number.
        mean: Of the training labels. None until :meth:`AttributeGroups.fitted` measures it.
        std: Their standard deviation, above 0; None as for ``mean``.

    Raises:
        TypeError: The name or the unit is no string, or ``mean`` or ``std`` no number.
        ValueError: ``mean`` or ``std`` is not finite, ``std`` is not above 0, or one of the two is missing.

    Example:
        >>> Number("age", unit="years", mean=33, std=20).text(53.4321)
        '53.4 years'
    """

    name: str
    unit: str = ""
    mean: float | int | None = None
    std: float | int | None = None

    def __post_init__(self) -> None:
        _set(self, name=_own_name(self), unit=checked_name("Number", f"the unit of {self.name!r}", self.unit))
        if (self.mean is None) != (self.std is None):
            raise ValueError(
                f"Number: {self.name!r} has both mean and std, or neither, got mean={self.mean} and std={self.std}."
            )
        if self.mean is not None:
            _set(self, mean=_finite(self, "mean"), std=_finite(self, "std"))
        if self.std is not None and not self.std > 0:
            raise ValueError(f"Number: the std of {self.name!r} is above 0, got {self.std:g}.")

    @property
    def columns(self) -> tuple[str, ...]:
        """The name of its column."""
        return (self.name,)

    @property
    def moments(self) -> tuple[float, float]:
        """Its mean and standard deviation, once it has them."""
        assert self.mean is not None
        assert self.std is not None
        return self.mean, self.std

    def text(self, value: float) -> str:
        """Write a number with its unit, to about a fiftieth of the standard deviation."""
        decimals = max(0, ceil(-log10((self.std or 1) / 50)))
        return f"{value:.{decimals}f} {self.unit}".rstrip()


Attribute = str | Categorical | Ordinal | Number
"""An attribute as a group lists it; a plain name is a binary attribute."""


def name_of(attribute: Attribute) -> str:
    """Return the name of an attribute of any kind."""
    return attribute if isinstance(attribute, str) else attribute.name


def column_names(attribute: Attribute) -> tuple[str, ...]:
    """Return the names of the columns of an attribute of any kind."""
    return (attribute,) if isinstance(attribute, str) else attribute.columns


def to_plain(attribute: Attribute) -> "str | dict[str, Any]":
    """Describe an attribute by strings, numbers, lists and dicts only, as JSON holds them."""
    match attribute:
        case Categorical(name, classes):
            return {"categorical": name, "classes": list(classes)}
        case Ordinal(name, levels):
            return {"ordinal": name, "levels": list(levels)}
        case Number(name, unit, mean, std):
            return {"number": name, "unit": unit, "mean": mean, "std": std}
    return attribute


def from_plain(plain: Any) -> Attribute:
    """Read what :func:`to_plain` wrote.

    Raises:
        TypeError: A name in it is no string, or a value is of another type.
        ValueError: It is something else.
    """
    if not isinstance(plain, Mapping):
        return checked_name("AttributeGroups", "an attribute", plain)
    found = [word for word in _FORMS if word in plain]
    if len(found) != 1 or plain.keys() - found != _FORMS[found[0]][1]:
        forms = "; ".join(", ".join((word, *sorted(more))) for word, (_, more) in _FORMS.items())
        raise ValueError(
            f"AttributeGroups: an attribute is a name, or has the keys of its kind ({forms}), got {dict(plain)}."
        )
    kind, keys = _FORMS[found[0]]
    options = {key: tuple(plain[key]) if isinstance(plain[key], list) else plain[key] for key in keys}
    return kind(plain[found[0]], **options)


_FORMS: dict[str, tuple[Callable[..., Attribute], set[str]]] = {
    "categorical": (Categorical, {"classes"}),
    "ordinal": (Ordinal, {"levels"}),
    "number": (Number, {"unit", "mean", "std"}),
}


def _set(attribute: object, **values: object) -> None:
    for name, value in values.items():
        object.__setattr__(attribute, name, value)  # it is frozen, but may tidy up what it was given


def _own_name(attribute: Any) -> str:
    owner = type(attribute).__name__
    name = checked_name(owner, "its name", attribute.name)
    if not name:
        raise ValueError(f"{owner}: needs a name, got an empty one.")
    return name


def _choices(owner: str, name: str, what: str, choices: Any) -> tuple[str, ...]:
    plural = {"class": "classes", "level": "levels"}[what]
    if isinstance(choices, str | bytes | Mapping | set | frozenset) or not isinstance(choices, Iterable):
        raise TypeError(
            f"{owner}: the {plural} of {name!r} are a tuple of names, because their order decides what an index means, "
            f"got the {type(choices).__name__} {choices!r}."
        )
    names = tuple(checked_name(owner, f"a {what} of {name!r}", choice) for choice in choices)
    if len(names) < 2:
        raise ValueError(f"{owner}: {name!r} needs at least two {plural}, got {len(names)}.")
    check_no_doublet(owner, f"each {what} of {name!r}", names)
    return names


def _finite(number: Number, what: str) -> float:
    value: Any = getattr(number, what)
    if isinstance(value, bool | str) or not hasattr(value, "__float__"):
        raise TypeError(f"Number: the {what} of {number.name!r} is a number, got the {type(value).__name__} {value!r}.")
    try:
        finite = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        finite = inf
    if not isfinite(finite):
        raise ValueError(f"Number: the {what} of {number.name!r} is finite, got {finite}.")
    return finite
