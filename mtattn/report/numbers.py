"""How scores are read and written out."""

import math
from collections.abc import Mapping
from typing import SupportsFloat

ALIKE = 0.05  # a share of what groups hear; where less differs between them, the rows of an affinity mean little
UNDEFINED, MINUS, SPACE = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"
Scores = Mapping[str, SupportsFloat | None]


def number(value: SupportsFloat | None) -> float:
    """Read null as NaN, so that metrics are the same before and after the file."""
    return math.nan if value is None else float(value)


def gain(scores: Scores) -> float:
    """Subtract the baseline's accuracy from the accuracy, NaN where either is undefined."""
    return number(scores["accuracy"]) - number(scores["majority_accuracy"])


def percent(value: SupportsFloat | None, digits: int = 1) -> str:
    """Write a share in percent, or a dash where it is undefined; what rounds to zero is not negative.

    Example:
        >>> percent(0.9063, 2).split(), percent(-0.0001).split()
        (['90.63', '%'], ['0.0', '%'])
    """
    share = number(value)
    return UNDEFINED if math.isnan(share) else f"{100 * share:z.{digits}f}{SPACE}%".replace("-", MINUS)


def points(difference: float, digits: int = 1, *, plus: str = "+") -> str:
    """Write a difference of shares in percentage points, with its sign; what rounds to zero is not negative.

    Example:
        >>> points(0.1002), points(-0.0001), points(0.1002, plus="")
        ('+10.0', '+0.0', '10.0')
    """
    text = f"{100 * difference:+z.{digits}f}".replace("-", MINUS).replace("+", plus)
    return UNDEFINED if math.isnan(difference) else text
