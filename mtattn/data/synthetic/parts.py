"""Which parts a drawn face is made of, how they are chosen, and which labels they show."""

import colorsys
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

COLORS = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")
SCALP = ("Bald", "Bangs", *COLORS, "Receding_Hairline", "Straight_Hair", "Wavy_Hair")

EXCLUSIVE = (COLORS, ("Straight_Hair", "Wavy_Hair"))
"""No face has two of these."""

HIDES = {
    "Wearing_Hat": SCALP,  # a hat is drawn instead of hair, so nobody can tell what is under it
    "Bald": ("Bangs", "Receding_Hairline", "Straight_Hair", "Wavy_Hair"),
    "Receding_Hairline": ("Bangs", "Straight_Hair", "Wavy_Hair"),
    "Sideburns": ("Straight_Hair",),  # long hair, and theirs would run together
    "No_Beard": ("5_o_Clock_Shadow", "Goatee", "Mustache", "Sideburns"),
}
"""A face that has the attribute on the left has none of those on the right."""

# Art that stands between two labels is left out: a fringe to one side ("bob"), two-tone hair ("bigHair"), a scarf.
STRAIGHT, STRAIGHT_BANGS = ("straight01", "straight02"), ("miaWallace", "straightAndStrand")
LONG_WAVY, SHORT_WAVY = ("curly", "curvy", "fro"), ("shortCurly", "shortWaved")
SHORT = ("shortFlat", "shortRound", "theCaesar", "theCaesarAndSidePart", "bun")  # too short or too tight for a wave
BALD = ("none", "sides")
HATS, FLAP_HATS = ("hat", "winterHat03", "winterHat04"), ("winterHat02", "winterHat1")
MOUTHS = {  # (smiling, open)
    (True, True): ("smile", "default"),
    (True, False): ("twinkle",),
    (False, True): ("concerned", "disbelief", "screamOpen"),
    (False, False): ("level", "pout"),
}
NARROW_EYES, WIDE_EYES = ("squint", "happy", "closed"), ("default", "almond", "surprised")
FULL_BEARDS, MUSTACHES = ("beardLight", "beardMedium"), ("moustacheFancy", "moustacheMagnum")
CLEAR_GLASSES, DARK_GLASSES = ("prescription01", "prescription02", "round"), ("kurt",)
CLOTHES = (
    "blazerAndShirt", "blazerAndSweater", "collarAndSweater", "graphicShirt", "hoodie",
    "overall", "shirtCrewNeck", "shirtScoopNeck", "shirtVNeck",
)  # fmt: skip
OPEN_COLLARS, TIE_COLLARS = ("shirtScoopNeck", "shirtVNeck", "overall"), ("blazerAndShirt", "collarAndSweater")

OVERLAYS = {
    "Bags_Under_Eyes": "bags", "Double_Chin": "double chin", "Heavy_Makeup": "eye shadow", "Rosy_Cheeks": "blush",
    "Wearing_Earrings": "earrings", "Wearing_Necklace": "necklace", "Wearing_Necktie": "necktie",
}  # fmt: skip
"""The overlays of our own that are drawn exactly where the attribute is."""

Shades = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]  # hue, saturation, value: from, to
HAIR_SHADES: dict[str, tuple[Shades, ...]] = {
    "Black_Hair": (((0.0, 1.0), (0.0, 0.3), (0.04, 0.13)),),
    "Blond_Hair": (((0.115, 0.145), (0.4, 0.62), (0.85, 0.97)),),
    "Brown_Hair": (((0.05, 0.085), (0.5, 0.7), (0.22, 0.38)),),
    "Gray_Hair": (((0.0, 1.0), (0.0, 0.05), (0.55, 0.8)),),
    "": (((0.0, 0.03), (0.7, 0.85), (0.6, 0.85)), ((0.3, 0.95), (0.4, 0.7), (0.5, 0.9))),  # red, or dyed
}
_DARKENING = 0.48  # of the deepest skin


@dataclass(frozen=True, slots=True)
class Face:
    """Everything that is drawn of one face; ``READ`` tells its labels."""

    top: str
    fringe: bool
    hair: str
    pale: bool
    arched: bool
    bushy: bool
    eyes: str
    glasses: str
    nose: tuple[bool, bool]
    mouth: str
    full_lips: bool
    lipstick: bool
    beard: frozenset[str]
    overlays: frozenset[str]
    clothes: str
    blurry: bool
    colors: dict[str, str]
    years: float | None = None  # draws wrinkles; None draws none, which says nothing about the age


