"""Sphinx: the directive ``interactive`` puts the page's parts in place, and the files that they need beside them."""

import base64
import gzip
import html
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from string import Template
from typing import Any

from docutils import nodes
from interactive import demo
from interactive.npm import CACHE, RUNTIME, fetch
from interactive.switches import export_switchable
from PIL.Image import Image
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from mtattn import FARAMTN

HERE = Path(__file__).parent
LICENSE = HERE.parents[1] / "LICENSE"
MISSING = f"""<div class="admonition warning"><p class="admonition-title">The runtime is missing</p>
<p>This copy of the site was built where the npm registry could not be reached, so nothing can be computed here.
Download <a href="https://registry.npmjs.org/{RUNTIME.name}/-/{RUNTIME.tarball}">{RUNTIME.tarball}</a>, put it into
<code>docs/_cache/npm</code> and build the site again.</p></div>"""


class Interactive(SphinxDirective):
    """Insert the faces, the attributes of each group with their switches, and the table of affinities."""

    def run(self) -> list[nodes.Node]:
        """Write them as HTML; other builders get nothing."""
        self.env.metadata[self.env.docname]["interactive"] = "yes"
        return [nodes.raw("", fragment(shown(), runtime() is not None), format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive, and the files of the pages that have it."""
    app.add_directive("interactive", Interactive)
    app.connect("html-page-context", _add_files)
    app.connect("build-finished", _write_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


@lru_cache(maxsize=1)
def shown() -> demo.Demo:
    """Load what is shown, once a build."""
    return demo.demo()


@lru_cache(maxsize=1)
def runtime() -> str | None:
    """Write onnxruntime-web as a script that holds it, under the MIT license as we are, or say why there is none."""
    try:
        parts = {
            "module": fetch(RUNTIME, "dist/ort.wasm.bundle.min.mjs"),
            "wasm": fetch(RUNTIME, "dist/ort-wasm-simd-threaded.wasm"),
        }
    except OSError as error:
        say = logging.getLogger(__name__).info
        say(f"interactive page: no {RUNTIME.tarball} ({error}); put it into {CACHE} and build again")
        return None
    notice = re.sub(r"Copyright .*", "Copyright (c) Microsoft Corporation", LICENSE.read_text(encoding="utf-8"))
    packed = {name: pack(part) for name, part in parts.items()}
    return f"/* ONNX Runtime Web {RUNTIME.version}\n\n{notice}*/\nconst packedRuntime = {json.dumps(packed)};\n"


def pack(content: bytes) -> str:
    """Compress bytes into letters: a page opened from a file may load scripts, but no other files."""
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()


def write_files(folder: Path, model: FARAMTN, runtime_script: str | None) -> None:
    """Write all files that the page loads."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("page.css", "page.js", "load.js", "picture.js"):
        (folder / name).write_bytes((HERE / name).read_bytes())
    (folder / "model.js").write_text(f'const packedModel = "{pack(export_switchable(model))}";\n', encoding="utf-8")
    if runtime_script is not None:
        (folder / "runtime.js").write_text(runtime_script, encoding="utf-8")


def fragment(what: demo.Demo, has_runtime: bool) -> str:
    """Write the page's parts as they look before anything is computed, so that nothing moves later."""
    model = what.model
    told = {"image": model.config["image"], "groups": {name: list(members) for name, members in model.groups.items()}}
    first = what.faces[0].picture
    return Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(
        notice="" if has_runtime else MISSING,
        state="ready" if has_runtime else "missing",
        told=json.dumps(told).replace("<", "\\u003c"),
        faces="\n".join(_face(*face, chosen=index == 0) for index, face in enumerate(what.faces)),
        first=_data(first),
        first_alt=_alt(what.faces[0].shows),
        width=first.width,
        height=first.height,
        groups="\n".join(_group(*group) for group in model.groups.items()),
        speakers="".join(f'<th scope="col"><span>{html.escape(name)}</span></th>' for name in model.groups),
        affinity="\n".join(_affinity_row(name, len(model.groups)) for name in model.groups),
        about=html.escape(what.about),
    )


def _face(picture: Image, shows: list[str], *, chosen: bool) -> str:
    pressed = "true" if chosen else "false"
    return (
        f'<button type="button" class="demo-face" aria-pressed="{pressed}">'
        f'<img src="{_data(picture)}" alt="{_alt(shows)}" width="{picture.width}" height="{picture.height}"></button>'
    )


def _data(picture: Image) -> str:
    file = BytesIO()
    picture.save(file, "WEBP", lossless=True)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def _alt(shows: list[str]) -> str:
    return html.escape(f"Drawn face: {', '.join(map(_words, shows))}")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _group(name: str, members: tuple[str, ...]) -> str:
    title = html.escape(name)
    rows = "\n".join(_row(member) for member in members)
    switches = "\n".join(
        f'<button type="button" role="switch" aria-checked="true" aria-label="{part.title()} of {title}" '
        f'data-part="{part}">{part}</button>'
        for part in ("gate", "listening")
    )
    return f"""<section aria-label="{title}">
<div class="demo-head"><h2>{title}</h2>
{switches}
</div>
<ul>
{rows}
</ul>
</section>"""


def _row(attribute: str) -> str:
    name = html.escape(attribute)
    return (
        f'<li><button type="button" class="demo-row" aria-pressed="false" data-attribute="{name}">'
        f'<span class="demo-name">{_words(name)}</span><span class="demo-bar"><span></span><i hidden></i></span>'
        '<span class="demo-number">&ndash;</span><span class="demo-change"></span></button></li>'
    )


def _affinity_row(listener: str, num_groups: int) -> str:
    return f'<tr><th scope="row">{html.escape(listener)}</th>{"<td>&ndash;</td>" * num_groups}</tr>'


def _has_page(app: Sphinx, name: str) -> bool:
    return app.builder.format == "html" and "interactive" in app.env.metadata.get(name, {})


def _add_files(app: Sphinx, name: str, *_: Any) -> None:
    if _has_page(app, name):
        app.add_css_file("interactive/page.css")
        for script in ("load.js", "picture.js", "page.js"):
            app.add_js_file(f"interactive/{script}", loading_method="defer")


def _pages(app: Sphinx) -> Iterator[str]:
    return (name for name in app.env.found_docs if _has_page(app, name))


def _write_files(app: Sphinx, error: Exception | None) -> None:
    if error is None and any(_pages(app)):
        write_files(Path(app.outdir) / "_static/interactive", shown().model, runtime())
