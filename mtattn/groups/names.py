"""What is refused as a name, and which known name was probably meant."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from itertools import islice
from typing import Any

_TOLD = 50  # names; timm has some 1,300


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
            some = ", ".join(islice(known, _TOLD)) + f" and {len(known) - _TOLD:,} more" * (len(known) > _TOLD)
            hint = f"did you mean {' or '.join(map(repr, nearest))}?" if nearest else f"there are {some}."
            raise ValueError(f"{owner}: no {kind} {name!r}; {hint}")


def _nearest_ignoring_case(name: str, known: Collection[str]) -> list[str]:
    lower = {candidate.lower(): candidate for candidate in known}
    return [lower[match] for match in get_close_matches(name.lower(), lower)]


def checked_name(owner: str, what: str, name: object) -> str:
    """Return a name as a plain string, also one of numpy's.

    Raises:
        TypeError: It is no string: a number, or one of the words that YAML reads as a boolean.
        ValueError: It holds a surrogate, which JSON can say and UTF-8 cannot.
    """
    if isinstance(name, str):
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise ValueError(f"{owner}: {what} is text, got {name!r}, half a letter that no file can hold.")
        return str(name)  # numpy's strings are strings, but no plain ones
    hint = f"write str({name!r})"
    if isinstance(name, bool):
        hint = "YAML reads on, off, yes and no as booleans, so put it in quotes there"
    elif isinstance(name, bytes):
        hint = "decode it"
    raise TypeError(f"{owner}: {what} is a string, got the {type(name).__name__} {name!r}; {hint}.")


def check_no_doublet(owner: str, what: str, names: Iterable[str]) -> None:
    """Refuse a name that stands twice."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{owner}: {what} stands there once, got {twice[0]!r} more than once.")


def listed(name: object, attributes: Any) -> list[Any]:
    """List the members of a group: of a list, the keys of a dict, an array or the columns of a table."""
    if isinstance(attributes, str | bytes):
        kind = "string " if isinstance(attributes, str) else ""
        raise ValueError(
            f"AttributeGroups: a group is a list of attribute names, "
            f"got the {kind}{attributes!r} for {name!r}; write [{attributes!r}]."
        )
    if isinstance(attributes, set | frozenset):
        raise ValueError(
            f"AttributeGroups: a group is a list of attribute names, because their order decides the columns, "
            f"got a {type(attributes).__name__} for {name!r}."
        )
    if isinstance(attributes, Mapping) or not isinstance(attributes, Iterable):
        raise ValueError(
            f"AttributeGroups: a group is a list of attribute names, got a {type(attributes).__name__} for {name!r}; "
            f"write list(...)."
        )
    return list(attributes)
