"""Rows with an image and a column an attribute, as Hugging Face ``datasets`` gives them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from mtattn._extras import needed_by
from mtattn.data.images import UnreadableImage, as_rgb
from mtattn.data.labels import as_numbers
from mtattn.groups import check_known

with needed_by("mtattn.data", extra="recipes"):
    from PIL import Image


def read_row(
    row: Mapping[str, Any],
    attributes: Sequence[str],
    *,
    transform: Callable[[Any], Any] | None = None,
    image: str = "image",
) -> tuple[Any, Float[Tensor, " attribute"]]:
    """Turn a row into an image, RGB and transformed, and its targets; what a stream of rows needs.

    Args:
        row: Column names and values; a label is true or false, 1 or 0, or None or NaN where nobody knows.
        attributes: The label columns, in the order wanted.
        transform: Turns the PIL image into what a model takes.
        image: The column that holds the PIL image.

    Raises:
        ValueError: A column is missing, or a label is something else.
        TypeError: The column of images holds something else.
        UnreadableImage: The picture is damaged, or nobody knows its black and white; see :func:`read_image`.

    Example:
        >>> from PIL import Image
        >>> row = {"image": Image.new("L", (8, 8)), "Male": None, "Smiling": True, "Young": False}
        >>> picture, target = read_row(row, ["Smiling", "Young", "Male"])
        >>> picture.mode, target
        ('RGB', tensor([1., 0., nan]))
    """
    check_known("read_row", "column", [image, *attributes], row)
    picture = _picture(row[image], image)
    targets = torch.cat([_targets(name, [row[name]]) for name in attributes]) if attributes else torch.empty(0)
    return picture if transform is None else transform(picture), targets


class AttributeRows(Dataset[tuple[Any, Tensor]]):
    """Images and targets from a Hugging Face ``datasets.Dataset``, for ``fit``, ``evaluate`` or any ``DataLoader``.

    Args:
        rows: The data set, with a column of images and a column for each attribute.
        attributes: The label columns, in the order wanted: ``groups.attributes``.
        transform: Turns the PIL image into what a model takes.
        image: The column that holds the images.

    Attributes:
        attributes: The names of the target columns.

    Raises:
        ValueError: There is no such column.

    Example:
        >>> class Rows(dict):  # stands in for a datasets.Dataset
        ...     column_names = ["image", "Smiling"]
        >>> AttributeRows(Rows(Smiling=[True, None, False]), ["Smiling"]).targets
        tensor([[1.],
                [nan],
                [0.]])
    """

    def __init__(
        self,
        rows: Any,
        attributes: Sequence[str],
        *,
        transform: Callable[[Any], Any] | None = None,
        image: str = "image",
    ) -> None:
        check_known("AttributeRows", "column", [image, *attributes], rows.column_names)
        self.rows, self.attributes, self.transform, self.image = rows, tuple(attributes), transform, image

    @property
    def targets(self) -> Float[Tensor, "image attribute"]:
        """Every target, 1 where an image has the attribute, 0 where it has not, NaN where nobody knows."""
        return torch.stack([_targets(name, self.rows[name]) for name in self.attributes], dim=1)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Any, Float[Tensor, " attribute"]]:
        """Read one image, RGB and transformed, and its targets."""
        return read_row(self.rows[int(index)], self.attributes, transform=self.transform, image=self.image)


def _picture(picture: Any, column: str) -> Image.Image:
    if not isinstance(picture, Image.Image):
        raise TypeError(
            f"read_row: column {column!r} holds PIL images, got a {type(picture).__name__}; "
            f"cast the column to datasets.Image(), or open the file with read_image."
        )
    try:
        return as_rgb(picture)
    except Exception as error:  # it is decoded only now, and on damaged data PIL raises nearly anything
        raise UnreadableImage(f"read_row: cannot read the picture in column {column!r}: {error}.") from error


def _targets(attribute: str, labels: Sequence[Any]) -> Float[Tensor, " label"]:
    """Read labels row by row: a stream shows no other rows that could tell what -1 or a 0 beside it says."""
    labels = list(labels)
    numbers = as_numbers(np.array([*labels, None], object)[:-1])
    for row in np.flatnonzero(~np.isnan(numbers) & ~np.isin(numbers, (0, 1)))[:1]:
        raise ValueError(
            f"AttributeRows: a label is true, false or None (unknown), got {labels[row]!r} for {attribute!r}; "
            f"map it to these."
        )
    return torch.from_numpy(numbers.astype(np.float32))
