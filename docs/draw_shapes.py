"""Draw the explanation pages' pictures of shapes: python docs/draw_shapes.py."""
# ruff: noqa: RUF001  the letters of the equations are Greek

import json
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

IMAGES = Path(__file__).parent / "images"
RATES = Path(__file__).parents[1] / "mtattn/data/label_model.json"
WIDTH = 380
GROUPS = ("one", "two", "three")  # classes of the three groups that every picture shows
# Pages hold the pictures inline, so furo's variables follow light and dark; elsewhere the second values hold.
STYLE = """
.shapes{display:block;width:100%;max-width:27rem;height:auto;margin:1.5rem auto}
.shapes text{font:14px system-ui,sans-serif;fill:var(--color-foreground-primary,#16181d)}
.shapes .axes{font:12.5px ui-monospace,monospace;fill:var(--color-foreground-secondary,#55575e)}
.shapes .note{font-size:12.5px;fill:var(--color-foreground-secondary,#55575e)}
.shapes .name{font-weight:600}.shapes .middle{text-anchor:middle}.shapes .end{text-anchor:end}
.shapes .ground{fill:var(--color-background-secondary,#f8f9fb)}
.shapes .op{fill:var(--color-background-primary,#fff);stroke:var(--color-foreground-secondary,#55575e)}
.shapes .line{fill:none;stroke:var(--color-foreground-secondary,#55575e);stroke-width:1.4}
.shapes .dashed{stroke-dasharray:5 4}.shapes .head{fill:var(--color-foreground-secondary,#55575e)}
.shapes .all{--paint:#808590}.shapes .one{--paint:#2f86d1}.shapes .two{--paint:#d9622b}.shapes .three{--paint:#2b9a66}
.shapes .sheet{fill:var(--color-background-primary,#fff);stroke:var(--paint);stroke-width:1.2}
.shapes .tint{fill:var(--paint)}.shapes .curve{fill:none;stroke:var(--paint);stroke-width:2.5}
"""
GATES = ((0.3, 0.9, 0.5, 0.7, 0.2), (0.8, 0.2, 0.6, 0.3, 0.9), (0.5, 0.6, 0.9, 0.2, 0.6))
LOOKS = ((1, 5, 2, 6), (9, 10, 13, 14), (0, 1, 2, 3))  # the cells of a 4 x 4 map that each group looks at


