"""Sphinx: mends what axe-core finds in the pages that Sphinx and furo write."""

from typing import Any

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    """Let the keyboard reach what scrolls, and say of the lists in signatures that they are layout."""
    app.add_js_file("scrollable.js", loading_method="defer")
    app.connect("html-page-context", _mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _mend(_app: Sphinx, _page: str, _template: str, context: dict[str, Any], *_: Any) -> None:
    parameters = '<dl{}>\n<dd><em class="sig-param">'  # Sphinx's, one a line: descriptions without terms
    if "body" in context:
        context["body"] = context["body"].replace(parameters.format(""), parameters.format(' role="presentation"'))