READ: dict[str, Callable[[Face], bool]] = {
    "5_o_Clock_Shadow": lambda face: "stubble" in face.beard,
    "Arched_Eyebrows": lambda face: face.arched,
    "Bags_Under_Eyes": lambda face: "bags" in face.overlays and face.glasses not in DARK_GLASSES,
    "Bald": lambda face: face.top in BALD,
    "Bangs": lambda face: face.fringe or face.top in STRAIGHT_BANGS,
    "Big_Lips": lambda face: face.full_lips,
    "Big_Nose": lambda face: face.nose[0],
    "Black_Hair": lambda face: shows_hair(face) and face.hair == "Black_Hair",
    "Blond_Hair": lambda face: shows_hair(face) and face.hair == "Blond_Hair",
    "Blurry": lambda face: face.blurry,
    "Brown_Hair": lambda face: shows_hair(face) and face.hair == "Brown_Hair",
    "Bushy_Eyebrows": lambda face: face.bushy,
    "Double_Chin": lambda face: "double chin" in face.overlays and face.beard.isdisjoint((*FULL_BEARDS, "jaw")),
    "Eyeglasses": lambda face: bool(face.glasses),
    "Goatee": lambda face: "goatee" in face.beard,
    "Gray_Hair": lambda face: shows_hair(face) and face.hair == "Gray_Hair",
    "Heavy_Makeup": lambda face: "eye shadow" in face.overlays and face.lipstick and face.glasses not in DARK_GLASSES,
    "Mouth_Slightly_Open": lambda face: face.mouth in MOUTHS[True, True] + MOUTHS[False, True],
    "Mustache": lambda face: not face.beard.isdisjoint(FULL_BEARDS + MUSTACHES),
    "Narrow_Eyes": lambda face: face.eyes in NARROW_EYES and face.glasses not in DARK_GLASSES,
    "No_Beard": lambda face: not face.beard,
    "Pale_Skin": lambda face: face.pale,
    "Pointy_Nose": lambda face: face.nose[1],
    "Receding_Hairline": lambda face: face.top == "receding",
    "Rosy_Cheeks": lambda face: "blush" in face.overlays,
    "Sideburns": lambda face: not face.beard.isdisjoint((*FULL_BEARDS, "sideburns")),
    "Smiling": lambda face: face.mouth in MOUTHS[True, True] + MOUTHS[True, False],
    "Straight_Hair": lambda face: face.top in STRAIGHT + STRAIGHT_BANGS,
    "Wavy_Hair": lambda face: face.top in LONG_WAVY + SHORT_WAVY,
    "Wearing_Earrings": lambda face: "earrings" in face.overlays,
    "Wearing_Hat": lambda face: face.top in HATS + FLAP_HATS,
    "Wearing_Lipstick": lambda face: face.lipstick,
    "Wearing_Necklace": lambda face: "necklace" in face.overlays,
    "Wearing_Necktie": lambda face: "necktie" in face.overlays,
}
"""How each attribute is read off a face, in CelebA's order; what stands here is what can be drawn."""


def choose(wanted: Collection[str], rng: np.random.Generator) -> Face:
    """Choose parts that show the wanted attributes, as far as they go together."""
    has = repaired(wanted, rng)
    hair = next((color for color in COLORS if color in has), "")
    top = str(rng.choice(_tops(has)))
    hard_to_tell = has & {"Bags_Under_Eyes", "Narrow_Eyes", "Heavy_Makeup"}
    glasses = CLEAR_GLASSES if hard_to_tell else CLEAR_GLASSES + DARK_GLASSES
    return Face(
        top=top,
        fringe="Bangs" in has and top not in STRAIGHT_BANGS,
        hair=hair,
        pale="Pale_Skin" in has,
        arched="Arched_Eyebrows" in has,
        bushy="Bushy_Eyebrows" in has,
        eyes=str(rng.choice(NARROW_EYES if "Narrow_Eyes" in has else WIDE_EYES)),
        glasses=str(rng.choice(glasses)) if "Eyeglasses" in has else "",
        nose=("Big_Nose" in has, "Pointy_Nose" in has),
        mouth=str(rng.choice(MOUTHS["Smiling" in has, "Mouth_Slightly_Open" in has])),
        full_lips="Big_Lips" in has,
        lipstick="Wearing_Lipstick" in has,
        beard=_beard(has, rng),
        overlays=frozenset(overlay for attribute, overlay in OVERLAYS.items() if attribute in has),
        clothes=str(rng.choice(_clothes(has))),
        blurry="Blurry" in has,
        colors=_colors(hair, pale="Pale_Skin" in has, rng=rng),
    )