class Drawing:
    """One picture, drawn from top to bottom, as wide as a phone shows it readably."""

    def __init__(self, name: str, height: int, title: str, description: str) -> None:
        self.name, self.height = name, height
        self.parts = [
            f'<title id="{name}-title">{escape(title)}</title>',
            f'<desc id="{name}-desc">{escape(description)}</desc>',
            f'<rect class="ground" width="{WIDTH}" height="{height}" rx="10"/>',
        ]

    def svg(self) -> str:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="shapes" viewBox="0 0 {WIDTH} {self.height}" role="img" '
            f'aria-labelledby="{self.name}-title {self.name}-desc"><style>{STYLE}</style>'
        )
        return "\n".join([head, *self.parts, "</svg>"]) + "\n"

    def text(self, x: float, y: float, words: str, kind: str = "") -> None:
        self.parts.append(f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(words)}</text>')

    def label(self, x: float, y: float, name: str, axes: str, kind: str = "") -> None:
        """Name a tensor and, beneath, its axes."""
        self.text(x, y, name, f"name {kind}")
        self.text(x, y + 17, axes, f"axes {kind}")

    def op(self, x: float, y: float, words: str, *, width: float = 130, kind: str = "") -> None:
        """Draw what is done to a tensor, its middle at x and y."""
        self.parts.append(
            f'<rect class="op {kind}" x="{x - width / 2:g}" y="{y - 14:g}" width="{width:g}" height="28" rx="14"/>'
        )
        if words:
            self.text(x, y + 5, words, "middle")

    def sign(self, x: float, y: float, sign: str) -> None:
        self.parts.append(f'<circle class="op" cx="{x:g}" cy="{y:g}" r="13"/>')
        self.text(x, y + 5, sign, "middle name")

    def arrow(self, *points: tuple[float, float], kind: str = "") -> None:
        """Draw a line through the points; its last part is straight down or to one side, and ends in a head."""
        path = "L".join(f"{x:g} {y:g}" for x, y in points)
        self.parts.append(f'<path class="line {kind}" d="M{path}"/>')
        (before, _), (x, y) = points[-2:]
        across = (x > before) - (x < before)
        ends = (
            ((x - 8 * across, y - 4.5), (x - 8 * across, y + 4.5))
            if across and points[-2][1] == y
            else ((x - 4.5, y - 8), (x + 4.5, y - 8))
        )
        corners = " ".join(f"{a:g},{b:g}" for a, b in ((x, y), *ends))
        self.parts.append(f'<polygon class="head" points="{corners}"/>')

    def map(self, x: float, y: float, group: str = "all", *, looks: Sequence[int] = (), sheets: int = 3) -> None:
        """Draw a map, its middle at x and its top at y: sheets are channels, cells are positions."""
        parts = []
        for sheet in range(sheets - 1, -1, -1):
            left, top = x - 20 + 4 * sheet, y + 4 * (sheets - 1 - sheet)
            parts.append(f'<rect class="sheet" x="{left:g}" y="{top:g}" width="40" height="40" rx="2"/>')
        left, top = x - 20, y + 4 * (sheets - 1)
        for cell in range(16):
            opacity = 0.85 if cell in looks else 0.12
            parts.append(
                f'<rect class="tint" opacity="{opacity}" x="{left + 2 + 9.2 * (cell % 4):g}" '
                f'y="{top + 2 + 9.2 * (cell // 4):g}" width="8.4" height="8.4" rx="1"/>'
            )
        self.parts.append(f'<g class="{group}">{"".join(parts)}</g>')

    def maps(self, x: float, y: float, *, looks: Sequence[Sequence[int]] = ((), (), ()), sheets: int = 3) -> None:
        for index, group in enumerate(GROUPS):
            self.map(x + 56 * (index - 1), y, group, looks=looks[index], sheets=sheets)

    def vector(self, x: float, y: float, shades: Sequence[float], group: str = "all", *, cell: float = 11) -> None:
        """Draw a number a channel, the middle of the column at x and its top at y."""
        cells = "".join(
            f'<rect class="sheet" x="{x - cell / 2:g}" y="{y + cell * row:g}" width="{cell:g}" height="{cell:g}"/>'
            f'<rect class="tint" opacity="{shade:g}" x="{x - cell / 2:g}" y="{y + cell * row:g}" width="{cell:g}" '
            f'height="{cell:g}"/>'
            for row, shade in enumerate(shades)
        )
        self.parts.append(f'<g class="{group}">{cells}</g>')

    def vectors(self, x: float, y: float, *, step: float = 20) -> None:
        for index, group in enumerate(GROUPS):
            self.vector(x + step * (index - 1), y, GATES[index], group)

    def matrix(self, x: float, y: float, rows: Sequence[Sequence[float]]) -> None:
        """Draw a number a pair of groups; a row has the colour of the group that listens."""
        for row, (group, shades) in enumerate(zip(GROUPS, rows, strict=True)):
            for column, shade in enumerate(shades):
                place = f'x="{x - 27 + 18 * column:g}" y="{y + 18 * row:g}" width="18" height="18"'
                self.parts.append(
                    f'<g class="{group}"><rect class="sheet" {place}/>'
                    f'<rect class="tint" opacity="{shade:g}" {place}/></g>'
                )


