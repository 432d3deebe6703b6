"""How a face becomes a picture: avataaars' parts and overlays of our own, as one SVG."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from mtattn._extras import needed_by
from mtattn.data.synthetic.parts import FULL_BEARDS, MUSTACHES, Face

if TYPE_CHECKING:
    from PIL.Image import Image

MIDDLE = 140  # of avataaars' canvas, 280 units wide; every part has a left and a right half, or crosses it
OLDEST = 80  # years; the wrinkles of a face are as deep as it is old
HEAD = (46, 14, 188, 230.7)  # left, top, width, height: head and neck, in the proportions of CelebA's pictures


@dataclass(frozen=True, slots=True)
class View:
    """How a face is looked at, and what stands in the way; it changes no label.

    Attributes:
        scale: 1 is a head as wide as CelebA's.
        shift: To the right and down, as shares of the width.
        angle: Degrees, clockwise.
        occluder: Centre and radii of an ellipse on one side of the middle, or None.
        softness: The standard deviation of the blur, as a share of the width.
    """

    scale: float
    shift: tuple[float, float]
    angle: float
    flip: bool
    occluder: tuple[float, float, float, float] | None
    softness: float
    quality: int

    @classmethod
    def draw(cls, rng: np.random.Generator, *, jitter: float, occlusion: float, blurry: bool) -> "View":
        """Draw a view; the occluder leaves one half of the face free, so that every label can still be seen."""
        scale, right, down, angle = jitter * rng.uniform(-1, 1, 4)
        flip, side = rng.integers(2, size=2)
        distance, height, tall = rng.uniform((28, 70, 14), (75, 210, 45))
        wide = rng.uniform(0.5, 0.95) * min(distance, 45)
        return cls(
            scale=1 + 0.1 * scale,
            shift=(0.05 * right, 0.05 * down),
            angle=8 * angle,
            flip=bool(flip),
            occluder=(MIDDLE + (2 * side - 1) * distance, height, wide, tall) if rng.random() < occlusion else None,
            softness=rng.uniform(0.013, 0.019) if blurry else rng.uniform(0, 0.004),
            quality=int(rng.integers(70, 93)),
        )


def picture(face: Face, view: View, size: tuple[int, int]) -> "Image":
    """Draw the face as an RGB picture of the given height and width."""
    with needed_by("mtattn.data.SyntheticFaces", extra="recipes"):
        import resvg_py  # noqa: PLC0415
        from PIL import Image, ImageFilter  # noqa: PLC0415
    png = resvg_py.svg_to_bytes(svg_string=svg(face, view, size), skip_system_fonts=True)
    image = Image.open(BytesIO(png)).convert("RGB")
    return image.filter(ImageFilter.GaussianBlur(view.softness * image.width))


def svg(face: Face, view: View, size: tuple[int, int]) -> str:
    """Write the face as SVG that fills the given height and width."""
    left, top, width, height = HEAD
    middle = top + height / 2
    right, down = view.shift[0] * width, view.shift[1] * width
    turned = (
        f"translate({MIDDLE + right:.2f} {middle + down:.2f}) rotate({view.angle:.2f}) "
        f"scale({-view.scale if view.flip else view.scale:.3f} {view.scale:.3f}) translate({-MIDDLE} {-middle})"
    )
    frame = f'x="{left}" y="{top}" width="{width}" height="{height}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{size[1]}" height="{size[0]}" fill="none" '
        f'viewBox="{left} {top} {width} {height}" preserveAspectRatio="none">'
        f'<rect {frame} fill="{face.colors["background"]}"/><g transform="{turned}">'
        f'<circle cx="225" cy="70" r="85" fill="{face.colors["backdrop"]}"/>'
        f"{''.join(_layers(face)).format_map(face.colors)}{_occluder(view, face.colors)}</g></svg>"
    )


def _layers(face: Face) -> Iterator[str]:
    style = _style()
    yield style["head"]
    yield style["clothes", face.clothes]
    yield from (OVERLAY[name] for name in ("double chin", "necklace", "blush", "bags") if name in face.overlays)
    if "stubble" in face.beard:
        yield f'<g opacity=".28">{style["facialHair", "beardLight"].replace("{hair}", "#221a1a")}</g>'
    yield "" if face.years is None else f'<g opacity="{0.9 * face.years / OLDEST:.3f}">{WRINKLES}</g>'
    yield BEARD["jaw"] if "jaw" in face.beard else ""
    yield OVERLAY["eye shadow"] if "eye shadow" in face.overlays else ""
    yield _mouth(face)
    yield NOSE[face.nose]
    yield EYES.get(face.eyes) or style["eyes", face.eyes]
    yield RECEDING if face.top == "receding" else style.get(("top", face.top), "")
    yield FRINGE if face.fringe else ""
    yield from (BEARD[name] for name in ("sideburns", "goatee") if name in face.beard)
    yield from (style["facialHair", name] for name in FULL_BEARDS + MUSTACHES if name in face.beard)
    yield _brows(face)
    yield style["accessories", face.glasses] if face.glasses else ""
    yield from (OVERLAY[name] for name in ("earrings", "necktie") if name in face.overlays)


def _mouth(face: Face) -> str:
    mouth = MOUTH.get(face.mouth) or _style()["mouth", face.mouth]
    color = 'stroke="{lips}"' if face.lipstick else 'stroke="#9c4a42" stroke-opacity=".5"'
    # The outline is stroked under the mouth, which leaves its outer half to be seen.
    lips = f'<g {color} stroke-width="{12 if face.full_lips else 5}" stroke-linejoin="round">{mouth}</g>'
    return f'<g transform="translate(140 157) scale(1.2) translate(-140 -157)">{lips}{mouth}</g>'


def _brows(face: Face) -> str:
    left = "M99 93Q108 70 128 88" if face.arched else "M99 89Q113 86 128 89"
    stroke = f'stroke="{{brow}}" stroke-linecap="round" stroke-width="{7.5 if face.bushy else 2.6}"'
    return f'<g {stroke}><path d="{left}"/><path d="{left}" transform="translate(280 0) scale(-1 1)"/></g>'


def _occluder(view: View, colors: Mapping[str, str]) -> str:
    if view.occluder is None:
        return ""
    across, down, wide, tall = view.occluder
    return f'<ellipse cx="{across:.1f}" cy="{down:.1f}" rx="{wide:.1f}" ry="{tall:.1f}" fill="{colors["occluder"]}"/>'


def _mirrored(half: str) -> str:
    return f'{half}<g transform="translate(280 0) scale(-1 1)">{half}</g>'


EYES = {
    "almond": _mirrored(
        '<path d="M100 112q14-17 28 0-14 13-28 0" fill="#fff"/><circle cx="114" cy="111" r="6.2" fill="#2b2626"/>'
    )
}
MOUTH = {
    "level": '<path d="M126 156q14 4 28 0-14-1-28 0" fill="#000" fill-opacity=".7"/>',
    "pout": '<path d="M126 160q14-10 28 0-14-6-28 0" fill="#000" fill-opacity=".7"/>',
}
NOSE = {  # (big, pointy)
    (False, False): '<ellipse cx="140" cy="132" rx="8" ry="4.5" fill="#000" fill-opacity=".18"/>',
    (
        True,
        False,
    ): '<path d="M122 131a18 11 0 0 0 36 0q-3-8-9-6-4-11-9-11t-9 11q-6-2-9 6" fill="#000" fill-opacity=".2"/>',
    (False, True): '<path d="M140 112l9 23h-18z" fill="#000" fill-opacity=".18"/>',
    (True, True): '<path d="M140 100l19 37h-38z" fill="#000" fill-opacity=".2"/>',
}
RECEDING = (
    '<path d="M82 100C80 52 104 29 140 29s60 23 58 71h-6c0-20-4-36-13-46-4-7-11-9-18-8-8 10-14 13-21 13'
    's-13-3-21-13c-7-1-14 1-18 8-9 10-13 26-13 46z" fill="{hair}"/>'
)
FRINGE = (
    '<path d="M83 92C78 56 102 33 140 33s62 23 57 59q-8-4-12-13-9 9-20 2-11 8-25 1-14 7-25-1-11 7-20-2-4 9-12 13" '
    'fill="{hair}"/>'
)
BEARD = {
    "jaw": '<path d="M84 118v10a56 56 0 0 0 112 0v-10q-6 34-22 44-16 6-34 6t-34-6q-16-10-22-44" fill="{hair}"/>',
    "sideburns": _mirrored('<path d="M84 84v46q6 6 12 2 2-26-2-48z" fill="{hair}"/>'),
    "goatee": '<path d="M122 171q18-8 36 0 0 18-18 24-18-6-18-24" fill="{hair}"/>',
}
WRINKLES = (
    '<g stroke="#4a2a1a" stroke-width="3.5" stroke-linecap="round">'
    '<path d="M112 62q28-7 56 0M108 72q32-8 64 0"/>'
    + _mirrored('<path d="M122 140q-12 8-13 24M86 100l11 5M85 108h12M86 117l11-4M106 132q10 5 18 0"/>')
    + "</g>"
)
OVERLAY = {
    "bags": _mirrored('<path d="M99 121q14 9 28 0-3 13-14 13t-14-13" fill="#301040" fill-opacity=".32"/>'),
    "double chin": (
        '<ellipse cx="140" cy="176" rx="43" ry="27" fill="{skin}"/>'
        '<path d="M98 181a43 27 0 0 0 84 0 43 19 0 0 1-84 0" fill="#000" fill-opacity=".14"/>'
        '<path d="M113 177q27 16 54 0" stroke="#000" stroke-opacity=".3" stroke-width="4" stroke-linecap="round"/>'
    ),
    "blush": _mirrored('<ellipse cx="100" cy="142" rx="13" ry="10" fill="#ff3d5e" fill-opacity=".5"/>'),
    "eye shadow": _mirrored('<path d="M93 114q2-23 21-23t20 23z" fill="{eyeshadow}" fill-opacity=".85"/>'),
    "earrings": _mirrored('<circle cx="78" cy="146" r="8" stroke="{jewel}" stroke-width="4.5"/>'),
    "necklace": (
        '<path d="M108 200q32 34 64 0" stroke="{jewel}" stroke-width="4.5" stroke-dasharray="5 2"/>'
        '<circle cx="140" cy="220" r="5.5" fill="{jewel}"/>'
    ),
    "necktie": (
        '<path d="M111 192l29 17 29-17 7 22-24 13h-24l-24-13z" fill="#f4f4f4"/>'
        '<path d="M127 202h26l-6 16 12 70h-38l12-70z" fill="{tie}"/>'
    ),
}


def definition() -> dict[str, Any]:
    """Read avataaars as DiceBear publishes it, licence included."""
    with needed_by("mtattn.data.SyntheticFaces", extra="recipes"):
        art = files("dicebear_styles") / "avataaars.json"
    style: dict[str, Any] = json.loads(art.read_text(encoding="utf-8"))
    return style


@lru_cache(maxsize=1)
def _style() -> dict[Any, str]:
    """Read avataaars: "head", and each (component, variant), as SVG that awaits its colours."""
    style = definition()
    elements = style["canvas"]["elements"]
    parts: dict[Any, str] = {"head": "".join(_markup(part) for part in elements if part["type"] == "element")}
    for place in (part for part in elements if part["type"] == "component"):
        for variant, drawn in style["components"][place["name"]]["variants"].items():
            inner = "".join(map(_markup, drawn["elements"]))
            parts[place["name"], variant] = f'<g transform="{place["attributes"]["transform"]}">{inner}</g>'
    return parts


def _markup(element: Mapping[str, Any]) -> str:
    if element["type"] != "element":
        return ""  # a shirt's printed figure
    values = {key: _value(value) for key, value in element.get("attributes", {}).items()}
    attributes = "".join(f' {key}="{value}"' for key, value in values.items())
    return f"<{element['name']}{attributes}>{''.join(map(_markup, element.get('children', [])))}</{element['name']}>"


def _value(value: str | Mapping[str, str]) -> str:
    return value if isinstance(value, str) else "{" + value["name"].replace("facialHair", "hair") + "}"
