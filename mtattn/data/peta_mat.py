"""PETA.mat, PETA's official label file: its labels as the cells of a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from mtattn.data.cells import one_of
from mtattn.data.mat import read_mat

_BEFORE = 4  # columns of numbers before the labels
_BANDS = {
    "personalLess15": "Less15",
    "personalLess30": "16-30",
    "personalLess45": "31-45",
    "personalLess60": "46-60",
    "personalLarger60": "60+",
}
_COLORED = {"hair_color": "hair", "upper_color": "upperBody", "lower_color": "lowerBody", "footwear_color": "footwear"}


def read_peta_mat(path: Path, colors: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Read ``PETA.mat`` into the columns that ``peta.csv`` has; the side that a person shows is not in it.

    Args:
        path: The file.
        colors: The classes of each attribute of color.

    Returns:
        A cell an image for "image", "split" (the first official one), each label under its own name, "age" and the
        colors; "" where not exactly one band or color is labelled.

    Raises:
        ValueError: The file breaks its form.
    """
    names, labels, parts = _contents(path)
    absent = [name for name in _BANDS if name not in names]
    if absent:
        raise ValueError(f"PETA: {path} holds the 105 labels of PETA, got none called {absent[0]!r}; get it again.")
    cells = {"image": [f"images/{number:05}" for number in range(1, len(labels) + 1)], "split": [""] * len(labels)}
    for part, numbers in parts.items():
        for number in numbers:
            cells["split"][number - 1] = part
    cells |= {name: list(np.where(labels[:, place], "1", "0")) for place, name in enumerate(names)}
    cells["age"] = _one_of(names, labels, _BANDS)
    for attribute, prefix in _COLORED.items():
        cells[attribute] = _one_of(names, labels, {f"{prefix}{color}": color for color in colors[attribute]})
    cells["viewpoint"] = [""] * len(labels)
    return cells


def _contents(path: Path) -> tuple[list[str], Bool[np.ndarray, "image label"], dict[str, Int[np.ndarray, " number"]]]:
    try:
        peta = read_mat(path, "peta")[0, 0]
        names = [str(name) for name in peta["attribute"][:, 0]]
        values, split = peta["data"][:, _BEFORE:], peta["partion_attribute"][0, 0][0, 0]
        parts = {part: split[part].ravel() for part in ("train", "val", "test")}
        numbers = np.concatenate(list(parts.values())).astype(float)
    except Exception as error:
        raise ValueError(
            f"PETA: {path} must be PETA's official label file, got something else ({error}); get it again."
        ) from error
    wrong = values[(values != 0) & (values != 1)]
    if values.shape[1] != len(names) or wrong.size:
        got = f"{wrong[0]}" if wrong.size else f"{values.shape[1]} columns for {len(names)} names"
        raise ValueError(f"PETA: {path} has a column of 0 and 1 for each label, got {got}; get it again.")
    outside = numbers[~((numbers >= 1) & (numbers <= len(values)) & (numbers == np.floor(numbers)))]
    if outside.size or len(np.unique(numbers)) < len(numbers):
        got = f"{outside[0]:g}" if outside.size else "one in two parts"
        raise ValueError(f"PETA: the parts in {path} number images from 1 to {len(values)}, each once, got {got}.")
    return names, values == 1, {part: places.astype(int) for part, places in parts.items()}


def _one_of(names: list[str], labels: Bool[np.ndarray, "image label"], values: dict[str, str]) -> list[str]:
    """Give the value of which alone an image has the label."""
    there = {value: labels[:, names.index(name)] for name, value in values.items() if name in names}
    return one_of(there) if there else [""] * len(labels)