def wsgsa() -> Drawing:
    d = Drawing(
        "wsgsa",
        530,
        "WSGSA: one shared module, a gate for each group",
        "The features X go two ways. Their mean over all positions passes two small layers for each group, which "
        "gives a gate for each group and channel. The module f, shared by all groups, gives one map. Each group's "
        "gate multiplies that map channel by channel. The pooled form takes the mean first and skips the groups' maps.",
    )
    d.map(190, 14)
    d.label(230, 36, "X", "b c h w")
    d.arrow((190, 62), (190, 74), (95, 74), (95, 92))
    d.arrow((190, 62), (190, 74), (277, 74), (277, 92))
    d.op(95, 106, "mean over h w")
    d.arrow((95, 120), (95, 136))
    d.vector(95, 138, GATES[1])
    d.label(115, 160, "Z", "b c")
    d.arrow((95, 193), (95, 205))
    for offset in (6, 3, 0):
        d.op(95 + offset, 226 - offset, "", width=150)
    d.text(95, 231, "down, ReLU, up, σ", "middle")
    d.text(95, 257, "two layers a group", "note middle")
    d.arrow((95, 266), (95, 284))
    d.vectors(95, 286)
    d.label(136, 308, "Ψ", "b g c")
    d.op(277, 106, "f")
    d.text(277, 137, "shared by all groups", "note middle")
    d.arrow((277, 146), (277, 284))
    d.map(277, 286)
    d.label(310, 308, "f(X)", "b c h w")
    d.arrow((95, 343), (95, 362), (177, 362))
    d.arrow((277, 338), (277, 362), (203, 362))
    d.sign(190, 362, "×")
    d.arrow((190, 375), (190, 390))
    d.maps(190, 392)
    d.label(282, 414, "X′", "b g c h w")
    d.arrow((190, 446), (190, 460))
    d.vectors(190, 462, step=20)
    d.label(231, 484, "mean of X′", "b g c")
    d.arrow((190, 382), (92, 382), (92, 488), (158, 488), kind="dashed")
    d.text(16, 432, "pooled:", "note")
    d.text(16, 449, "no maps", "note")
    d.text(16, 466, "are built", "note")
    return d


def positions() -> Drawing:
    d = Drawing(
        "positions",
        446,
        "Where a group looks: a weight for each group and position",
        "A key layer K, shared by all groups, turns the shared map into keys. Each group has one query. Query times "
        "keys, plus what the group thinks of the place, a softmax over all positions and a factor of the number of "
        "positions give each group a map of weights that averages to one. It multiplies the group's gated features.",
    )
    d.map(75, 14)
    d.label(110, 36, "f(X)", "b c h w")
    d.arrow((75, 64), (75, 82))
    d.op(75, 96, "K, shared")
    d.arrow((75, 110), (75, 126))
    d.map(75, 128, sheets=2)
    d.label(110, 148, "keys", "b k h w")
    d.vectors(205, 122)
    d.label(240, 144, "q", "g k")
    d.vectors(303, 122)
    d.label(338, 144, "p", "g 5")
    d.arrow((75, 174), (75, 205), (117, 205))
    d.arrow((205, 180), (205, 205), (143, 205))
    d.sign(130, 205, "·")
    d.arrow((303, 180), (303, 192))
    d.op(303, 206, "p · c", width=70)
    d.text(303, 238, "c: y, x, y², yx, x²", "note middle")
    d.arrow((130, 218), (130, 252), (177, 252))
    d.arrow((268, 206), (240, 206), (240, 252), (203, 252))
    d.sign(190, 252, "+")
    d.arrow((190, 265), (190, 280))
    d.op(190, 294, "softmax over h w, times S", width=210)
    d.arrow((190, 308), (190, 324))
    d.maps(190, 326, looks=LOOKS, sheets=1)
    d.label(282, 344, "α", "b g h w")
    d.arrow((190, 368), (190, 384))
    d.op(190, 398, "X′ = Ψ · α · f(X)", width=150)
    d.text(190, 433, "each α averages to 1; new, it is 1 everywhere", "note middle")
    return d


