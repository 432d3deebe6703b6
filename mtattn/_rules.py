"""What a file from elsewhere may say: tables of rules, checked before anything is built; they need no torch."""

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

MOST = 2**16  # of channels, heads, pixels: more than any model has, and few enough to be counted in memory
MOST_PIXELS = 2**24  # of an image that a model takes


class Rule(NamedTuple):
    """What a value may be: whether one is so, and how this is said."""

    holds: Callable[[Any], bool]
    words: str


def whole(least: int, most: int = MOST) -> Rule:
    """Make the rule of a whole number."""
    return Rule(lambda value: type(value) is int and least <= value <= most, f"a whole number from {least} to {most}")


def is_number(value: Any) -> bool:
    """Tell whether a value is a finite number that a float can hold."""
    return math.isfinite(value) if type(value) is float else type(value) is int and abs(value) <= 2**53


def _between(least: float, most: float) -> Rule:
    """Make the rule of one of several numbers that single precision can compute with."""
    return Rule(lambda value: is_number(value) and least <= value <= most, f"numbers from {least:g} to {most:g}")


def are(rule: Rule, length: int | None = None) -> Callable[[Any], bool]:
    """Make the check of a list of such values."""
    return lambda value: (
        isinstance(value, list) and len(value) == (length or len(value)) and all(map(rule.holds, value))
    )


def _each(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(holds, value.values()))


SIZE = whole(1)
CLAIM = Rule(lambda value: type(value) is bool, "true or false")
TEXT = Rule(lambda value: isinstance(value, str), "a text")
OBJECT = Rule(lambda value: isinstance(value, dict), "an object")
_SHARE = Rule(lambda value: is_number(value) and 0 < value <= 1, "a number in (0, 1]")
_OFFSET, _DIVISOR = _between(-1000.0, 1000.0), _between(0.001, 1000.0)
_NUMBERS = Rule(are(Rule(is_number, "a number")), "a list of numbers")
_INCREASING = Rule(
    lambda value: _NUMBERS.holds(value) and bool(value) and all(before < at for before, at in pairwise(value)),
    "a list of increasing numbers",
)
IMAGE = {
    "size": Rule(
        lambda value: are(SIZE, 2)(value) and value[0] * value[1] <= MOST_PIXELS,
        f"a list of height and width in pixels, together at most {MOST_PIXELS:,}",
    ),
    "mean": Rule(are(_OFFSET), f"a list of {_OFFSET.words}"),
    "std": Rule(are(_DIVISOR), f"a list of {_DIVISOR.words}"),
    "crop": Rule(
        lambda value: _SHARE.holds(value) or are(_SHARE, 2)(value), "a number in (0, 1], or one for height and width"
    ),
}
CENTRES = {"rows": _INCREASING, "columns": _INCREASING}
DECISIONS = {
    "goal": TEXT,
    "temperatures": Rule(_each(_DIVISOR.holds), f"an object of {_DIVISOR.words}"),
    "thresholds": Rule(_each(lambda value: is_number(value) and 0 < value < 1), "an object of numbers in (0, 1)"),
    "kept": Rule(_each(TEXT.holds), "an object of texts"),
    "absent": Rule(_each(lambda value: is_number(value) and 0 <= value < 1), "an object of numbers in [0, 1)"),
}


def check(
    owner: str, found: Mapping[str, Any], rules: Mapping[str, Rule], *, within: str = "", needs: tuple[str, ...] = ()
) -> None:
    """Refuse a value that breaks its rule, and the lack of one that is needed.

    Args:
        owner: Who complains, and of what.
        found: What was read.
        rules: For each name what its value may be; other names are left alone.
        within: Before the names.
        needs: The names that have to be there.

    Raises:
        ValueError: There is one.
    """
    for name, rule in rules.items():
        if name in needs and name not in found:
            raise ValueError(f"{owner}: {within}{name} is {rule.words}, got nothing.")
        if name in found and not rule.holds(found[name]):
            raise ValueError(f"{owner}: {told(within + name, rule, found[name])}")


def told(name: str, rule: Rule, value: Any) -> str:
    """Say what a value has to be, and what it is."""
    shown = repr(value)
    return f"{name} is {rule.words}, got {shown if len(shown) <= 80 else shown[:80] + '...'}."


def check_image(owner: str, image: Any, *, needs: tuple[str, ...] = (), num_colors: int | None = None) -> None:
    """Refuse what cannot be said of the images of a model.

    Raises:
        ValueError: It is so.
    """
    check(owner, {"image": image}, {"image": OBJECT})
    check(owner, image, IMAGE, within="image.", needs=needs)
    for name in image.keys() - IMAGE.keys():
        raise ValueError(f"{owner}: image has {', '.join(IMAGE)}, got {name!r}.")
    for name in {"mean", "std"} & image.keys():
        count = num_colors or len(image.get("mean", image[name]))
        if len(image[name]) != count or not count:
            raise ValueError(f"{owner}: image.{name} has a number for each of {count} colours, got {image[name]}.")


def check_decisions(owner: str, decisions: Any) -> None:
    """Refuse what are no :class:`mtattn.decisions.Decisions`.

    Raises:
        ValueError: It is so.
    """
    check(owner, {"decisions": decisions}, {"decisions": OBJECT})
    for name in decisions.keys() - DECISIONS.keys():
        raise ValueError(f"{owner}: decisions have {', '.join(DECISIONS)}, got {name!r}.")
    check(owner, decisions, DECISIONS, within="decisions.", needs=("goal",))
    thresholds = decisions.get("thresholds", {})
    for name, absent in decisions.get("absent", {}).items():
        if not absent <= thresholds.get(name, -1):
            raise ValueError(
                f"{owner}: decisions.absent is at most the threshold, got {absent} for {name!r}, whose threshold is "
                f"{thresholds.get(name, 'not there')}."
            )


def is_centres(found: Any) -> bool:
    """Tell whether maps can be drawn with what is said of where their cells look."""
    return isinstance(found, dict) and all(name in found and rule.holds(found[name]) for name, rule in CENTRES.items())
