"""AttributeGroups: which attributes there are, in which order, and which group each belongs to."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property


class AttributeGroups(Mapping[str, tuple[str, ...]]):
    """An immutable mapping from group names to attribute names that fixes the order of both.

    Every attribute axis in mtattn follows ``groups.attributes``, every group axis follows ``list(groups)``.

    Args:
        groups: The attribute names of each group, groups and attributes in the order that they shall have.

    Raises:
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
    """

    def __init__(self, groups: Mapping[str, Sequence[str]]) -> None:
        self._groups = {name: _checked_group(name, attributes) for name, attributes in groups.items()}
        if not self._groups:
            raise ValueError("AttributeGroups: needs at least one group, got none.")
        counts = Counter(self.attributes)
        twice = sorted(attribute for attribute, count in counts.items() if count > 1)
        if twice:
            places = [name for name, attributes in self.items() if twice[0] in attributes]
            raise ValueError(
                f"AttributeGroups: each attribute belongs to one group and stands there once, "
                f"got {twice[0]!r} {counts[twice[0]]} times, in {', '.join(map(repr, places))}."
            )

    def __getitem__(self, name: str) -> tuple[str, ...]:
        return self._groups[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)

    def __repr__(self) -> str:
        return f"AttributeGroups({ {name: list(attributes) for name, attributes in self.items()} })"

    def __eq__(self, other: object) -> bool:
        """Two groupings are equal when they agree in order as well, because the order decides the columns."""
        return isinstance(other, AttributeGroups) and list(self.items()) == list(other.items())

    def __hash__(self) -> int:
        return hash(tuple(self.items()))

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """The names of all attributes, group after group."""
        return tuple(attribute for attributes in self.values() for attribute in attributes)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The number of attributes of each group."""
        return tuple(len(attributes) for attributes in self.values())

    @cached_property
    def group_of(self) -> tuple[int, ...]:
        """The group index of each attribute."""
        return tuple(index for index, size in enumerate(self.sizes) for _ in range(size))

    def only(self, attributes: Collection[str]) -> "AttributeGroups":
        """Keep the named attributes, in the order that they have here; groups left without any go.

        Raises:
            ValueError: A name is not among the attributes, or none is named.

        Example:
            >>> groups = AttributeGroups({"eyes": ["Eyeglasses"], "mouth": ["Smiling", "Big_Lips"]})
            >>> groups.only(["Big_Lips"])
            AttributeGroups({'mouth': ['Big_Lips']})
        """
        check_known("AttributeGroups", "attribute", attributes, self.attributes)
        kept = {name: [attribute for attribute in members if attribute in attributes] for name, members in self.items()}
        return AttributeGroups({name: members for name, members in kept.items() if members})


def check_groups(owner: str, groups: object) -> None:
    """Refuse what is not an AttributeGroups, a plain dict for instance.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(groups, AttributeGroups):
        raise TypeError(f"{owner}: groups is an AttributeGroups, got a {type(groups).__name__}; wrap it in one.")


def check_known(owner: str, kind: str, names: Collection[str], known: Collection[str]) -> None:
    """Refuse the first name that is not known and suggest the nearest ones.

    Args:
        owner: Who complains.
        kind: What the names are, in the singular.
        names: The names to check.
        known: The names that there are.

    Raises:
        ValueError: A name is not known.

    Example:
        >>> check_known("CelebA", "attribute", ["Smilling"], ["Smiling", "Young"])
        Traceback (most recent call last):
        ValueError: CelebA: no attribute 'Smilling'; did you mean 'Smiling'?
    """
    for name in names:
        if name not in known:
            nearest = get_close_matches(str(name), known) or _nearest_ignoring_case(str(name), known)
            hint = f"did you mean {' or '.join(map(repr, nearest))}?" if nearest else f"there are {', '.join(known)}."
            raise ValueError(f"{owner}: no {kind} {name!r}; {hint}")


def _nearest_ignoring_case(name: str, known: Collection[str]) -> list[str]:
    lower = {candidate.lower(): candidate for candidate in known}
    return [lower[match] for match in get_close_matches(name.lower(), lower)]


def _checked_group(name: str, attributes: Sequence[str]) -> tuple[str, ...]:
    if isinstance(attributes, str):
        raise ValueError(
            f"AttributeGroups: a group is a list of attribute names, "
            f"got the string {attributes!r} for {name!r}; write [{attributes!r}]."
        )
    if not isinstance(attributes, Sequence):
        raise ValueError(
            f"AttributeGroups: a group is a list of attribute names, because their order decides the columns, "
            f"got a {type(attributes).__name__} for {name!r}."
        )
    if len(attributes) == 0:
        raise ValueError(f"AttributeGroups: a group needs at least one attribute, got none for {name!r}.")
    return tuple(attributes)
