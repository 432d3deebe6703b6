"""FairFace from disk: faces with the age band, gender and race that annotators saw in them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from mtattn.data.cells import labels_of, read_published
from mtattn.data.dataset import AttributeImages
from mtattn.data.files import existing_root
from mtattn.groups import AttributeGroups, Categorical, Number, Ordinal, check_known

_MIDDLES = {
    "0-2": 1.0,
    "3-9": 6.0,
    "10-19": 14.5,
    "20-29": 24.5,
    "30-39": 34.5,
    "40-49": 44.5,
    "50-59": 54.5,
    "60-69": 64.5,
    "more than 70": 75.0,  # a guess: the band has no end
}
_AGE, _YEARS = Ordinal("age", tuple(_MIDDLES)), Number("years", unit="years")
_GENDER = Categorical("gender", ("Female", "Male"))
_RACE = Categorical(
    "race", ("Black", "East Asian", "Indian", "Latino_Hispanic", "Middle Eastern", "Southeast Asian", "White")
)
_PARTS = ("train", "valid", "trainval", "test", "all")
_SOURCE = (
    "Get FairFace from https://github.com/joojs/fairface and give the folder that holds fairface_label_train.csv, "
    "fairface_label_val.csv and the images train/1.jpg and val/1.jpg; or one fairface.csv with image, split and labels."
)

FAIRFACE_GROUPS = AttributeGroups({"age": [_AGE], "gender": [_GENDER]})
"""FairFace's age as one of nine bands, and gender. Both are impressions of annotators, not facts about a person."""

FAIRFACE_GROUPS_YEARS = AttributeGroups({"age": [_YEARS], "gender": [_GENDER]})
"""The same with the age as a number, the middle of its band in years, so five years off at best."""


class FairFace(AttributeImages):
    r"""FairFace: age, gender and race of faces as annotators saw them in a picture, not as facts about a person.

    There is a training part and an official validation part, on which scores are reported and which is "test" here.
    For choosing a model, "valid" is every tenth image of the training part. Nobody knows whether a person is in several
    parts; a few pictures are.

    Args:
        root: The folder with ``fairface_label_train.csv`` and ``fairface_label_val.csv``, or one ``fairface.csv`` with
            the columns ``image`` and ``split`` before the labels, and with the images.
        split: "train" and "valid", together "trainval" (the official training part); "test"; or "all".
        attributes: Of "age" (one of nine bands), "years" (the middle of the band), "gender" and "race" the ones to
            give, in the order wanted; all if None.
        transform: Turns the PIL image into what a model takes.
        missing: What to do about listed images that are not there: "error" stops, "skip" warns and leaves them out.

    Raises:
        FileNotFoundError: The root, a file or an image is missing.
        ValueError: An attribute or split is unknown, the split is empty, or a file breaks its form.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> root = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (224, 224)).save(root / "1.jpg")
        >>> _ = (root / "fairface.csv").write_text("image,split,age,gender,race\n1.jpg,val,3-9,Female,Indian\n")
        >>> FairFace(root, "test", attributes=FAIRFACE_GROUPS.attributes).targets
        tensor([[1., 0.]])
        >>> FairFace(root, "test", attributes=FAIRFACE_GROUPS_YEARS.attributes).targets
        tensor([[6., 0.]])

    Source:
        Karkkainen and Joo, "FairFace", WACV 2021; CC BY 4.0.
    """

    caution = (
        "FairFace's age, gender and race are what annotators saw in a picture, not facts about a person. Do not decide "
        "anything about people with them."
    )

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        attributes: Sequence[str] | None = None,
        transform: Callable[[Any], Any] | None = None,
        missing: str = "error",
    ) -> None:
        check_known("FairFace", "split", [split], _PARTS)
        folder = existing_root("FairFace", root, _SOURCE)
        cells = _read(folder)
        rows = _rows_of(split, np.array(cells["split"]))
        kinds = (_AGE, _YEARS, _GENDER, _RACE)
        super().__init__(
            folder,
            [cells["image"][row] for row in rows],
            labels_of(cells, kinds, rows),
            kinds,
            only=attributes,
            transform=transform,
            missing=missing,
        )


def _read(folder: Path) -> dict[str, list[Any]]:
    labels, kinds = ("age", "gender", "race"), (_AGE, _GENDER, _RACE)
    whole = folder / "fairface.csv"
    if whole.is_file():
        table = read_published("FairFace", whole, ("image", "split", *labels), _SOURCE, kinds=kinds)
        cells: dict[str, list[Any]] = {name: list(table.cells[name]) for name in ("image", "split", *labels)}
    else:
        parts = {part: folder / f"fairface_label_{part}.csv" for part in ("train", "val")}
        tables = {
            part: read_published("FairFace", file, ("file", *labels), _SOURCE, kinds=kinds)
            for part, file in parts.items()
        }
        cells = {name: [cell for table in tables.values() for cell in table.cells[name]] for name in labels}
        cells["image"] = [cell for table in tables.values() for cell in table.cells["file"]]
        cells["split"] = [part for part, table in tables.items() for _ in range(len(table))]
    return cells | {"years": [_MIDDLES.get(band, band) for band in cells["age"]]}


def _rows_of(split: str, parts: Shaped[np.ndarray, " image"]) -> Int[np.ndarray, " row"]:
    train, test = np.flatnonzero(parts == "train"), np.flatnonzero(parts == "val")
    is_valid = np.arange(len(train)) % 10 == 9
    rows: Int[np.ndarray, " row"] = {
        "train": train[~is_valid],
        "valid": train[is_valid],
        "trainval": train,
        "test": test,
        "all": np.arange(len(parts)),
    }[split]
    if not rows.size:
        raise ValueError(
            f"FairFace: split {split!r} is empty: {len(train)} images are of the part train and {len(test)} of "
            f"val; take another split, or get the files again."
        )
    return rows