def cgff() -> Drawing:
    d = Drawing(
        "cgff",
        470,
        "CGFF: the groups exchange information",
        "The group features go three ways. Their means over positions, normed, give queries and keys, and these the "
        "affinity: a matrix in which each row says whom a group listens to. The linear map V gives values. The "
        "affinity mixes the groups' values, the linear map O follows, divided by the root of the channels, and the "
        "result is added to the group features.",
    )
    d.maps(190, 14)
    d.label(282, 36, "X′", "b g d h w")
    d.arrow((190, 64), (190, 78), (95, 78), (95, 96))
    d.arrow((190, 64), (190, 78), (245, 78), (245, 214))
    d.arrow((190, 64), (190, 78), (345, 78), (345, 412), (203, 412))
    d.op(95, 110, "mean over h w, norm", width=162)
    d.arrow((95, 124), (95, 140))
    d.vectors(95, 142)
    d.label(136, 164, "m", "b g d")
    d.arrow((95, 199), (95, 214))
    d.op(95, 228, "softmax(Q Kᵀ)")
    d.arrow((95, 242), (95, 258))
    d.matrix(95, 260, ((0.8, 0.15, 0.4), (0.3, 0.6, 0.5), (0.1, 0.8, 0.45)))
    d.label(130, 282, "A", "b g g")
    d.op(245, 228, "V, linear", width=100)
    d.arrow((245, 242), (245, 334), (203, 334))
    d.arrow((95, 316), (95, 334), (177, 334))
    d.sign(190, 334, "·")
    d.text(16, 356, "a row mixes", "note")
    d.text(16, 372, "the groups", "note")
    d.arrow((190, 347), (190, 360))
    d.op(190, 374, "O / √d, starts at zero", width=166)
    d.arrow((190, 388), (190, 399))
    d.sign(190, 412, "+")
    d.text(340, 430, "unchanged", "note end")
    d.arrow((190, 425), (190, 440))
    d.text(190, 457, "Y", "name middle")
    d.text(206, 457, "b g d h w", "axes")
    return d


def faramtn() -> Drawing:
    d = Drawing(
        "faramtn",
        622,
        "FAR-AMTN on a ResNet-50: shapes and parameters",
        "From top to bottom: images; the trunk, conv1 to conv5_2, 19.0 million parameters; a map of 2048 channels and "
        "7 by 7 positions; WSGSA with conv5_3 as shared module, 4.5 million, gates, 4.2 million, and where each group "
        "looks, 0.1 million; a vector of 2048 channels for each group; the projection, 1.0 million; 512 channels a "
        "group; CGFF, 0.6 million; the heads, 0.02 million; the logits.",
    )
    steps = [
        ("images", "b 3 224 224", "trunk", "conv1 to conv5_2", "19.05 M"),
        ("map", "b 2048 7 7", "WSGSA, pooled", "f: conv5_3, gates, where to look", "4.46 + 4.21 + 0.14 M"),
        ("a vector a group", "b g 2048", "projection", "times two; linear, shared", "1.05 M"),
        ("a vector a group", "b g 512", "CGFF", "affinity, values, residual", "0.59 M"),
        ("a vector a group", "b g 512", "heads", "a linear layer a group", "0.02 M"),
    ]
    d.text(364, 28, "parameters", "note end")
    for index, (name, axes, op, does, parameters) in enumerate(steps):
        top = 12 + 116 * index
        d.map(72, top) if index < 2 else d.vectors(72, top - 2)
        d.label(116, top + 20, name, axes)
        d.arrow((72, top + 56), (72, top + 70))
        d.op(72, top + 84, op, width=124)
        d.text(144, top + 80, does, "note")
        d.text(144, top + 97, parameters, "axes")
        d.arrow((72, top + 98), (72, top + 113))
    d.text(72, 606, "logits", "name middle")
    d.text(104, 606, "b a", "axes")
    return d


def maps() -> Drawing:
    d = Drawing(
        "maps",
        330,
        "Two ways to a logit that give the same number",
        "A square. From the maps of the groups, one way goes right through projection, CGFF and heads to a map for "
        "each attribute, and then down by the mean over positions to the logit. The other way goes down by the mean "
        "first, and then right through the same steps, with the same affinities. Both end in the same logit.",
    )
    d.maps(92, 20)
    d.label(92, 90, "X′", "b g c h w", "middle")
    d.map(334, 20, "two", looks=(5, 6, 9, 10), sheets=1)
    d.label(334, 90, "map of a", "b a h w", "middle")
    d.arrow((186, 46), (304, 46))
    d.text(245, 32, "projection, CGFF,", "middle")
    d.text(245, 66, "heads", "middle")
    d.arrow((92, 118), (92, 214))
    d.arrow((334, 118), (334, 214))
    d.text(213, 170, "mean over h w", "middle")
    d.vectors(92, 220)
    d.label(92, 294, "pooled", "b g c", "middle")
    d.vector(334, 236, (0.7,), "two", cell=18)
    d.label(334, 276, "logit of a", "b a", "middle")
    d.arrow((132, 245), (312, 245))
    d.text(222, 232, "the same steps,", "middle")
    d.text(222, 265, "affinities held", "middle")
    return d


