"""Rows with an image and a column an attribute, as Hugging Face ``datasets`` gives them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from mtattn.groups import check_known


def read_row(
    row: Mapping[str, Any],
    attributes: Sequence[str],
    *,
    transform: Callable[[Any], Any] | None = None,
    image: str = "image",
) -> tuple[Any, Float[Tensor, " attribute"]]:
    """Turn a row into an image, RGB and transformed, and its targets; what a stream of rows needs.

    Args:
        row: Column names and values; a label is true or false, 1 or 0, or None where nobody knows.
        attributes: The label columns, in the order wanted.
        transform: Turns the PIL image into what a model takes.
        image: The column that holds the PIL image.

    Raises:
        ValueError: A label is something else.

    Example:
        >>> from PIL import Image
        >>> row = {"image": Image.new("L", (8, 8)), "Male": None, "Smiling": True, "Young": False}
        >>> picture, target = read_row(row, ["Smiling", "Young", "Male"])
        >>> picture.mode, target
        ('RGB', tensor([1., 0., nan]))
    """
    picture = row[image].convert("RGB")
    return picture if transform is None else transform(picture), _targets([row[name] for name in attributes])


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
        return torch.stack([_targets(self.rows[name]) for name in self.attributes], dim=1)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Any, Float[Tensor, " attribute"]]:
        """Read one image, RGB and transformed, and its targets."""
        return read_row(self.rows[int(index)], self.attributes, transform=self.transform, image=self.image)


def _targets(labels: Sequence[Any]) -> Float[Tensor, " label"]:
    labels = list(labels)
    for label in labels:
        if label not in (0, 1, None):
            raise ValueError(
                f"AttributeRows: a label is true, false or None (unknown), got {label!r}; map it to these."
            )
    return torch.tensor([torch.nan if label is None else float(label) for label in labels])
