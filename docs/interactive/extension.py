"""Sphinx: the directive ``interactive`` puts the page's parts in place, and the files that they need beside them."""

import base64
import gzip
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from docutils import nodes
from interactive import demo
from interactive.fragment import fragment
from interactive.npm import CACHE, RUNTIME, fetch
from interactive.switches import export_switchable
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

HERE = Path(__file__).parent
LICENSE = HERE.parents[1] / "LICENSE"
DRAWING = HERE.parents[1] / "mtattn/serving/page/map.js"  # the server's page draws with it, too
FILES = [HERE / "page.css", DRAWING, *(HERE / name for name in ("load.js", "picture.js", "page.js"))]


class Interactive(SphinxDirective):
    """Insert the faces, the attributes of each group with their switches, and the table of affinities."""

    def run(self) -> list[nodes.Node]:
        """Write them as HTML; other builders get nothing."""
        self.env.metadata[self.env.docname]["interactive"] = "yes"
        self.env.note_reread()  # the model or the runtime may be another one than in the last build
        return [nodes.raw("", fragment(shown(), runtime() is not None), format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive, and the files of the pages that have it."""
    app.add_directive("interactive", Interactive)
    app.connect("html-page-context", _add_files)
    app.connect("build-finished", _write_data)
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


def _has_page(app: Sphinx, name: str) -> bool:
    return app.builder.format == "html" and "interactive" in app.env.metadata.get(name, {})


def _add_files(app: Sphinx, name: str, *_: Any) -> None:
    if not _has_page(app, name):
        return
    folder = _folder(app)
    folder.mkdir(parents=True, exist_ok=True)
    style, *scripts = FILES
    for file in FILES:
        (folder / file.name).write_bytes(file.read_bytes())
    app.add_css_file(f"interactive/{style.name}")
    for file in scripts:
        app.add_js_file(f"interactive/{file.name}", loading_method="defer")


def _write_data(app: Sphinx, error: Exception | None) -> None:
    if error is not None or not any(_has_page(app, name) for name in app.env.found_docs):
        return
    model = pack(export_switchable(shown().model))
    (_folder(app) / "model.js").write_text(f'const packedModel = "{model}";\n', encoding="utf-8")
    if (script := runtime()) is not None:
        (_folder(app) / "runtime.js").write_text(script, encoding="utf-8")


def _folder(app: Sphinx) -> Path:
    return Path(app.outdir) / "_static/interactive"
