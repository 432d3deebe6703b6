"""Figures and words for attributes that are not binary: skill, confusion, predicted against true."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mtattn._extras import needed_by
from mtattn.groups import Attribute, AttributeGroups, Categorical, Number, Ordinal
from mtattn.report.faces import FaceExample
from mtattn.report.figures import BASELINE, BETTER, INK, WORSE, dress, shorten
from mtattn.report.numbers import number, points

with needed_by("mtattn.report", extra="recipes"):
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure

Pairs = Mapping[str, tuple[Float[Tensor, " image"], Float[Tensor, " image"]]]
_MOST_NUMBERED = 12  # classes; above, the squares are too small for text


def is_mixed(groups: AttributeGroups) -> bool:
    """Tell whether an attribute is not binary.

    Example:
        >>> is_mixed(AttributeGroups({"mouth": ["Smiling"]})), is_mixed(AttributeGroups({"face": [Number("age")]}))
        (False, True)
    """
    return not all(isinstance(kind, str) for kind in groups.kinds)


def choices_of(kind: Attribute) -> tuple[str, ...]:
    """Return the classes or levels of an attribute; of other kinds there are none."""
    match kind:
        case Categorical(_, choices) | Ordinal(_, choices):
            return choices
    return ()


def plot_skill_bars(metrics: Mapping[str, Any], groups: AttributeGroups) -> Figure:
    """Draw how far each attribute is from its baseline, 0, to no error at all, 100: the one scale of all kinds.

    Example:
        >>> groups = AttributeGroups({"face": ["Smiling", Number("age", unit="years", mean=33, std=20)]})
        >>> scores = {"attributes": {"Smiling": {"skill": 0.5}, "age": {"skill": -0.1}}}
        >>> [text.get_text()[1:] for text in plot_skill_bars(scores, groups).axes[0].texts]
        ['50.0', '10.0']
    """
    rows: list[tuple[str, bool]] = []
    for group, names in groups.items():
        rows += [(group, True), *((name, False) for name in names)]
    figure = Figure(figsize=(7.6, 0.7 + 0.2 * len(rows)), layout="constrained")
    axes = figure.subplots()
    skills = [math.nan if is_group else number(metrics["attributes"][name]["skill"]) for name, is_group in rows]
    for place, ((_, is_group), skill) in enumerate(zip(rows, skills, strict=True)):
        if is_group:
            continue
        shown = 0.0 if math.isnan(skill) else max(skill, -1.0)  # a model may be worse by any amount
        axes.barh(place, 100 * shown, height=0.66, color=BETTER if skill > 0 else WORSE)
        text = "undefined" if math.isnan(skill) else points(skill)
        axes.text(max(100 * shown, 0) + 1.5, place, text, va="center", fontsize=7.5, color=INK)
    lowest = min([0.0, *(max(skill, -1.0) for skill in skills if not math.isnan(skill))])
    axes.set(xlim=(100 * lowest - 2, 112), ylim=(len(rows) - 0.4, -0.8))
    axes.set_title("skill, %", fontsize=9.5, color=INK)
    axes.axvline(0, color=BASELINE, linewidth=1)
    dress(axes, grid="x")
    axes.set_yticks(range(len(rows)), [shorten(name) for name, _ in rows], parse_math=False)
    axes.tick_params(axis="y", length=0)
    for label, (_, is_group) in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if is_group else "normal")
    return figure


def plot_confusion(
    said: Float[Tensor, " image"], truth: Float[Tensor, " image"], kind: Categorical | Ordinal
) -> Figure:
    """Draw what was said of the images of each class or level: a row sums to 100 %.

    Example:
        >>> age = Ordinal("age", ("young", "old"))
        >>> figure = plot_confusion(torch.tensor([0.0, 1, 1, 1]), torch.tensor([0.0, 0, 1, 1]), age)
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['50', '50', '0', '100']
    """
    names = [shorten(choice, 18) for choice in choices_of(kind)]
    size = len(names)
    counts = torch.bincount(truth.long() * size + said.long(), minlength=size * size).view(size, size)
    shares = counts / counts.sum(1, keepdim=True)
    figure = Figure(figsize=(2.2 + 0.42 * size, 1.6 + 0.36 * size), layout="constrained")
    axes = figure.subplots()
    opacity = 0.78 * shares.nan_to_num()
    axes.pcolormesh([[(*to_rgb(BETTER), float(cell)) for cell in row] for row in opacity])
    places = [index + 0.5 for index in range(size)]
    axes.set(xlim=(0, size), ylim=(size, 0))
    axes.set_xticks(places, names, rotation=40, ha="right", rotation_mode="anchor", parse_math=False)
    labels = [f"{name} ({count})" for name, count in zip(names, counts.sum(1).tolist(), strict=True)]
    axes.set_yticks(places, labels, parse_math=False)
    axes.set_xlabel("said", fontsize=9, color=INK)
    axes.set_ylabel("true (images)", fontsize=9, color=INK)
    axes.set_title(f"{shorten(kind.name)}, % of each row", fontsize=9.5, color=INK, parse_math=False)
    dress(axes, grid=None)
    axes.tick_params(length=0)
    if size <= _MOST_NUMBERED:
        for row, column in ((row, column) for row in range(size) for column in range(size)):
            if counts[row].sum():
                text = f"{100 * shares[row, column]:.0f}"
                axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=8, color=INK)
    return figure


def plot_numbers(said: Float[Tensor, " image"], truth: Float[Tensor, " image"], kind: Number) -> Figure:
    """Draw a point an image, the true number below it and the predicted one beside it; right ones lie on the line.

    Example:
        >>> age = Number("age", unit="years", mean=33, std=20)
        >>> plot_numbers(torch.tensor([30.0, 41.0]), torch.tensor([28.0, 50.0]), age).axes[0].get_xlabel()
        'true age, years'
    """
    figure = Figure(figsize=(4.4, 4.2), layout="constrained")
    axes = figure.subplots()
    unit = f", {kind.unit}" if kind.unit else ""
    step = max(1, len(said) // 2000)  # more points hide each other, and weigh on the page
    known = said[::step].isfinite()
    axes.plot(truth[::step][known], said[::step][known], ".", color=BETTER, alpha=0.35, markersize=4)
    low, high = float(truth.min()), float(truth.max())
    axes.plot([low, high], [low, high], color=BASELINE, linewidth=1)
    axes.set_xlabel(f"true {shorten(kind.name)}{unit}", fontsize=9, color=INK, parse_math=False)
    axes.set_ylabel(f"predicted {shorten(kind.name)}{unit}", fontsize=9, color=INK, parse_math=False)
    dress(axes, grid="y")
    return figure


def verdict_of(face: FaceExample, groups: AttributeGroups, name: str) -> tuple[str, bool, int]:
    """Put what is said of an attribute and what is true into a few words, and tell whether it is wrong.

    Returns:
        The words; whether a label contradicts, which no number does; the column whose map shows it best: that of the
        class said, or of the threshold that was nearest.

    Example:
        >>> groups = AttributeGroups({"face": [Number("age", unit="years", mean=33, std=20)]})
        >>> face = FaceExample(torch.zeros(3, 4, 4), torch.ones(1), torch.tensor([31.0]), torch.ones(1, 2, 2))
        >>> verdict_of(face, groups, "age")
        ('53.0 years, truth: 31.0 years', False, 0)
    """
    index, columns = groups.attributes.index(name), groups.columns_of(name)
    kind, target, column = groups.kinds[index], float(face.targets[index]), columns.start
    if isinstance(kind, str):
        probability = float(face.probabilities[column])
        truth = "no label" if math.isnan(target) else f"truth: {'yes' if target >= 0.5 else 'no'}"
        is_wrong = not math.isnan(target) and (probability > 0.5) != (target >= 0.5)
        return f"{100 * probability:.0f} %, {truth}", is_wrong, column
    outputs = face.maps[columns].mean((-2, -1))[None]
    if outputs.isnan().any():
        return "no number (NaN)", False, column
    alone = groups.only([name])
    said, decoded = alone.texts(outputs)[name][0], alone.decode(outputs)[name][0]
    column += int(outputs[0].argmax() if isinstance(kind, Categorical) else outputs[0].abs().argmin())
    if math.isnan(target):
        return f"{said}, no label", False, column
    truth = kind.text(target) if isinstance(kind, Number) else choices_of(kind)[int(target)]
    return f"{said}, truth: {truth}", not isinstance(kind, Number) and decoded != truth, column
