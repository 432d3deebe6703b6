"""What a label says, decided for each column by itself: yes, no or unknown; a class, a level or a number."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from mtattn.groups import Attribute, Categorical, Number, Ordinal, check_known

_LARGEST = float(np.finfo(np.float32).max)


def read_labels(
    owner: str, labels: Any, attributes: Sequence[Attribute], *, num_images: int, zero: str | None = None
) -> Float[Tensor, "image attribute"]:
    """Read labels as targets: 1 is yes and 0 no, or the index of a class or level, or the number; NaN is unknown.

    Args:
        owner: Who complains.
        labels: A row an image, a column an attribute, as :class:`mtattn.data.AttributeImages` takes them.
        attributes: What each column is.
        num_images: How many rows there have to be.
        zero: What a 0 says in a binary column without -1, "no" or "unknown"; None if NaN or truth values have to tell.

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
        array = np.asarray(labels, None if all(isinstance(name, str) for name in attributes) else object)
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
    owner: str, attribute: Attribute, labels: Sequence[Any] | Shaped[np.ndarray, " label"], *, zero: str | None = None
) -> Float[Tensor, " label"]:
    """Read the labels of one attribute as targets; see :func:`read_labels`.

    Example:
        >>> read_column("labels", "Hat", [True, False, None])
        tensor([1., 0., nan])
        >>> read_column("labels", Ordinal("age", ("child", "young", "old")), ["old", 0, None])
        tensor([2., 0., nan])
    """
    match attribute:
        case Categorical(name, choices) | Ordinal(name, choices):
            return _read(owner, name, labels, lambda label: _index(choices, label), _rule(choices))
        case Number(name):
            return _read(owner, name, labels, _finite, "is a finite number")
    return _read_binary(owner, attribute, labels, zero=zero)


def _read(
    owner: str,
    name: str,
    labels: Sequence[Any] | Shaped[np.ndarray, " label"],
    read: Callable[[Any], float | None],
    rule: str,
) -> Float[Tensor, " label"]:
    values = [np.nan if _number(label) != _number(label) else read(label) for label in labels]
    wrong = [row for row, value in enumerate(values) if value is None]
    if wrong:
        more = f" and {len(wrong) - 1} more" if wrong[1:] else ""
        raise ValueError(
            f"{owner}: a label of {name!r} {rule}, or NaN (unknown), got {labels[wrong[0]]!s} in row "
            f"{wrong[0] + 1}{more}; map the labels to these."
        )
    return torch.tensor(values, dtype=torch.float32)


def _rule(choices: Sequence[str]) -> str:
    return f"is one of {', '.join(choices)}, or its index from 0 to {len(choices) - 1}"


def _index(choices: Sequence[str], label: Any) -> float | None:
    if isinstance(label, str):
        return float(choices.index(label)) if label in choices else None
    number = np.inf if isinstance(label, bool | np.bool_) else _number(label)
    return number if number in range(len(choices)) else None


def _finite(label: Any) -> float | None:
    number = np.inf if isinstance(label, bool | np.bool_) else _number(label)
    return number if abs(number) < _LARGEST else None


def _read_binary(owner: str, attribute: str, labels: Any, *, zero: str | None) -> Float[Tensor, " label"]:
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
