"""What a label says: 1 is yes, -1 or 0 is no, 0 or NaN is unknown, decided for each column by itself."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from mtattn.groups import check_known


def read_labels(
    owner: str, labels: Any, attributes: Sequence[str], *, num_images: int, zero: str | None = None
) -> Float[Tensor, "image attribute"]:
    """Read labels as targets, in which 1 is yes, 0 is no and NaN is unknown.

    Args:
        owner: Who complains.
        labels: A row an image, a column an attribute, as :class:`mtattn.data.AttributeImages` takes them.
        attributes: The names of the columns.
        num_images: How many rows there have to be.
        zero: What a 0 says in a column without -1, "no" or "unknown"; None if NaN or truth values have to tell.

    Raises:
        ValueError: The shape is another, a label is something else, or nobody can tell what 0 says.

    Example:
        >>> read_labels("labels", [[1, 1], [-1, 0], [0, None]], ["Smiling", "Hat"], num_images=3)
        tensor([[1., 1.],
                [0., 0.],
                [nan, nan]])
    """
    if zero is not None:
        check_known(owner, "reading of 0", [zero], ("no", "unknown"))
    try:
        array = np.asarray(labels)
    except ValueError as error:
        raise ValueError(f"{owner}: all rows of labels have one length, got rows of several.") from error
    if array.shape != (num_images, len(attributes)):
        raise ValueError(
            f"{owner}: labels have a row for each image and a column for each attribute, got shape {array.shape} "
            f"for {num_images} images and {len(attributes)} attributes."
        )
    columns = [read_column(owner, name, array[:, place], zero=zero) for place, name in enumerate(attributes)]
    return torch.stack(columns, 1) if columns else torch.empty(num_images, 0)


def read_column(
    owner: str, attribute: str, labels: Sequence[Any] | Shaped[np.ndarray, " label"], *, zero: str | None = None
) -> Float[Tensor, " label"]:
    """Read the labels of one attribute as targets; see :func:`read_labels`.

    Example:
        >>> read_column("labels", "Hat", [True, False, None])
        tensor([1., 0., nan])
    """
    labels = np.asarray(labels)
    numbers = as_numbers(labels)
    unknown = np.isnan(numbers)
    wrong = np.flatnonzero(~unknown & ~np.isin(numbers, (-1, 0, 1)))
    if wrong.size:
        more = f" and {wrong.size - 1} more" if wrong.size > 1 else ""
        raise ValueError(
            f"{owner}: a label is 1 (yes), 0 or -1 (no), or NaN (unknown), got {labels[wrong[0]]!s} for "
            f"{attribute!r} in row {wrong[0] + 1}{more}; map the labels to these."
        )
    zeros = numbers == 0
    if (numbers == -1).any() or (zeros.any() and _reading(owner, attribute, labels, unknown, zero) == "unknown"):
        unknown |= zeros
    return torch.from_numpy(np.where(unknown, np.nan, numbers > 0).astype(np.float32))


def _reading(
    owner: str, attribute: str, labels: Shaped[np.ndarray, " label"], unknown: Bool[np.ndarray, " label"], zero: Any
) -> str:
    if zero is not None:
        return str(zero)
    if unknown.any() or labels.dtype == bool or any(isinstance(label, bool | np.bool_) for label in labels):
        return "no"
    raise ValueError(
        f"{owner}: 0 says 'no' beside 1 and NaN, and 'unknown' beside 1 and -1, got 0 and neither for {attribute!r}; "
        f"say which with zero='no' or zero='unknown', or write -1 for no and NaN for unknown."
    )


def as_numbers(labels: Shaped[np.ndarray, " label"]) -> Float[np.ndarray, " label"]:
    """Read numbers and truth values, None and pandas' NA as NaN, and anything else as infinite.

    Example:
        >>> as_numbers(np.array([True, 0, None, "yes"], dtype=object))
        array([ 1.,  0., nan, inf])
    """
    if labels.dtype.kind in "biuf":
        return labels.astype(np.float64)
    return np.array([_number(label) for label in labels], np.float64)


def _number(label: Any) -> float:
    if label is None or repr(label) == "<NA>":
        return np.nan
    is_number = isinstance(label, float | np.number | np.bool_) or (isinstance(label, int) and abs(label) < 2**53)
    return float(label) if is_number else np.inf
