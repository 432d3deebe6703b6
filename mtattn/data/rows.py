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
from mtattn.data.labels import as_numbers, read_column
from mtattn.groups import Attribute, check_known
from mtattn.groups.kinds import name_of

with needed_by("mtattn.data", extra="recipes"):
    from PIL import Image


def read_row(
    row: Mapping[str, Any],
    attributes: Sequence[Attribute],
    *,
    transform: Callable[[Any], Any] | None = None,
    image: str = "image",
) -> tuple[Any, Float[Tensor, " attribute"]]:
    """Turn a row into an image, RGB and transformed, and its targets; what a stream of rows needs.

    Args:
        row: Column names and values; a label is true or false, 1 or 0, or None or NaN where nobody knows; of other
            kinds the name or index of the class or level, or the number.
        attributes: The label columns, in the order wanted: names, or ``groups.kinds`` where not all are binary.
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
    check_known("read_row", "column", [image, *map(name_of, attributes)], row)
    picture = _picture(row[image], image)
    columns = [_targets("read_row", attribute, [row[name_of(attribute)]]) for attribute in attributes]
    targets = torch.cat(columns) if columns else torch.empty(0)
    return picture if transform is None else transform(picture), targets


class AttributeRows(Dataset[tuple[Any, Tensor]]):
    """Images and targets from a Hugging Face ``datasets.Dataset``, for ``fit``, ``evaluate`` or any ``DataLoader``.

    Args:
        rows: The data set, with a column of images and a column for each attribute.
        attributes: The label columns, in the order wanted: ``groups.attributes``, or ``groups.kinds`` where not all are
            binary. Where the data set has a name for each class (``datasets.ClassLabel``), classes are matched by name.
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
        attributes: Sequence[Attribute],
        *,
        transform: Callable[[Any], Any] | None = None,
        image: str = "image",
    ) -> None:
        names = tuple(map(name_of, attributes))
        check_known("AttributeRows", "column", [image, *names], rows.column_names)
        self.rows, self.attributes, self.transform, self.image = rows, names, transform, image
        self.kinds = tuple(attributes)
        features = getattr(rows, "features", None) or {}
        self._classes = {
            name: features[name].names
            for name, kind in zip(names, self.kinds, strict=True)
            if not isinstance(kind, str) and hasattr(features.get(name), "names")
        }

    @property
    def targets(self) -> Float[Tensor, "image attribute"]:
        """Every target, 1 for yes and 0 for no, a class or level, or a number; NaN where nobody knows."""
        columns = [
            _targets("AttributeRows", kind, [self._named(name, label) for label in self.rows[name]])
            for name, kind in zip(self.attributes, self.kinds, strict=True)
        ]
        return torch.stack(columns, dim=1)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Any, Float[Tensor, " attribute"]]:
        """Read one image, RGB and transformed, and its targets."""
        row = dict(self.rows[int(index)])
        row |= {name: self._named(name, row[name]) for name in self._classes}
        return read_row(row, self.kinds, transform=self.transform, image=self.image)

    def _named(self, name: str, label: Any) -> Any:
        """Give a class by the name that the data set has for its index; -1 is its way to say unknown."""
        if name not in self._classes or not isinstance(label, int):
            return label
        return None if label == -1 else self._classes[name][label]


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


def _targets(owner: str, attribute: Attribute, labels: Sequence[Any]) -> Float[Tensor, " label"]:
    """Read labels row by row: a stream shows no other rows that could tell what -1 or a 0 beside it says."""
    labels = list(labels)
    if not isinstance(attribute, str):
        return read_column(owner, attribute, labels)
    numbers = as_numbers(np.array([*labels, None], object)[:-1])
    for row in np.flatnonzero(~np.isnan(numbers) & ~np.isin(numbers, (0, 1)))[:1]:
        raise ValueError(
            f"{owner}: a label is true, false or None (unknown), got {labels[row]!r} for {attribute!r}; "
            f"map it to these."
        )
    return torch.from_numpy(numbers.astype(np.float32))
