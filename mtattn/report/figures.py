"""The figures of a run as matplotlib figures, made without pyplot's global state."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mtattn._extras import needed_by
from mtattn.ablation import Link
from mtattn.groups import AttributeGroups
from mtattn.report.numbers import ALIKE, Scores, gain, number, points

with needed_by("mtattn.report", extra="recipes"):
    from matplotlib.axes import Axes
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.ticker import FixedLocator, MaxNLocator

# The page replaces these two by its own, which follow the reader's light or dark mode.
INK, GRID = "#1f2328", "#d8dee4"
# Every other colour stands out by at least 3 : 1 from white and from the dark page alike.
BETTER, WORSE, BASELINE = "#2f7ed8", "#d9730d", "#7a828c"
COLORS = (BETTER, WORSE, "#2b9348", "#d6336c", "#7c5cd6", "#0c8599", "#9a7d0a", BASELINE)
DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))


def plot_attribute_bars(metrics: Mapping[str, Any], groups: AttributeGroups) -> Figure:
    """Draw every attribute's accuracy beside its majority baseline, and its balanced accuracy beside one half.

    Args:
        metrics: One split's scores, as :meth:`mtattn.metrics.AttributeMetrics.compute` returns them.
        groups: The attributes of each group; within a group the largest gain stands first.

    Example:
        >>> scores = {"accuracy": 0.9, "majority_accuracy": 0.8, "balanced_accuracy": 0.7}
        >>> figure = plot_attribute_bars({"attributes": {"Smiling": scores}}, AttributeGroups({"mouth": ["Smiling"]}))
        >>> [axes.get_title() for axes in figure.axes]
        ['accuracy, %', 'balanced accuracy, %']
    """
    rows = _bar_rows(metrics["attributes"], groups)
    figure = Figure(figsize=(7.6, 1.1 + 0.2 * len(rows)), layout="constrained")
    plain, balanced = figure.subplots(1, 2, sharey=True)
    for place, (_, scores) in enumerate(rows):
        if scores is not None:
            _bar(plain, place, number(scores["accuracy"]), number(scores["majority_accuracy"]))
            _bar(balanced, place, number(scores["balanced_accuracy"]), 0.5)
    for axes, title in ((plain, "accuracy, %"), (balanced, "balanced accuracy, %")):
        axes.set(xlim=(0, 124), xticks=range(0, 101, 20), ylim=(len(rows) - 0.4, -0.8))
        axes.set_title(title, fontsize=9.5, color=INK)
        dress(axes, grid="x")
    plain.set_yticks(range(len(rows)), [shorten(name) for name, _ in rows], parse_math=False)
    for label, (_, scores) in zip(plain.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if scores is None else "normal")
    for axes in (plain, balanced):
        axes.tick_params(axis="y", length=0)
    figure.legend(
        handles=[
            Patch(color=BASELINE, alpha=0.45, label="baseline"),
            Patch(color=BETTER, label="gained over it"),
            Patch(color=WORSE, label="lost to it"),
        ],
        **_LEGEND,
        ncols=3,
    )
    return figure


def plot_loss_left(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw, for each group, the fraction of its first epoch's loss that is left after each epoch.

    Args:
        history: One mapping an epoch with ``"epoch"`` and ``"loss_left"`` by group; None where there were no labels.

    Example:
        >>> history = [{"epoch": epoch, "loss_left": {"eyes": 1 / epoch}} for epoch in (1, 2, 3)]
        >>> plot_loss_left(history).axes[0].get_ylabel()
        'loss left, fraction of epoch 1'
    """
    figure, axes = _plot_groups(history, "loss_left")
    axes.set_ylabel("loss left, fraction of epoch 1", fontsize=9, color=INK)
    axes.set_ylim(bottom=0)
    return figure


