"""PA-100K from disk: pedestrians with yes-or-no attributes, an age band and the side they show."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from mtattn.data.cells import labels_of, one_of
from mtattn.data.dataset import AttributeImages
from mtattn.data.files import existing_root, first_file
from mtattn.data.mat import read_mat
from mtattn.groups import AttributeGroups, Categorical, Ordinal, check_known

_PARTS = {"train": "train", "valid": "val", "test": "test"}
_FOLDERS = ("data", "release_data/release_data", "release_data", "images", ".")
_SOURCE = (
    "Get PA-100K (Liu et al., ICCV 2017; research only) and give the folder that holds annotation.mat and the images, "
    "in data or in release_data."
)
_AGE = Ordinal("age", ("AgeLess18", "Age18-60", "AgeOver60"))
_VIEW = Categorical("viewpoint", ("Front", "Side", "Back"))
_ONE_OF = {_AGE.name: _AGE.levels, _VIEW.name: _VIEW.classes}  # each has a label of its own in the file

PA100K_GROUPS = AttributeGroups(
    {
        "person": ["Female", _AGE, _VIEW],
        "head": ["Hat", "Glasses"],
        "upper body": [
            "ShortSleeve",
            "LongSleeve",
            "UpperStride",
            "UpperLogo",
            "UpperPlaid",
            "UpperSplice",
            "LongCoat",
        ],
        "lower body": ["LowerStripe", "LowerPattern", "Trousers", "Shorts", "Skirt&Dress"],
        "feet": ["boots"],
        "carrying": ["HandBag", "ShoulderBag", "Backpack", "HoldObjectsInFront"],
    }
)
"""The 26 labels of PA-100K, its three age bands as one attribute of three levels, its three sides as one of three.

The groups are places of the body, our choice. All labels are impressions of annotators, not facts about a person.
"""


class PA100K(AttributeImages):
    """PA-100K: 100,000 pedestrians in outdoor surveillance, 80,000 to train, 10,000 to validate, 10,000 to test.

    Its labels are read from the official ``annotation.mat``; nobody is in two parts, say its authors. The form of the
    file is our reading of public programs that read it: it was not at hand.

    Args:
        root: The folder with ``annotation.mat``, and with the images in ``data``, ``release_data/release_data``,
            ``release_data``, ``images`` or beside it.
        split: "train", "valid", "test" or "all".
        attributes: The attributes to give, in the order wanted; those of ``PA100K_GROUPS`` if None.
        transform: Turns the PIL image into what a model takes.
        missing: What to do about listed images that are not there: "error" stops, "skip" warns and leaves them out.

    Raises:
        FileNotFoundError: The root, the file or an image is missing.
        ValueError: An attribute or split is unknown, the split is empty, or the file breaks its form.

    Example:
        >>> PA100K_GROUPS["carrying"]
        ('HandBag', 'ShoulderBag', 'Backpack', 'HoldObjectsInFront')

    Source:
        Liu et al., "HydraPlus-Net: Attentive deep features for pedestrian analysis", ICCV 2017; research only.
    """

    caution = "PA-100K's labels are what annotators saw in a picture, not facts about a person. For research only."

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        attributes: Sequence[str] | None = None,
        transform: Callable[[Any], Any] | None = None,
        missing: str = "error",
    ) -> None:
        check_known("PA100K", "split", [split], (*_PARTS, "all"))
        folder = existing_root("PA100K", root, _SOURCE)
        parts = list(_PARTS.values()) if split == "all" else [_PARTS[split]]
        names, labels = _read(first_file("PA100K", [folder], ["annotation.mat"], _SOURCE), parts)
        if not names:
            raise ValueError(f"PA100K: split {split!r} is empty in {folder / 'annotation.mat'}; get the file again.")
        places = [folder / place for place in _FOLDERS]
        super().__init__(
            next((place for place in places if (place / names[0]).is_file()), folder),
            names,
            labels,
            PA100K_GROUPS.kinds,
            only=attributes,
            transform=transform,
            missing=missing,
            zero="no",
        )


def _read(path: Path, parts: Sequence[str]) -> tuple[list[str], Shaped[np.ndarray, "image attribute"]]:
    """Give the names of the images and their labels, the columns of ``PA100K_GROUPS``; None where nobody knows."""
    try:
        columns = [str(name) for name in read_mat(path, "attributes")[:, 0]]
        listed = {part: [str(n) for n in read_mat(path, f"{part}_images_name")[:, 0]] for part in _PARTS.values()}
        names = [listed[part] for part in parts]
        values = [read_mat(path, f"{part}_label") for part in parts]
        labels = np.concatenate(values)
    except Exception as error:
        raise ValueError(
            f"PA100K: {path} must be PA-100K's annotation.mat, got something else ({error}); get it again."
        ) from error
    expected = [label for name in PA100K_GROUPS.attributes for label in _ONE_OF.get(name, (name,))]
    if sorted(columns) != sorted(expected):
        strange = sorted(set(columns) ^ set(expected)) or [name for name in columns if columns.count(name) > 1]
        raise ValueError(f"PA100K: {path} names the {len(expected)} labels of PA-100K, got {strange[0]!r} otherwise.")
    files = [name for part in names for name in part]
    sizes = [len(part) for part in names], [len(part) for part in values]
    if sizes[0] != sizes[1] or labels.shape[1:] != (len(columns),):
        raise ValueError(
            f"PA100K: {path} has a row of {len(columns)} labels for each image, got {sizes[0]} images and "
            f"labels of shape {labels.shape}; get it again."
        )
    name, count = max(Counter(chain(*listed.values())).items(), key=lambda item: item[1], default=("", 0))
    if count > 1:
        raise ValueError(
            f"PA100K: an image is in one part and there once, got {name!r} {count} times in {path}; get it again."
        )
    wrong = labels[(labels != 0) & (labels != 1)]
    if wrong.size:
        raise ValueError(f"PA100K: a label is 0 or 1, got {wrong[0]} in {path}; get it again.")
    yes = dict(zip(columns, (labels == 1).T, strict=True))
    cells = {label: np.where(own, "1", "0").tolist() for label, own in yes.items()}
    cells |= {name: one_of({label: yes[label] for label in own}) for name, own in _ONE_OF.items()}
    return files, labels_of(cells, PA100K_GROUPS.kinds, np.arange(len(files)))
