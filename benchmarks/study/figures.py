"""The study's figures, drawn from its results."""

from pathlib import Path
from statistics import median

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator
from results import SCORES, Results
from rows import BY_NAME, OURS, RARE
from words import plain_title, rule_title

BLUE, ORANGE, GRAY = "#2a78b8", "#d9822b", "#8a9099"


def draw_differences(lfwa: Results, images: Path) -> None:
    """Draw every row's distance from FARAMTN in accuracy and balanced accuracy."""
    _style()
    names = [n for n in lfwa.rows() if n != OURS and BY_NAME[n].section != RARE]
    names.sort(key=lambda n: lfwa.mean(n, "accuracy"))
    found = lfwa.comparisons()
    figure, axes = plt.subplots(1, 2, figsize=(9, 0.24 * len(names) + 1.1), sharey=True, layout="constrained")
    for axis, score in zip(axes, list(SCORES)[:2], strict=True):
        axis.axvline(0, color=BLUE, linewidth=1)
        for place, name in enumerate(names):
            d = found[name, OURS, score]
            color = GRAY if d.words == "no difference" else BLUE if d.words == "more" else ORANGE
            axis.plot([-100 * d.high, -100 * d.low], [place, place], color=color, linewidth=1.5)
            axis.plot(-100 * d.mean, place, "o", color=color, markersize=4)
        axis.set_title(f"{SCORES[score]}, minus FARAMTN's", fontsize=9)
        axis.set_xlabel("points")
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.grid(axis="x", color="#e4e6ea", linewidth=0.6)
    axes[0].set_yticks(range(len(names)), [plain_title(n).replace("`", "") for n in names])
    figure.savefig(images / "study-lfwa.svg", metadata={"Date": None})
    plt.close(figure)


def draw_tasks(results: Results, images: Path) -> None:
    """Draw what is left of the worst task's loss, and how unevenly all ended, under each rule."""
    _style()
    names = [name for name in results.runs if name.endswith("sgd")]
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True, layout="constrained")
    for axis, (key, title) in zip(
        axes,
        (("spread_in_the_end", "spread of the loss left, in the end"), ("worst", "loss left of the worst task")),
        strict=True,
    ):
        limit = 1.8 * median(results.mean(name, key) for name in names)
        for place, name in enumerate(names):
            mean, values = results.mean(name, key), list(results.by_seed(name, key).values())
            color = BLUE if name.startswith("dws") else GRAY
            if mean < limit:
                axis.plot(values, [place] * len(values), "o", color=color, alpha=0.35, markersize=4)
                axis.plot(mean, place, "|", color=color, markersize=14, markeredgewidth=2)
            else:
                axis.text(0.98 * limit, place, f"beyond, {mean:.2g}", ha="right", va="center")
        axis.set_title(title, fontsize=9)
        axis.set_xlim(0, limit)
        axis.grid(axis="x", color="#e4e6ea", linewidth=0.6)
    axes[0].set_yticks(range(len(names)), [rule_title(n).replace("*", "") for n in names])
    axes[0].invert_yaxis()
    figure.savefig(images / "study-tasks.svg", metadata={"Date": None})
    plt.close(figure)


def _style() -> None:
    mpl.rcParams |= {"svg.hashsalt": "mtattn", "svg.fonttype": "none", "font.size": 9}
    mpl.rcParams |= {"axes.spines.top": False, "axes.spines.right": False}
