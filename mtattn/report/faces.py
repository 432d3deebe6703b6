"""Attribute maps over faces: where the evidence for each attribute lies."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from mtattn._extras import needed_by
from mtattn.functional import Centres, draw_maps
from mtattn.groups import AttributeGroups, check_known
from mtattn.report.figures import BETTER, INK, WORSE, shorten

with needed_by("mtattn.report", extra="recipes"):
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb
    from matplotlib.figure import Figure

AGAINST, FOR = BETTER, WORSE
LONG_SIDE = 168


@dataclass(frozen=True)
class FaceExample:
    """A test face with what the model says about it.

    Args:
        image: The picture, in [0, 1].
        probabilities: The predictions, in [0, 1].
        targets: The truth, positive from 0.5; NaN where unlabelled.
        maps: Signed evidence in logit units that averages to the logits, as ``FARAMTN.attribute_maps`` returns it.
        centres: Where the cells of the maps look, as :func:`mtattn.models.map_centres` returns it; None means the
            middles of equal rectangles.
        name: What to call it, such as its file.

    Example:
        >>> truth = torch.tensor([1.0])
        >>> face = FaceExample(torch.rand(3, 64, 64), torch.tensor([0.9]), truth, torch.randn(1, 4, 4))
        >>> figure = plot_attribute_maps([face], AttributeGroups({"mouth": ["Smiling"]}), ["Smiling"])
        >>> len(figure.axes)  # the face, its map, and the scale
        3
    """

    image: Float[Tensor, "color height width"]
    probabilities: Float[Tensor, " column"]
    targets: Float[Tensor, " attribute"]
    maps: Float[Tensor, "column _height _width"]
    centres: Centres | None = None
    name: str = ""


def plot_attribute_maps(
    faces: Sequence[FaceExample],
    groups: AttributeGroups,
    attributes: Sequence[str],
    *,
    captions: Sequence[Sequence[str]] | None = None,
) -> Figure:
    """Draw faces in rows and, beside each, the maps of the named attributes, with probability and truth.

    Args:
        faces: At least one face.
        groups: The attributes in the order of the faces' maps.
        attributes: Which of them to draw, in this order.
        captions: For each face what stands below each map, in place of probability and truth.

    Raises:
        ValueError: There is no face, or an attribute is not known.
    """
    check_known("plot_attribute_maps", "attribute", attributes, groups.attributes)
    if not faces:
        raise ValueError("plot_attribute_maps: needs at least one face, got none.")
    num_columns = 1 + len(attributes)
    aspect = faces[0].image.shape[1] / faces[0].image.shape[2]
    size = (1.15 * num_columns + 0.7, (1.12 * aspect + 0.16) * len(faces) + 0.25)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(faces), num_columns, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    indices = [groups.attributes.index(name) for name in attributes]
    limit = map_limit(faces, indices)
    told = captions or [[verdict(face, index) for index in indices] for face in faces]
    for row, face, words in zip(grid, faces, told, strict=True):
        row[0].imshow(as_pixels(face.image).numpy())
        for axes, index, caption in zip(row[1:], indices, words, strict=True):
            axes.imshow(overlay(face, index, limit).numpy())
            axes.set_xlabel(caption, fontsize=7.5, color=INK, labelpad=2)
    for axes, name in zip(grid[0, 1:], attributes, strict=True):
        axes.set_title(shorten(name, 18), fontsize=8, color=INK, parse_math=False)
    colors = LinearSegmentedColormap.from_list("evidence", [AGAINST, "#dddddd", FOR])
    bar = figure.colorbar(ScalarMappable(Normalize(-limit, limit), colors), ax=grid, shrink=0.7, aspect=30)
    bar.set_label("against  ←  logits  →  for", fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=7.5, colors=INK)
    return figure


def verdict(face: FaceExample, index: int) -> str:
    """Put a prediction and its truth into a few words.

    Example:
        >>> one = torch.ones(1)
        >>> verdict(FaceExample(torch.zeros(3, 4, 4), 0.93 * one, one, torch.zeros(1, 2, 2)), 0)
        '93 %, truth: yes'
    """
    target = face.targets[index]
    truth = "no label" if target.isnan() else "truth: yes" if target >= 0.5 else "truth: no"
    return f"{100 * float(face.probabilities[index]):.0f} %, {truth}"


def map_limit(faces: Sequence[FaceExample], indices: Sequence[int]) -> float:
    """Find the scale that all pictures share: 99 % of the values drawn lie within plus and minus this many logits."""
    values = torch.cat([face.maps[list(indices)].detach().float().flatten().abs().cpu() for face in faces])
    return max(float(values.nan_to_num().quantile(0.99)), 1e-6) if len(values) else 1.0


def as_pixels(image: Float[Tensor, "color height width"]) -> Float[Tensor, "_height _width 3"]:
    """Bring a picture to one size, three colours and matplotlib's order of axes."""
    if image.shape[0] not in (1, 3):
        raise ValueError(f"FaceExample: a picture has 1 or 3 colours, got {image.shape[0]}; give it as it is seen.")
    image = image.detach().float().cpu()
    scale = LONG_SIDE / max(image.shape[1:])
    size = [max(1, round(side * scale)) for side in image.shape[1:]]
    resized = interpolate(image[None], size, mode="bilinear", antialias=True)[0].clamp(0, 1)
    return rearrange(resized.expand(3, -1, -1), "color height width -> height width color")


def overlay(face: FaceExample, index: int, limit: float) -> Float[Tensor, "_height _width 3"]:
    """Lay an attribute's map over the pale grey picture: coloured by sign, denser the larger the value."""
    grey = as_pixels(face.image).mean(-1, keepdim=True)
    evidence = face.maps[index].detach().float().cpu().nan_to_num()
    drawn = draw_maps(evidence, grey.shape[:2], face.centres)[:, :, None]
    color = torch.where(drawn > 0, torch.tensor(to_rgb(FOR)), torch.tensor(to_rgb(AGAINST)))
    opacity = 0.8 * (drawn.abs() / limit).clamp(0, 1)
    return (0.4 + 0.55 * grey) * (1 - opacity) + color * opacity