def repaired(wanted: Collection[str], rng: np.random.Generator) -> set[str]:
    """Drop what contradicts itself from the wanted attributes."""
    has = set(wanted)
    for names in EXCLUSIVE:
        rivals = sorted(has.intersection(names))
        has.difference_update(rivals)
        has.update(rng.choice(rivals, size=1).tolist() if rivals else [])
    if has.intersection(HIDES["No_Beard"]):
        has.discard("No_Beard")  # CelebA too: 98 % of its mustaches, goatees and sideburns count as a beard
    if "Heavy_Makeup" in has:
        has.add("Wearing_Lipstick")  # 98 % in CelebA
    for name, hidden in HIDES.items():
        has.difference_update(hidden if name in has else ())
    return has


def hex_color(shades: Shades, rng: np.random.Generator) -> str:
    """Draw a colour from ranges of hue, saturation and value."""
    hue, saturation, value = (float(rng.uniform(*bounds)) for bounds in shades)
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue % 1, saturation, value))
    return f"#{red:02x}{green:02x}{blue:02x}"


def shows_hair(face: Face) -> bool:
    """Tell whether any hair of the head is to be seen."""
    return face.top not in ("none", *HATS, *FLAP_HATS)


def skin_depth(face: Face) -> float:
    """Read off how dark the skin is drawn, from 0, which is pale, to 1."""
    brightest = max(bytes.fromhex(face.colors["skin"][1:])) / 255
    return float(min(np.sqrt((1 - brightest) / _DARKENING), 1.0))


def _tops(has: set[str]) -> tuple[str, ...]:
    free_ears = not has.isdisjoint({"Wearing_Earrings", "Sideburns"})
    if "Wearing_Hat" in has:
        return HATS if free_ears else HATS + FLAP_HATS
    if "Bald" in has:
        return ("sides",) if has.intersection(COLORS) else ("none",)
    if "Receding_Hairline" in has:
        return ("receding",)
    if "Straight_Hair" in has:
        return STRAIGHT_BANGS if "Bangs" in has else STRAIGHT
    if "Wavy_Hair" in has:
        return SHORT_WAVY if "Sideburns" in has else LONG_WAVY + SHORT_WAVY
    return SHORT


def _beard(has: set[str], rng: np.random.Generator) -> frozenset[str]:
    pieces = {"5_o_Clock_Shadow": "stubble", "Goatee": "goatee", "Mustache": "mustache", "Sideburns": "sideburns"}
    beard = {piece for attribute, piece in pieces.items() if attribute in has}
    if beard == {"mustache", "sideburns"}:
        return frozenset({str(rng.choice(FULL_BEARDS))})
    if "mustache" in beard:
        beard = beard - {"mustache"} | {str(rng.choice(MUSTACHES))}
    return frozenset(beard if beard or "No_Beard" in has else {"jaw"})


def _clothes(has: set[str]) -> tuple[str, ...]:
    if "Wearing_Necktie" in has:
        return TIE_COLLARS
    return OPEN_COLLARS if "Wearing_Necklace" in has else CLOTHES


def _colors(hair: str, *, pale: bool, rng: np.random.Generator) -> dict[str, str]:
    shades = HAIR_SHADES[hair]
    anything: Shades = ((0.0, 1.0), (0.05, 0.8), (0.25, 0.95))
    depth = 0.0 if pale else float(rng.uniform(0.3, 1))  # nothing lies between pale and not pale
    saturation, value = 0.07 + 0.5 * depth, 1 - _DARKENING * depth**2
    skin: Shades = ((0.055, 0.08), (saturation, saturation), (value, value))
    return {
        "hair": hex_color(shades[int(rng.integers(len(shades)))], rng),
        "brow": hex_color(((0.05, 0.08), (0.2, 0.6), (0.08, 0.22)), rng),
        "skin": hex_color(skin, rng),
        "lips": hex_color(((0.88, 1.01), (0.75, 0.95), (0.6, 0.9)), rng),
        "eyeshadow": hex_color(((0.45, 0.85), (0.45, 0.8), (0.5, 0.85)), rng),
        "jewel": hex_color(((0.12, 0.14), (0.0, 0.8), (0.85, 1.0)), rng),
        "accessories": hex_color(((0.0, 1.0), (0.0, 0.6), (0.1, 0.4)), rng),
        **{name: hex_color(anything, rng) for name in ("background", "backdrop", "clothes", "hat", "tie", "occluder")},
    }
