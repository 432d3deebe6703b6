"""How the gallery's figures look, and what is read out in their place."""

import re
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from sphinx_gallery.scrapers import matplotlib_scraper

from mtattn.report.figures import BASELINE, COLORS, GRID, INK

STYLE = {
    "figure.figsize": (5.4, 3.4),  # narrow, so that the text can still be read on a phone
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",  # also on dark pages: the colours were chosen for it
    "savefig.facecolor": "white",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.edgecolor": BASELINE,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.prop_cycle": mpl.cycler(color=COLORS),
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


def reset(_gallery_conf: dict[str, Any], _script: str) -> None:
    """Give each script the same style, whatever the one before has set."""
    mpl.rcdefaults()
    mpl.rcParams.update(STYLE)


def scrape(block: tuple[str, str, int], block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Save the figures, with their labels as alternative texts."""
    labels = [str(plt.figure(number).get_label()) for number in plt.get_fignums()]
    if not all(labels):
        raise ValueError(f"gallery: a figure of {block_vars['src_file']} has no alternative text; call set_label.")
    text = matplotlib_scraper(block, block_vars, gallery_conf)
    alternatives = iter(labels)
    return re.sub(r":alt: .*", lambda _: f":alt: {next(alternatives)}", text)
