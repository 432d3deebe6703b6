"""Draw maps at the places that their cells look at."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Centres(NamedTuple):
    """The points that the cells of a map look at, as fractions of the picture, from its upper left corner.

    Attributes:
        rows: One number for each row of cells, increasing.
        columns: One number for each column of cells, increasing.
    """

    rows: Sequence[float]
    columns: Sequence[float]


def square_centres(height: int, width: int) -> Centres:
    """Return the centres of the equal rectangles into which a map of this size divides the picture.

    Example:
        >>> square_centres(2, 4)
        Centres(rows=[0.25, 0.75], columns=[0.125, 0.375, 0.625, 0.875])
    """
    rows, columns = ([(index + 0.5) / count for index in range(count)] for count in (height, width))
    return Centres(rows, columns)


def draw_maps(
    maps: Float[Tensor, "*batch h w"], size: Sequence[int], centres: Centres | None = None
) -> Float[Tensor, "*batch height width"]:
    """Resample maps at the pixels of a picture: each cell's value at its centre, linear between, constant beyond.

    The values stay within those of the map. Their mean is no longer the logit's: draw with this, compute without.

    Args:
        maps: Maps of one size.
        size: Height and width of the picture in pixels, whatever its resolution.
        centres: Where the cells look; None means the centres of equal rectangles.

    Raises:
        ValueError: There are not as many centres as cells.

    Example:
        >>> draw_maps(torch.tensor([[0.0, 8.0]]), (1, 8))
        tensor([[0., 0., 1., 3., 5., 7., 8., 8.]])
        >>> draw_maps(torch.tensor([[0.0, 8.0]]), (1, 8), Centres([0.5], [0.0625, 0.5625]))
        tensor([[0., 2., 4., 6., 8., 8., 8., 8.]])
    """
    rows, columns = centres or square_centres(*maps.shape[-2:])
    if (len(rows), len(columns)) != tuple(maps.shape[-2:]):
        raise ValueError(
            f"draw_maps: needs a centre for each of {maps.shape[-2]} rows and {maps.shape[-1]} columns of cells, "
            f"got {len(rows)} and {len(columns)}."
        )
    down, across = (_shares(at, length, maps) for at, length in zip((rows, columns), size, strict=True))
    return down @ maps @ across.mT


def _shares(centres: Sequence[float], length: int, like: Tensor) -> Float[Tensor, "pixel cell"]:
    """How much of each cell a pixel shows: of its two neighbours, by how near they are."""
    at = torch.tensor(centres, dtype=torch.float64)
    pixels = (torch.arange(length, dtype=torch.float64) + 0.5) / length
    shares = torch.zeros(length, len(centres), dtype=torch.float64)
    right = torch.searchsorted(at, pixels).clamp(1, max(len(centres) - 1, 1))
    if len(centres) == 1:
        shares += 1
    else:
        share = ((pixels - at[right - 1]) / (at[right] - at[right - 1])).clamp(0, 1)[:, None]
        shares.scatter_(1, right[:, None], share).scatter_(1, right[:, None] - 1, 1 - share)
    return shares.to(like)