def plot_weights(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw, for each group, the weight of its loss in each epoch; the weights average to 1.

    Args:
        history: One mapping an epoch with ``"epoch"`` and ``"weights"`` by group.

    Example:
        >>> history = [{"epoch": epoch, "weights": {"eyes": 0.8, "hair": 1.2}} for epoch in (1, 2, 3)]
        >>> plot_weights(history).axes[0].get_ylabel()
        'weight of the loss'
    """
    figure, axes = _plot_groups(history, "weights")
    axes.set_ylabel("weight of the loss", fontsize=9, color=INK)
    axes.axhline(1, color=BASELINE, linewidth=1, zorder=1)
    return figure


def plot_links(links: Sequence[Link], groups: AttributeGroups, *, differing: float = math.nan) -> Figure:
    """Draw what each group (row) gains by hearing each other group (column), in points, above the affinity in percent.

    Args:
        links: One for each pair of two groups, as :func:`mtattn.ablation.measure_ablations` measures them.
        groups: Their names.
        differing: The share of what the groups hear that differs between them; where it is small, the figure says that
            the affinity does not tell who listens to whom.

    Example:
        >>> groups = AttributeGroups({"eyes": ["Eyeglasses"], "mouth": ["Smiling"]})
        >>> from mtattn.ablation import Change, Link
        >>> links = [Link("eyes", "mouth", 0.3, Change(-0.021, -0.03, -0.01), {})]
        >>> [text.get_text() for text in plot_links(links, groups).axes[0].texts]
        ['+2.1', '30 %']
    """
    size, indices = len(groups), {name: index for index, name in enumerate(groups)}
    names, places = [shorten(name, 18) for name in groups], [index + 0.5 for index in range(size)]
    margin = 0.3 + 0.085 * max(map(len, names))
    figure = Figure(figsize=(1.4 * margin + 0.46 * size, margin + 0.44 * size), layout="constrained")
    axes = figure.subplots()
    largest = max((abs(link.mean.value) for link in links), default=0) or 1
    cells = [[(*to_rgb(BETTER), 0.0)] * size for _ in range(size)]
    for link in links:
        row, column, gained = indices[link.listener], indices[link.speaker], -link.mean.value
        cells[row][column] = (*to_rgb(BETTER if gained > 0 else WORSE), 0.78 * abs(gained) / largest)
        if size <= 16:
            for text, height, font in ((points(gained), 0.4, 8.5), (f"{100 * link.weight:.0f} %", 0.75, 6.5)):
                axes.text(column + 0.5, row + height, text, ha="center", va="center", fontsize=font, color=INK)
    axes.pcolormesh(cells)
    axes.set(xlim=(0, size), ylim=(size, 0))
    axes.set_xticks(places, names, rotation=40, ha="left", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(places, names, parse_math=False)
    axes.xaxis.tick_top()
    dress(axes, grid=None)
    axes.tick_params(length=0)
    if differing < ALIKE:
        warning = f"{100 * differing:.1f} % of what groups hear differs between them:\nthe percentages tell nothing"
        figure.supxlabel(warning, fontsize=8.5, color=INK)
    return figure


_LEGEND: dict[str, Any] = {"loc": "outside lower center", "frameon": False, "fontsize": 8.5, "labelcolor": INK}


def _bar_rows(attributes: Mapping[str, Scores], groups: AttributeGroups) -> list[tuple[str, Scores | None]]:
    """List group headings, each followed by its attributes, the largest gain first and the undefined last."""
    rows: list[tuple[str, Scores | None]] = []
    for group, members in groups.items():
        ranked = sorted(members, key=lambda name: _rank(gain(attributes[name])))
        rows += [(group, None), *((name, attributes[name]) for name in ranked)]
    return rows


def _rank(value: float) -> float:
    return math.inf if math.isnan(value) else -value


def _bar(axes: Axes, place: int, score: float, baseline: float) -> None:
    if math.isnan(score) or math.isnan(baseline):
        axes.text(1, place, "undefined", va="center", fontsize=8, style="italic", color=INK)
        return
    low, high = 100 * min(score, baseline), 100 * max(score, baseline)
    axes.barh(place, low, height=0.66, color=BASELINE, alpha=0.45)
    axes.barh(place, high - low, left=low, height=0.66, color=BETTER if score > baseline else WORSE)
    text = f"{100 * score:.1f} ({points(score - baseline)})"
    axes.text(high + 1.5, place, text, va="center", fontsize=7.5, color=INK)


def _plot_groups(history: Sequence[Mapping[str, Any]], key: str) -> tuple[Figure, Axes]:
    names = list(history[0][key]) if history else []
    num_columns = 4 if max(map(len, names), default=0) <= 10 else 2
    figure = Figure(figsize=(4.4, 2.7 + 0.19 * math.ceil(len(names) / num_columns)), layout="constrained")
    axes = figure.subplots()
    epochs = [epoch["epoch"] for epoch in history]
    lines = []
    for index, name in enumerate(names):
        values = [number(epoch[key].get(name)) for epoch in history]
        style: dict[str, Any] = {
            "color": COLORS[index % len(COLORS)],
            "linestyle": DASHES[index // len(COLORS) % len(DASHES)],
        }
        lines += axes.plot(epochs, values, **style, linewidth=1.8, marker="o", markersize=3.2, zorder=2)
    axes.set_xlabel("epoch", fontsize=9, color=INK)
    axes.xaxis.set_major_locator(FixedLocator(epochs) if len(epochs) <= 12 else MaxNLocator(integer=True))
    dress(axes, grid="y")
    _name_lines(figure, lines, names, num_columns)
    return figure, axes


def _name_lines(figure: Figure, lines: list[Line2D], names: list[str], num_columns: int) -> None:
    legend = figure.legend(lines, [" "] * len(lines), **_LEGEND, ncols=num_columns, handlelength=2.2)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(shorten(name, 26))  # here, because a label that starts with an underscore would be left out


def dress(axes: Axes, *, grid: Literal["x", "y"] | None) -> None:
    """Give axes the look that all figures have."""
    axes.tick_params(colors=INK, labelsize=8.5)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if grid is not None:
        axes.grid(axis=grid, color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(axis=grid, length=0)


def shorten(name: str, width: int = 28) -> str:
    """Cut a name to so many characters, on one line."""
    name = " ".join(name.split())
    return name if len(name) <= width else name[: width - 1] + "…"
