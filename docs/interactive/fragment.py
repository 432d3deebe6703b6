"""The parts of the interactive page as HTML, as they look before anything is computed."""

import base64
import html
import json
from io import BytesIO
from pathlib import Path
from string import Template

from interactive.demo import Demo
from interactive.npm import RUNTIME
from PIL.Image import Image

from mtattn.models import map_centres

PAGE = Path(__file__).with_name("page.html")
MISSING = f"""<div class="admonition warning"><p class="admonition-title">The runtime is missing</p>
<p>This copy of the site was built where npm could not fetch {RUNTIME.name}, so nothing can be computed here. Where it
can, <code>npm pack {RUNTIME.name}@{RUNTIME.version}</code> writes {RUNTIME.tarball}: put that into
<code>docs/_cache/npm</code> and build the site again.</p></div>"""


def fragment(what: Demo, has_runtime: bool) -> str:
    """Write everything that will be seen, so that nothing moves when numbers come."""
    model = what.model
    told = {
        "image": model.config["image"],
        "groups": {name: list(members) for name, members in model.groups.items()},
        "map_centres": map_centres(model)._asdict(),
    }
    first = what.faces[0].picture
    return Template(PAGE.read_text(encoding="utf-8")).substitute(
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
        for part in ("gate", "place", "listening")
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
