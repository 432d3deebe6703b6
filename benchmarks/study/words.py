"""Numbers and names as the page writes them."""

from typing import Any

from compare import Difference
from rows import BY_NAME


def percent(share: float) -> str:
    """Write a share in percent."""
    return f"{100 * share:.2f}"


def points(difference: Difference, scale: float = 100, digits: int = 2) -> str:
    """Write a difference with its interval."""
    mean, low, high = (f"{scale * value:+.{digits}f}" for value in (difference.mean, difference.low, difference.high))
    return f"{mean} ({low} to {high})"


def marked(difference: Difference, **style: Any) -> str:
    """Write a difference, in bold where it remains after the correction."""
    text = points(difference, **style)
    return text if difference.words == "no difference" else f"**{text}**"


def plain_title(name: str) -> str:
    return BY_NAME[name].title.replace("*", "")


def rule_title(name: str) -> str:
    rule = name.partition(",")[0]
    titles = {
        "equal": "equal weights",
        "dws": "**DWS**, alpha 1",
        "uw": BY_NAME["uw"].title,
        "famo": BY_NAME["famo"].title,
    }
    return titles.get(rule, BY_NAME[rule].title if rule in BY_NAME else rule)