def dws() -> Drawing:
    losses = {"one": ("eyes", (0.60, 0.30, 0.18)), "two": ("hair", (0.50, 0.40, 0.35))}
    left = {group: [loss / of[0] for loss in of] for group, (_, of) in losses.items()}
    total = [sum(parts) for parts in zip(*left.values(), strict=True)]
    d = Drawing(
        "dws",
        400,
        "Loss left, and the weights that follow from it",
        "Above: over three periods the eyes' loss falls to 0.5 and 0.3 of its first value, that of hair to 0.8 and 0.7."
        " Below: the weights of the next period, 1 and 1, then 0.77 and 1.23, then 0.6 and 1.4; they average to 1.",
    )
    d.text(16, 26, "loss left", "name")
    for share in (0, 0.5, 1):
        d.parts.append(f'<path class="line" opacity="0.35" d="M52 {190 - 140 * share:g}H340"/>')
        d.text(44, 195 - 140 * share, f"{share:g}", "axes end")
    for group, values in left.items():
        points = [(90 + 100 * period, 190 - 140 * value) for period, value in enumerate(values)]
        path = "L".join(f"{x:g} {y:g}" for x, y in points)
        d.parts.append(f'<path class="{group} curve" d="M{path}"/>')
        for (x, y), value in list(zip(points, values, strict=True))[1:]:
            d.parts.append(f'<circle class="{group} tint" cx="{x:g}" cy="{y:g}" r="4.5"/>')
            d.text(x, y + (-12 if group == "two" else 20), f"{value:.1f}", "axes middle")
        d.text(302, points[-1][1] + 5, losses[group][0])
    for period in range(3):
        d.text(90 + 100 * period, 214, f"period {period + 1}", "note middle")
    d.text(16, 250, "weights of the next period", "name")
    for period in range(3):
        for index, (group, values) in enumerate(left.items()):
            weight = 2 * values[period] / total[period]
            x, top = 62 + 100 * period + 32 * index, 374 - 68 * weight
            d.parts.append(f'<rect class="{group} tint" x="{x:g}" y="{top:g}" width="24" height="{68 * weight:g}"/>')
            d.text(x + 12, top - 6, f"{weight:.2f}".rstrip("0").rstrip("."), "axes middle")
    for place, (name, _) in zip((74, 106), losses.values(), strict=True):
        d.text(place, 392, name, "note middle")
    return d


def rates() -> Drawing:
    shares = json.loads(RATES.read_text(encoding="utf-8"))["rates"]
    ranked = sorted(shares.items(), key=lambda item: -item[1])
    d = Drawing(
        "rates",
        48 + 17 * len(ranked),
        "The share of CelebA's images that have each attribute, in percent",
        "; ".join(f"{name} {100 * share:.0f}" for name, share in ranked),
    )
    d.parts.append(f'<path class="line dashed" d="M241 26V{34 + 17 * len(ranked)}"/>')
    d.text(241, 18, "half of the images", "note middle")
    for row, (name, share) in enumerate(ranked):
        top = 34 + 17 * row
        d.text(144, top + 11, name, "note end")
        d.parts.append(f'<rect class="one tint" x="150" y="{top}" width="{182 * share:.1f}" height="12" rx="2"/>')
        d.text(362, top + 11, f"{100 * share:.0f} %", "axes end")
    return d


DRAWINGS: tuple[Callable[[], Drawing], ...] = (wsgsa, positions, cgff, faramtn, maps, dws, rates)

if __name__ == "__main__":
    for draw in DRAWINGS:
        drawing = draw()
        (IMAGES / f"shapes-{drawing.name}.svg").write_text(drawing.svg(), encoding="utf-8")
