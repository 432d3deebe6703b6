"""What the cells of a column say: yes and no, a class, a level, a number."""

import math
import re
from collections import Counter
from collections.abc import Sequence

from mtattn.groups import Attribute, Categorical, Number, Ordinal

YES = frozenset({"1", "1.0", "yes", "y", "true", "t"})
NO = frozenset({"0", "0.0", "no", "n", "false", "f"})
MINUS = frozenset({"-1", "-1.0"})
MOST_CLASSES = 20
PARTS = {
    "train": ("train", "training", "trn"),
    "valid": ("valid", "val", "validation", "dev"),
    "test": ("test", "testing", "tst"),
}
PART_OF = {word: part for part, words in PARTS.items() for word in words}


def propose_kind(name: str, cells: Sequence[str]) -> Attribute | str | None:
    """Propose what kind of attribute a column holds, or None where it holds none.

    Returns:
        The attribute: its name where the cells say yes and no, or another kind. None: nearly every cell differs, as
        names do, or all are empty.

    Example:
        >>> propose_kind("Hat", ["yes", "", "no"])
        'Hat'
        >>> propose_kind("age", ["0-2", "3-9", "more than 70", "3-9", "0-2"] * 9)
        Ordinal(name='age', levels=('0-2', '3-9', 'more than 70'))
    """
    counts = Counter(cells)
    del counts[""]  # nobody knows
    lower = {value.lower() for value in counts}
    if not counts:
        return None
    if lower <= YES | NO | MINUS:
        return name
    if all(number(value) is not None for value in counts):
        return Categorical(name, tuple(sorted(counts))) if len(counts) == 2 < len(cells) else Number(name)
    if len(counts) > min(MOST_CLASSES, max(2, len(cells) // 2)) or len(counts) == 1:
        return None
    if all(re.search(r"\d", value) for value in counts):  # 0-2, 3-9, more than 70: from the lowest to the highest
        return Ordinal(name, tuple(sorted(counts, key=lambda value: (_last_number(value), value))))
    return Categorical(name, tuple(sorted(counts)))


def _last_number(text: str) -> float:
    return float(re.findall(r"\d+(?:[.,]\d+)?", text)[-1].replace(",", "."))


def says_parts(cells: Sequence[str]) -> bool:
    """Tell whether a column says train, valid or test in every row."""
    return all(cell.lower() in PART_OF for cell in set(cells))


def target_of(kind: Attribute, cell: str) -> float | None:
    """Read the target that a cell says, NaN if it is empty, None if it says none."""
    if not cell:
        return math.nan
    match kind:
        case Categorical(_, choices) | Ordinal(_, choices):
            return float(choices.index(cell)) if cell in choices else None
        case Number():
            return number(cell)
    text = cell.lower()
    return 1.0 if text in YES else 0.0 if text in NO | MINUS else None


def number(cell: str) -> float | None:
    """Read a number, also one with a decimal comma.

    Example:
        >>> number("3,5"), number("tall")
        (3.5, None)
    """
    try:
        value = float(re.sub(r"^(-?\d+),(\d+)$", r"\1.\2", cell))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def meaning(kind: Attribute) -> str:
    """Say what the cells of a kind may be."""
    match kind:
        case Categorical(_, choices) | Ordinal(_, choices):
            return f"one of {', '.join(choices)}"
        case Number():
            return "a number"
    return "yes or no (1 or 0, true or false)"
