"""Faces with their attribute maps as a grid of pictures that wraps on narrow screens."""

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from io import BytesIO
from typing import Any

from jaxtyping import Float
from torch import Tensor

from mtattn._extras import needed_by
from mtattn.groups import AttributeGroups
from mtattn.report.faces import FaceExample, as_pixels, map_limit, overlay
from mtattn.report.kinds import verdict_of
from mtattn.report.numbers import MINUS, gain, number
from mtattn.report.sentences import breakable

with needed_by("mtattn.report", extra="recipes"):
    from PIL import Image

_MOST_MAPS = 8


def face_cards(faces: Sequence[FaceExample], metrics: Mapping[str, Any], groups: AttributeGroups) -> str:
    """Show each face with the maps of one attribute a group, at most eight, and the scale that they share."""
    names = telling_attributes(metrics, groups)
    shown = [[verdict_of(face, groups, name) for name in names] for face in faces]
    limit = map_limit(faces, sorted({column for row in shown for _, _, column in row}))
    rows = [
        _face(face.name or f"image {number}", face, dict(zip(names, row, strict=True)), limit)
        for number, (face, row) in enumerate(zip(faces, shown, strict=True), start=1)
    ]
    scale = (
        f'<p class="scale"><span>against: {MINUS}{limit:.1f}</span><span class="ramp" aria-hidden="true"></span>'
        f"<span>+{limit:.1f}: for, in logits</span></p>"
    )
    return scale + "".join(rows)


def telling_attributes(metrics: Mapping[str, Any], groups: AttributeGroups) -> list[str]:
    """Choose from each group the attribute that gains most over its baseline, the largest gain first."""

    def key(name: str) -> float:
        row = metrics["attributes"][name]
        gained = number(row["skill"]) if "skill" in row else gain(row)
        return -math.inf if math.isnan(gained) else gained

    return sorted((max(members, key=key) for members in groups.values()), key=key, reverse=True)[:_MOST_MAPS]


def _face(title: str, face: FaceExample, verdicts: Mapping[str, tuple[str, bool, int]], limit: float) -> str:
    pictures = [_picture(as_pixels(face.image), f"Test image {title}", f"<b>{breakable(title)}</b>")]
    for name, (words, is_wrong, column) in verdicts.items():
        mistake = ' <span class="worse">✗ wrong</span>' if is_wrong else ""
        caption = f"<b>{breakable(name)}</b><br>{escape(words)}{mistake}"
        alt = f"Test image {title} with the evidence for {name}: {words}"
        pictures.append(_picture(overlay(face, column, limit), alt, caption))
    return f'<div class="faces">{"".join(pictures)}</div>'


def _picture(pixels: Float[Tensor, "height width color"], alt: str, caption: str) -> str:
    packed = BytesIO()
    Image.fromarray((255 * pixels).round().byte().numpy()).save(packed, "JPEG", quality=88)
    data = base64.b64encode(packed.getvalue()).decode()
    size = f'width="{pixels.shape[1]}" height="{pixels.shape[0]}"'
    image = f'<img {size} alt="{escape(alt)}" src="data:image/jpeg;base64,{data}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"
