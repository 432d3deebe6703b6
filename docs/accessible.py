"""Sphinx: fixes what axe-core finds in the pages that Sphinx and furo write."""

from typing import Any

from sphinx.application import Sphinx

PARTS = ("body", "furo_navigation_tree")
MENDED = {
    '<dl>\n<dd><em class="sig-param">': '<dl role="presentation">\n<dd><em class="sig-param">',  # dd without dt
    'class="caption" role="heading">': 'class="caption" role="heading" aria-level="2">',
}


def setup(app: Sphinx) -> dict[str, Any]:
    """Mend every page, after furo has put its parts together, and let the keyboard reach what scrolls."""
    app.add_css_file("accessible.css", priority=900)
    app.add_js_file("scrollable.js", loading_method="defer")
    app.connect("html-page-context", _fix, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _fix(_app: Sphinx, _page: str, _template: str, context: dict[str, Any], *_: Any) -> None:
    for part in PARTS:
        for broken, fixed in MENDED.items():
            if part in context:
                context[part] = context[part].replace(broken, fixed)
