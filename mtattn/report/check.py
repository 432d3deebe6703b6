"""The page of ``mtattn check``: what a table is like, with pictures of what is rare."""

import base64
import os
from html import escape
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from string import Template

from PIL import ImageOps

from mtattn._files import write_whole
from mtattn.data import read_image
from mtattn.data.table import Findings
from mtattn.report import tables

THUMBNAIL = 72


def write_check(file: str | os.PathLike[str], findings: Findings, *, title: str) -> None:
    """Write one HTML file that tells what a table is like, without network.

    Args:
        file: Where to write.
        findings: What was found.
        title: The name of the table.
    """
    verdict = (
        f"{len(findings.problems)} to be fixed before training means anything."
        if findings.problems
        else ("Nothing stands in the way of training.")
    )
    cards = {"pictures": findings.images, "attributes": len(findings.attributes), **findings.parts}
    sections = [
        _list("To be fixed", findings.problems),
        _list("Good to know", findings.warnings),
        f"<section><h2>Attributes</h2>{tables.label_table(findings.attributes)}</section>",
        _list("Labels that go together, and may make groups", [", ".join(group) for group in findings.groups]),
        _pictures(findings.rare),
    ]
    template = Template(files("mtattn.report").joinpath("template.html").read_text(encoding="utf-8"))
    text = template.substitute(
        title=escape(f"The table {title}"),
        headline=f"<p>{escape(verdict)}</p>",
        cards="".join(f"<div><dt>{escape(name)}</dt><dd>{count:,}</dd></div>" for name, count in cards.items()),
        how_to_read="",
        sections="".join(sections),
    )
    write_whole(file, text)


def _list(title: str, texts: list[str]) -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<section><h2>{escape(title)}</h2><ul>{items}</ul></section>" if texts else ""


def _pictures(rare: dict[str, list[Path]]) -> str:
    rows = "".join(
        f"<h3>{escape(name)}</h3><p>{''.join(map(_thumbnail, places))}</p>" for name, places in rare.items() if places
    )
    return f"<section><h2>Pictures of the rarest value of each attribute</h2>{rows}</section>" if rows else ""


def _thumbnail(place: Path) -> str:
    stream = BytesIO()
    ImageOps.contain(read_image(place), (THUMBNAIL, THUMBNAIL)).save(stream, "JPEG", quality=80)
    data = base64.b64encode(stream.getvalue()).decode()
    return f'<img src="data:image/jpeg;base64,{data}" alt="{escape(place.name)}" title="{escape(place.name)}"> '
