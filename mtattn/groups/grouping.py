"""AttributeGroups: which attributes there are, in which order, and which group each belongs to."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from jaxtyping import Float
from torch import Tensor

from mtattn.groups import values
from mtattn.groups.kinds import Attribute, Categorical, Number, Ordinal, column_names, from_plain, name_of, to_plain
from mtattn.groups.names import check_known, checked_name, listed


class AttributeGroups(Mapping[str, tuple[str, ...]]):
    """An immutable mapping from group names to attribute names that fixes the order of both.

    A plain name is a binary attribute; :class:`~mtattn.Categorical`, :class:`~mtattn.Ordinal` and
    :class:`~mtattn.Number` are the other kinds, and a group may mix them. Targets have one column an attribute, in the
    order of ``groups.attributes``; outputs and maps have the columns of ``groups.columns``, which are the same where
    all attributes are binary. Every group axis follows ``list(groups)``.

    Args:
        groups: The attributes of each group, groups and attributes in the order of the outputs.

    Raises:
        TypeError: It is no mapping, or a name is no string.
        ValueError: There is no group, a group is empty or has no order, or an attribute stands twice.

    Example:
        >>> groups = AttributeGroups({"eyes": ["Eyeglasses"], "mouth": ["Smiling", "Big_Lips"]})
        >>> groups.attributes
        ('Eyeglasses', 'Smiling', 'Big_Lips')
        >>> groups.sizes
        (1, 2)
        >>> groups.group_of
        (0, 1, 1)
        >>> groups["mouth"]
        ('Smiling', 'Big_Lips')
        >>> mixed = AttributeGroups({"age": [Ordinal("stage", ("child", "young", "old")), Number("years")]})
        >>> mixed.attributes, mixed.columns.attributes
        (('stage', 'years'), ('stage>child', 'stage>young', 'years'))
    """

    def __init__(self, groups: Mapping[str, Iterable[Attribute]]) -> None:
        members = groups._groups if isinstance(groups, AttributeGroups) else groups  # its own mapping holds names alone
        if not isinstance(members, Mapping):
            raise TypeError(
                f"AttributeGroups: takes a mapping from group names to lists of attributes, "
                f"got a {type(groups).__name__}; write a dict."
            )
        self._groups: dict[str, tuple[Attribute, ...]] = {
            checked_name("AttributeGroups", "the name of a group", name): _checked_group(name, attributes)
            for name, attributes in members.items()
        }
        if not self._groups:
            raise ValueError("AttributeGroups: needs at least one group, got none.")
        _check_no_doublet("attribute", self)
        columns = {
            name: [column for attribute in attributes for column in column_names(attribute)]
            for name, attributes in self._groups.items()
        }
        _check_no_doublet("column", columns)
        # all of it now, not at first use: torch.compile cannot trace the lock of functools.cached_property
        self._kinds = tuple(attribute for attributes in self._groups.values() for attribute in attributes)
        self._attributes = tuple(map(name_of, self._kinds))
        self._sizes = tuple(map(len, self._groups.values()))
        self._group_of = tuple(index for index, size in enumerate(self._sizes) for _ in range(size))
        widths = [len(column_names(attribute)) for attribute in self._kinds]
        self._attribute_of = tuple(index for index, width in enumerate(widths) for _ in range(width))
        stops = zip(self._attributes, accumulate(widths), widths, strict=True)
        self._places = {name: slice(stop - width, stop) for name, stop, width in stops}
        all_binary = all(isinstance(attribute, str) for attribute in self._kinds)
        self._columns = None if all_binary else AttributeGroups(columns)  # not self: that would be a cycle

    def __getitem__(self, name: str) -> tuple[str, ...]:
        return tuple(map(name_of, self._groups[name]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)

    def __repr__(self) -> str:
        return f"AttributeGroups({ {name: list(attributes) for name, attributes in self._groups.items()} })"

    def __eq__(self, other: object) -> bool:
        """Two groupings are equal when they agree in order and kinds as well, because these decide the columns."""
        return isinstance(other, AttributeGroups) and list(self._groups.items()) == list(other._groups.items())

    def __hash__(self) -> int:
        return hash(tuple(self._groups.items()))

    @property
    def attributes(self) -> tuple[str, ...]:
        """The names of all attributes, group after group."""
        return self._attributes

    @property
    def kinds(self) -> tuple[Attribute, ...]:
        """All attributes as they were given, names where they are binary, else their kinds."""
        return self._kinds

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of attributes of each group."""
        return self._sizes

    @property
    def group_of(self) -> tuple[int, ...]:
        """The group index of each attribute."""
        return self._group_of

    @property
    def columns(self) -> "AttributeGroups":
        """The columns of outputs and maps, in the same groups; these groups themselves where all is binary.

        A categorical attribute has a column "name=class" a class, an ordinal one "name>level" a level but the last.
        """
        return self if self._columns is None else self._columns

    @property
    def attribute_of(self) -> tuple[int, ...]:
        """The attribute index of each column."""
        return self._attribute_of

    def columns_of(self, attribute: str) -> slice:
        """Tell which columns are those of an attribute.

        Raises:
            ValueError: There is no such attribute.

        Example:
            >>> groups = AttributeGroups({"age": ["Beard", Ordinal("stage", ("child", "young", "old"))]})
            >>> groups.columns_of("stage")
            slice(1, 3, None)
        """
        check_known("AttributeGroups", "attribute", [attribute], self.attributes)
        return self._places[attribute]

    def only(self, attributes: Collection[str]) -> "AttributeGroups":
        """Keep the named attributes, in the order that they have here; groups left without any go.

        Raises:
            ValueError: A name is not among the attributes, or none is named.

        Example:
            >>> groups = AttributeGroups({"eyes": ["Eyeglasses"], "mouth": ["Smiling", "Big_Lips"]})
            >>> groups.only(["Big_Lips"])
            AttributeGroups({'mouth': ['Big_Lips']})
        """
        if isinstance(attributes, str):
            raise ValueError(f"AttributeGroups: only() takes a list of names, got a string; write [{attributes!r}].")
        check_known("AttributeGroups", "attribute", attributes, self.attributes)
        kept = {
            name: [attribute for attribute in members if name_of(attribute) in attributes]
            for name, members in self._groups.items()
        }
        return AttributeGroups({name: members for name, members in kept.items() if members})

    def fitted(self, targets: Float[Tensor, "image attribute"]) -> "AttributeGroups":
        """Give each :class:`~mtattn.Number` that lacks them the mean and the standard deviation of its labels.

        Args:
            targets: Those of the training part, never of what the model is tested on; NaN where a label is missing.

        Raises:
            ValueError: There are targets that cannot be, or all labels of such a number are the same.

        Example:
            >>> groups = AttributeGroups({"age": [Number("age", unit="years")]})
            >>> groups.fitted(torch.tensor([[20.0], [40.0], [torch.nan]])).kinds
            (Number(name='age', unit='years', mean=30.0, std=10.0),)
        """
        kinds = iter(values.fitted_kinds(self, targets))
        return AttributeGroups({name: [next(kinds) for _ in members] for name, members in self._groups.items()})

    def decode(self, outputs: Float[Tensor, "batch column"]) -> dict[str, "Tensor | list[str]"]:
        """Say what outputs mean, attribute by attribute.

        Returns:
            One entry an image, by name. It is the probability of a binary attribute, the likeliest class, the level, or
            the number in its unit. Probabilities and numbers are in a tensor, names in a list.

        Raises:
            ValueError: There are other columns than these, an output is NaN, or a number lacks its mean.

        Example:
            >>> groups = AttributeGroups({"face": ["Smiling", Number("age", unit="years", mean=33, std=20)]})
            >>> groups.decode(torch.tensor([[0.0, 1.0], [0.0, -1.0]]))
            {'Smiling': tensor([0.5000, 0.5000]), 'age': tensor([53., 13.])}
        """
        return values.decode(self, outputs)

    def probabilities(self, outputs: Float[Tensor, "batch column"]) -> dict[str, Tensor]:
        """Compute the probabilities that outputs stand for; a number has none.

        Returns:
            One entry an image, by name. It is the probability of a binary attribute, or one a class or level.

        Raises:
            ValueError: As :meth:`decode`.

        Example:
            >>> groups = AttributeGroups({"age": ["Beard", Ordinal("stage", ("child", "young", "old"))]})
            >>> groups.probabilities(torch.zeros(1, 3))
            {'Beard': tensor([0.5000]), 'stage': tensor([[0.5000, 0.2500, 0.2500]])}
        """
        return values.probabilities(self, outputs)

    def texts(self, outputs: Float[Tensor, "batch column"]) -> dict[str, list[str]]:
        """Write what outputs mean as a person reads it, by name, with one text an image.

        Raises:
            ValueError: As :meth:`decode`.

        Example:
            >>> age, hair = Number("age", unit="years", mean=33, std=20), Categorical("hair", ("short", "long"))
            >>> groups = AttributeGroups({"face": ["Smiling", hair, age]})
            >>> groups.texts(torch.tensor([[2.0, 1.0, -1.0, 1.02]]))
            {'Smiling': ['88 %'], 'hair': ['short (88 %)'], 'age': ['53.4 years']}
        """
        return values.texts(self, outputs)

    def to_plain(self) -> dict[str, list[Any]]:
        """Describe the groups by strings, numbers, lists and dicts only, as JSON holds them.

        Example:
            >>> AttributeGroups({"face": ["Smiling", Ordinal("age", ("young", "old"))]}).to_plain()
            {'face': ['Smiling', {'ordinal': 'age', 'levels': ['young', 'old']}]}
        """
        return {name: list(map(to_plain, attributes)) for name, attributes in self._groups.items()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "AttributeGroups":
        """Read what :meth:`to_plain` wrote.

        Raises:
            TypeError: A part of it is of another type.
            ValueError: It does not describe groups.

        Example:
            >>> AttributeGroups.from_plain({"face": ["Smiling", {"ordinal": "age", "levels": ["young", "old"]}]})
            AttributeGroups({'face': ['Smiling', Ordinal(name='age', levels=('young', 'old'))]})
        """
        if not isinstance(plain, Mapping):
            raise TypeError(f"AttributeGroups: groups are a mapping from names to lists, got a {type(plain).__name__}.")
        return cls({name: [from_plain(member) for member in listed(name, members)] for name, members in plain.items()})


def check_groups(owner: str, groups: object) -> None:
    """Refuse what is not an AttributeGroups, a plain dict for instance.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(groups, AttributeGroups):
        raise TypeError(f"{owner}: groups is an AttributeGroups, got a {type(groups).__name__}; wrap it in one.")


def _check_no_doublet(what: str, groups: Mapping[str, Sequence[str]]) -> None:
    counts = Counter(name for members in groups.values() for name in members)
    twice = sorted(name for name, count in counts.items() if count > 1)
    if twice:
        places = [name for name, members in groups.items() if twice[0] in members]
        raise ValueError(
            f"AttributeGroups: each {what} belongs to one group and stands there once, "
            f"got {twice[0]!r} {counts[twice[0]]} times, in {', '.join(map(repr, places))}."
        )


def _checked_group(name: str, attributes: Any) -> tuple[Attribute, ...]:
    members = listed(name, attributes)
    if len(members) == 0:
        raise ValueError(f"AttributeGroups: a group needs at least one attribute, got none for {name!r}.")
    return tuple(
        member
        if isinstance(member, Categorical | Ordinal | Number)
        else checked_name("AttributeGroups", f"an attribute of {name!r}", member)
        for member in members
    )
