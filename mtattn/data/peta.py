"""PETA from disk: pedestrians with yes-or-no attributes, an age band, colours and the side they show."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtattn.data.cells import labels_of, read_published
from mtattn.data.dataset import AttributeImages
from mtattn.data.files import existing_root
from mtattn.data.peta_mat import read_peta_mat
from mtattn.groups import AttributeGroups, Categorical, Ordinal, check_known
from mtattn.groups.kinds import name_of

_PARTS = {"train": "train", "valid": "val", "test": "test"}
_HAIR = ("Black", "Brown", "Green", "Grey", "Orange", "Purple", "Red", "White", "Yellow")
_COLORS = ("Black", "Blue", "Brown", "Green", "Grey", "Orange", "Pink", "Purple", "Red", "White", "Yellow")
_SOURCE = (
    "Get PETA (Deng et al., ACM MM 2014; research only) and give the folder that holds peta.csv and the images. "
    "peta.csv has a row an image and the columns image, split or split_by_person (train, val, test), and one for each "
    "attribute of PETA_GROUPS, named as in PETA.mat. Without it the official PETA.mat is read, with images/00001.png."
)

PETA_GROUPS = AttributeGroups(
    {
        "person": [
            "personalMale",
            Ordinal("age", ("Less15", "16-30", "31-45", "46-60", "60+")),
            Categorical("viewpoint", ("front", "side", "back")),
        ],
        "head": [
            "hairLong",
            "accessoryHat",
            "accessoryMuffler",
            "accessorySunglasses",
            "accessoryNothing",
            Categorical("hair_color", _HAIR),
        ],
        "upper body": [
            "upperBodyCasual",
            "upperBodyFormal",
            "upperBodyJacket",
            "upperBodyLogo",
            "upperBodyPlaid",
            "upperBodyShortSleeve",
            "upperBodyThinStripes",
            "upperBodyTshirt",
            "upperBodyOther",
            "upperBodyVNeck",
            Categorical("upper_color", _COLORS),
        ],
        "lower body": [
            "lowerBodyCasual",
            "lowerBodyFormal",
            "lowerBodyJeans",
            "lowerBodyShorts",
            "lowerBodyShortSkirt",
            "lowerBodyTrousers",
            Categorical("lower_color", _COLORS),
        ],
        "feet": [
            "footwearLeatherShoes",
            "footwearSandals",
            "footwearShoes",
            "footwearSneaker",
            Categorical("footwear_color", _COLORS),
        ],
        "carrying": [
            "carryingBackpack",
            "carryingMessengerBag",
            "carryingPlasticBags",
            "carryingOther",
            "carryingNothing",
        ],
    }
)
"""The usual 35 attributes of PETA, their four age bands as one attribute of five levels, with colours and viewpoint.

The groups are places of the body, our choice. All labels are impressions of annotators, not facts about a person.
"""


class PETA(AttributeImages):
    r"""PETA: 19,000 pedestrians of ten sources, at a distance.

    The official random splits leak: PETA labels a person once for all of his images, and in the first split 57.7 % of
    the test images show a person who is also in another part. ``by_person=True`` takes a split in which nobody is in
    two parts. Report both, or the second.

    Args:
        root: The folder with ``peta.csv``, which has a row an image and the columns ``image``, ``split`` (an official
            split), ``split_by_person`` and the attributes, and with the images. Without it the official ``PETA.mat``
            is read: image 1 is ``images/00001`` of any suffix, the split is the first official one, and nobody knows
            the viewpoint.
        split: "train", "valid", "test" or "all".
        attributes: The attributes to give, in the order wanted; those of ``PETA_GROUPS`` if None.
        by_person: Whether the parts are those of ``split_by_person``.
        transform: Turns the PIL image into what a model takes.
        missing: What to do about listed images that are not there: "error" stops, "skip" warns and leaves them out.

    Raises:
        FileNotFoundError: The root, the file or an image is missing.
        ValueError: An attribute or split is unknown, the split is empty, or the file breaks its form.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> root = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (64, 128)).save(root / "1.png")
        >>> _ = (root / "peta.csv").write_text("image,split,personalMale,age\n1.png,train,1,16-30\n")
        >>> PETA(root, "train", attributes=["age", "personalMale"]).targets
        tensor([[1., 1.]])
        >>> PETA_GROUPS["carrying"][:2]
        ('carryingBackpack', 'carryingMessengerBag')

    Source:
        Deng, Luo, Loy and Tang, "Pedestrian attribute recognition at far distance", ACM MM 2014; research only.
    """

    caution = (
        "PETA's labels are what annotators saw in a picture, not facts about a person. Its official splits leak: in "
        "the first 57.7 % of the test images show a person who is in another part too, with the same labels, so scores "
        "on it flatter; those of the split by person do not. For research only."
    )

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        attributes: Sequence[str] | None = None,
        by_person: bool = False,
        transform: Callable[[Any], Any] | None = None,
        missing: str = "error",
    ) -> None:
        check_known("PETA", "split", [split], (*_PARTS, "all"))
        check_known("PETA", "attribute", attributes or (), PETA_GROUPS.attributes)
        kinds = (PETA_GROUPS.only(attributes) if attributes else PETA_GROUPS).kinds
        folder, column = existing_root("PETA", root, _SOURCE), "split_by_person" if by_person else "split"
        file, cells = _read(folder, column, ("image", column, *map(name_of, kinds)))
        parts = np.array(cells[column])
        rows = np.arange(len(parts)) if split == "all" else np.flatnonzero(parts == _PARTS[split])
        if not rows.size:
            raise ValueError(
                f"PETA: split {split!r} is empty: no row of {file} says {_PARTS[split]!r} in column {column!r}."
            )
        super().__init__(
            folder,
            [cells["image"][row] for row in rows.tolist()],
            labels_of(cells, kinds, rows),
            kinds,
            only=attributes,
            transform=transform,
            missing=missing,
            zero="no",
        )


def _read(folder: Path, column: str, columns: Sequence[str]) -> tuple[Path, Mapping[str, Sequence[Any]]]:
    file, official = folder / "peta.csv", folder / "PETA.mat"
    if file.is_file() or not official.is_file():
        return file, read_published("PETA", file, columns, _SOURCE, kinds=PETA_GROUPS.kinds).cells
    if column != "split":
        raise ValueError(f"PETA: {official} has no split by person; write one into the column {column!r} of peta.csv.")
    colors = {kind.name: kind.classes for kind in PETA_GROUPS.kinds if isinstance(kind, Categorical)}
    cells = read_peta_mat(official, colors)
    check_known(f"PETA: {official}", "label", columns, cells)
    return official, cells
