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
from mtattn.report.faces import FaceExample, as_pixels, is_mistake, map_limit, overlay, verdict
from mtattn.report.numbers import MINUS, gain
from mtattn.report.tables import breakable

with needed_by("mtattn.report", extra="recipes"):
    from PIL import Image

_MOST_MAPS = 8


def face_cards(faces: Sequence[FaceExample], metrics: Mapping[str, Any], groups: AttributeGroups) -> str:
    """Show each face with the maps of one attribute a group, at most eight, and the scale that they share."""
    indices = [groups.attributes.index(name) for name in telling_attributes(metrics, groups)]
    limit = map_limit(faces, indices)
    rows = [_face(number, face, indices, limit, groups) for number, face in enumerate(faces, start=1)]
    scale = (
        f'<p class="scale"><span>against: {MINUS}{limit:.1f}</span><span class="ramp" aria-hidden="true"></span>'
        f"<span>+{limit:.1f}: for, in logits</span></p>"
    )
    return scale + "".join(rows)


def telling_attributes(metrics: Mapping[str, Any], groups: AttributeGroups) -> list[str]:
    """Choose from each group the attribute that gains most over its baseline, the largest gain first."""

    def key(name: str) -> float:
        gained = gain(metrics["attributes"][name])
        return -math.inf if math.isnan(gained) else gained

    return sorted((max(members, key=key) for members in groups.values()), key=key, reverse=True)[:_MOST_MAPS]


def _face(number: int, face: FaceExample, indices: Sequence[int], limit: float, groups: AttributeGroups) -> str:
    pictures = [_picture(as_pixels(face.image), f"Test face {number}", f"<b>face {number}</b>")]
    for index in indices:
        name, words = groups.attributes[index], verdict(face, index)
        mistake = ' <span class="worse">✗ wrong</span>' if is_mistake(face, index) else ""
        caption = f"<b>{breakable(name)}</b><br>{escape(words)}{mistake}"
        alt = f"Test face {number} with the evidence for {name}: {words}"
        pictures.append(_picture(overlay(face, index, limit), alt, caption))
    return f'<div class="faces">{"".join(pictures)}</div>'


def _picture(pixels: Float[Tensor, "height width color"], alt: str, caption: str) -> str:
    packed = BytesIO()
    Image.fromarray((255 * pixels).round().byte().numpy()).save(packed, "JPEG", quality=88)
    data = base64.b64encode(packed.getvalue()).decode()
    size = f'width="{pixels.shape[1]}" height="{pixels.shape[0]}"'
    image = f'<img {size} alt="{escape(alt)}" src="data:image/jpeg;base64,{data}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"
