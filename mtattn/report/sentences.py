"""What a run achieved, in sentences that stay true whatever the numbers are."""

import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, SupportsFloat

from mtattn.report.numbers import SPACE, Scores, gain, number, percent, points

Attributes = Mapping[str, Scores]


def headline(metrics: Mapping[str, Any]) -> list[str]:
    """Tell what one split's scores say, plain text, the main thing first."""
    attributes: Attributes = metrics["attributes"]
    if "mean_skill" in metrics:
        return _of_every_kind(metrics["mean_skill"], attributes)
    labelled = {name: row for name, row in attributes.items() if not math.isnan(number(row["accuracy"]))}
    if not labelled:
        without = all(math.isnan(number(row["majority_accuracy"])) for row in attributes.values())
        why = "The test split has no labels" if without else "The model's predictions are not numbers (NaN)"
        return [f"{why}, so nothing can be said about the model."]
    sentences = [_accuracy(metrics, len(labelled)), _beyond_accuracy(metrics)]
    sentences += [*_best_and_worst(labelled), _against_baseline(labelled)]
    return [sentence for sentence in [*sentences, _undefined(attributes)] if sentence]


def goal_in_words(goal: str) -> str:
    """Write what thresholds were chosen for as people read it.

    Example:
        >>> goal_in_words("balanced_accuracy"), goal_in_words("cost=5")
        ('balanced accuracy', 'least cost, a miss counting 5 false alarms')
    """
    name, _, value = goal.partition("=")
    stated = {"precision": f"a precision of {value}", "cost": f"least cost, a miss counting {value} false alarms"}
    return stated.get(name, name.replace("_", " ").replace("f1", "F1"))


def gap_sentence(column: str, gaps: Mapping[str, Mapping[str, Any] | None]) -> str:
    """Tell the largest gaps between the values of a column; empty where no two can be compared."""
    told = [
        f"{score.removeprefix('mean_').replace('_', ' ').replace('f1', 'F1')} {100 * number(gap['gap']):.1f} points "
        f"({gap['from']} below {gap['to']})"
        for score, gap in gaps.items()
        if gap is not None
    ]
    return f"Largest gaps by {column}: {'; '.join(told)}." if told else ""


def _of_every_kind(mean_skill: SupportsFloat | None, attributes: Attributes) -> list[str]:
    skills = {name: number(row["skill"]) for name, row in attributes.items() if not math.isnan(number(row["skill"]))}
    if not skills:
        return ["No skill can be told of any attribute: labels or predictions are missing."]
    sentences = [
        f"The mean skill on the test split over {_count(skills)} is {percent(mean_skill, 2)}: 0{SPACE}% is the best "
        f"answer without a look at the image, 100{SPACE}% is no error at all."
    ]
    ranked = sorted(skills, key=lambda name: -skills[name])
    if shown := min(3, len(ranked) // 2):
        best, worst = ranked[:shown], ranked[: -shown - 1 : -1]
        sentences.append(
            f"Best: {_listed([f'{name} ({percent(skills[name])})' for name in best])}. "
            f"Worst: {_listed([f'{name} ({percent(skills[name])})' for name in worst])}."
        )
    behind = [name for name in reversed(ranked) if not skills[name] > 0]
    if behind:
        sentences.append(f"No better than that answer: {_listed(behind)}.")
    if undefined := [name for name in attributes if name not in skills]:
        sentences.append(f"Without a skill, because labels or predictions are missing or alike: {_listed(undefined)}.")
    return sentences


def _accuracy(metrics: Mapping[str, Any], num_attributes: int) -> str:
    accuracy, majority = number(metrics["mean_accuracy"]), number(metrics["majority_accuracy"])
    difference = round(100 * accuracy, 2) - round(100 * majority, 2)
    verdict = f"{abs(difference):.2f} points {'above' if difference > 0 else 'below'}" if difference else "level with"
    over = f"over {num_attributes} attributes" if num_attributes > 1 else "of the one attribute"
    return (
        f"The mean accuracy on the test split {over} is {percent(accuracy, 2)}, {verdict} the majority baseline: "
        f"always answering with the class that is more frequent in the training split gets {percent(majority, 2)}."
    )


def _beyond_accuracy(metrics: Mapping[str, Any]) -> str:
    balanced, precision, f1 = (
        number(metrics[f"mean_{score}"]) for score in ("balanced_accuracy", "average_precision", "f1")
    )
    parts = []
    if not math.isnan(balanced):
        parts.append(
            f"the mean balanced accuracy is {percent(balanced, 2)}, where the majority baseline gets 50{SPACE}%"
        )
    if not math.isnan(precision):
        parts.append(f"the mean average precision is {percent(precision, 2)} and the mean F1 {percent(f1, 2)}")
    text = "; ".join(parts)
    return text and f"{text[0].upper()}{text[1:]}."


def _best_and_worst(attributes: Attributes) -> list[str]:
    scores = {name: number(row["balanced_accuracy"]) for name, row in attributes.items()}
    ranked = sorted((name for name in scores if not math.isnan(scores[name])), key=lambda name: -scores[name])
    shown = min(3, len(ranked) // 2)
    if not shown:
        return []
    best, worst = ranked[:shown], ranked[: -shown - 1 : -1]
    return [
        f"Best by balanced accuracy: {_listed([f'{name} ({percent(scores[name])})' for name in best])}. "
        f"Worst: {_listed([f'{name} ({percent(scores[name])})' for name in worst])}."
    ]


def _against_baseline(attributes: Attributes) -> str:
    gains = {name: gain(row) for name, row in attributes.items()}
    behind = sorted((name for name in gains if not gains[name] > 0), key=gains.__getitem__)
    if not behind:
        each = f"Each of the {len(gains)} attributes" if len(gains) > 1 else "The one attribute"
        return f"{each} has a higher accuracy than its majority baseline."
    named = _listed([f"{name} ({points(gains[name])} points)" for name in behind])
    verb = "is" if len(behind) == 1 else "are"
    return f"{len(behind)} of {_count(gains)} {verb} not more accurate than the majority baseline: {named}."


def _undefined(attributes: Attributes) -> str:
    spoilt = [name for name, row in attributes.items() if math.isnan(number(row["accuracy"]))]
    without = [name for name in spoilt if math.isnan(number(attributes[name]["majority_accuracy"]))]
    broken = [name for name in spoilt if name not in without]
    partly = [
        name
        for name, row in attributes.items()
        if name not in spoilt and any(math.isnan(number(score)) for score in row.values())
    ]
    parts = []
    if without:
        parts.append(f"Without labels in the test split, and so counted nowhere: {_listed(without)}.")
    if broken:
        parts.append(f"With predictions that are not numbers (NaN), and so counted nowhere: {_listed(broken)}.")
    if partly:
        parts.append(f"With all labels alike, so that the means skip some of their scores: {_listed(partly)}.")
    return " ".join(parts)


def _count(attributes: Mapping[str, Any]) -> str:
    return f"{len(attributes)} attribute{'' if len(attributes) == 1 else 's'}"


def _listed(names: Sequence[str], most: int = 10) -> str:
    shown = [*names[: most - 1], f"{len(names) - most + 1} more"] if len(names) > most else list(names)
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else shown[0]


def breakable(name: str) -> str:
    """Escape a name and let its line break after underscores and between words that are written together.

    Example:
        >>> breakable("Big_Lips"), breakable("footwearLeatherShoes")
        ('Big_<wbr>Lips', 'footwear<wbr>Leather<wbr>Shoes')
    """
    return re.sub("(?<=[a-z])(?=[A-Z])", "<wbr>", escape(name)).replace("_", "_<wbr>")
