"""A matplotlib figure as an SVG element that takes its font and colours from the page around it."""

import re
import warnings
from collections.abc import Callable
from html import escape
from io import StringIO

from mtattn._extras import needed_by
from mtattn.report.figures import GRID, INK

with needed_by("mtattn.report", extra="recipes"):
    from matplotlib import rc_context
    from matplotlib.figure import Figure

_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def inline_svg(figure: Figure, label: str) -> str:
    """Draw a figure as one ``<svg>`` element whose text is text.

    Args:
        figure: What to draw.
        label: What it shows, for readers who do not see it; differs from that of every other figure on the page.
    """
    drawn = StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": label}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the reader's fonts draw the text, not these
        figure.savefig(drawn, format="svg", transparent=True, metadata=_NO_METADATA)
    svg = drawn.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    width = 96 * figure.get_size_inches()[0]
    head = (
        f'<svg viewBox="\\1" role="img" aria-label="{_literal(escape(label))}" '
        f'style="max-width:{1.2 * width:.0f}px;min-width:{0.8 * width:.0f}px">'
    )
    svg = re.sub(r'<svg[^>]*viewBox="([^"]*)"[^>]*>', head, svg, count=1)
    return _without_idle_ids(_in_tags(_as_the_page, svg))


def _in_tags(change: Callable[[str], str], svg: str) -> str:
    """Change what stands in tags; texts, which may be anybody's names, stay as they are."""
    return re.sub(r"<[^>]*>", lambda tag: change(tag[0]), svg)


def _as_the_page(tag: str) -> str:
    tag = tag.replace(INK, "currentColor").replace(GRID, "var(--grid)")
    return re.sub(r"(font: [^;\"]*?px) [^;\"]*", r"\1 inherit", tag)


def _literal(text: str) -> str:
    return text.replace("\\", r"\\")


def _without_idle_ids(svg: str) -> str:
    """Drop the ids that nothing refers to, because several figures on one page share them."""
    used = set(re.findall(r"#([\w.-]+)", svg))

    def dropped(tag: str) -> str:
        return re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", tag)

    return _in_tags(dropped, svg)
