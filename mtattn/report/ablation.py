"""What each part of a model does on the test images, in sentences, a table and a figure."""

import math
from collections.abc import Iterator
from typing import NamedTuple

from mtattn.ablation import Ablations, Change, Effect, Link
from mtattn.report.numbers import ALIKE, SPACE, points

_WITHOUT = {
    ("positions", "uniform ones"): "positions (every group sees the whole picture alike)",
    ("positions", "their mean over images"): "positions that depend on the image",
    ("gates", "one half"): "channel gates",
    ("gates", "their mean over images"): "gates that depend on the image",
    ("exchange", "its mean over images"): "exchange (every group hears the same for all images)",
    ("affinity", "uniform weights"): "preferences (every group listens to all groups alike)",
}


def matters(change: Change) -> bool:
    """Tell whether the interval of a change lies on one side of zero."""
    return change.low > 0 or change.high < 0


def ablation_sentences(found: Ablations) -> list[str]:
    """Tell what the trained model loses without each part, and which links between groups matter."""
    effects = {(effect.part, effect.by): effect for effect in found.effects}
    said = [_without(words, effects[key]) for key, words in _WITHOUT.items() if key in effects]
    return [*said, *_alike(found), *_strongest_links(found.links)]


def shown_links(found: Ablations) -> list[Link]:
    """Return the links if one of them changes its listener's mean score beyond the noise; the others say nothing."""
    return found.links if any(matters(link.mean) for link in found.links) else []


def _without(words: str, effect: Effect) -> str:
    change, (name, worst) = effect.mean, min(effect.attributes.items(), key=lambda item: _or_zero(item[1].value))
    text = f"Without {words}, the mean score changes by {_in_points(change)}"
    if not matters(change):
        return f"{text}, which is within the noise."
    return f"{text}, most of all {name}: {points(worst.value)}." if worst.value < 0 else f"{text}."


def _alike(found: Ablations) -> Iterator[str]:
    if not math.isnan(found.differing):
        share = f"{100 * found.differing:.1f}{SPACE}%"
        alike = found.differing < ALIKE
        end = ": all groups hear about the same, whatever the affinity says" if alike else ""
        yield f"Of what the groups hear, {share} differs from group to group{end}."


class _Cost(NamedTuple):
    link: Link
    attribute: str
    change: Change


def _strongest_links(links: list[Link]) -> Iterator[str]:
    costs = [_Cost(link, *item) for link in links for item in link.attributes.items() if item[1].value < 0]
    costs.sort(key=lambda cost: cost.change.value)
    beyond_noise = [cost for cost in costs if matters(cost.change)]
    named, others = beyond_noise[:3], beyond_noise[3:]
    for cost in named:
        link, value, low, high = cost.link, *(points(-number, plus="") for number in cost.change)
        heard = f"what {link.listener} hears from {link.speaker}"
        yield f"Averaging over images {heard} costs {cost.attribute} {value} points ({high} to {low})."
    if others:
        yield f"No other link costs an attribute more than {points(-others[0].change.value, plus='')} points."
    elif links:
        only = "other" if named else "single"
        yield f"No {only} link between two groups changes the score of an attribute beyond the noise."


def _in_points(change: Change) -> str:
    return f"{points(change.value)} points ({points(change.low)} to {points(change.high)})"


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value
