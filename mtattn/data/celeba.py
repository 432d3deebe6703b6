"""CelebA from disk: the official text files or Kaggle's csv form, whole or in part."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from mtattn.data.dataset import AttributeImages
from mtattn.data.files import existing_root, first_file, image_folder
from mtattn.data.tables import Table, read_annotations, read_partition
from mtattn.groups import check_known

_PARTS = {"train": 0, "valid": 1, "test": 2}
_OFFICIAL_FOLDERS = (".", "Anno", "Eval", "Img")
_SOURCE = (
    "Get CelebA from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html or from Kaggle, jessicali9530/celeba-dataset, "
    "and give the folder that holds list_attr_celeba, list_eval_partition (each .txt or .csv) and img_align_celeba."
)


class CelebA(AttributeImages):
    r"""CelebA's aligned faces, or any data in the same layout: other images, fewer attributes, corrected labels.

    ``root`` holds ``list_attr_celeba`` and ``list_eval_partition``, each as .txt or else as .csv, and the folder
    ``img_align_celeba``, plain or doubled; the official folders ``Anno``, ``Eval`` and ``Img`` are looked into as well.
    A split holds the images that both files list, in the order of the annotations. A row without its partner in the
    other file is passed over, so a shortened annotation file is enough to take fewer images.

    Args:
        root: The folder with the files above.
        split: "train", "valid", "test", or "all": every annotated image, whatever the partition says.
        attributes: The attributes to give, in the order wanted; all that the annotations have if None.
        transform: Turns the PIL image into what a model takes.
        missing: What to do about listed images that are not there: "error" stops, "skip" warns and leaves them out.

    Raises:
        FileNotFoundError: The root, a file, the image folder or an image is missing.
        ValueError: An attribute or split is unknown, the split is empty, or a file breaks its form.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> root = Path(tempfile.mkdtemp())
        >>> _ = (root / "list_attr_celeba.txt").write_text("1\nSmiling Young\n000001.jpg -1 1\n")
        >>> _ = (root / "list_eval_partition.txt").write_text("000001.jpg 0\n")
        >>> (root / "img_align_celeba").mkdir()
        >>> Image.new("RGB", (178, 218)).save(root / "img_align_celeba/000001.jpg")
        >>> image, target = CelebA(root, "train", attributes=["Young", "Smiling"])[0]
        >>> image.size, target
        ((178, 218), tensor([1., 0.]))
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        attributes: Sequence[str] | None = None,
        transform: Callable[[Any], Any] | None = None,
        missing: str = "error",
    ) -> None:
        check_known("CelebA", "split", [split], (*_PARTS, "all"))
        places = [existing_root("CelebA", root, _SOURCE) / folder for folder in _OFFICIAL_FOLDERS]
        table = read_annotations("CelebA", _find("list_attr_celeba", places))
        rows = slice(None) if split == "all" else _rows_of(split, table, _find("list_eval_partition", places))
        super().__init__(
            image_folder("CelebA", places, "img_align_celeba", _SOURCE),
            table.names[rows],
            table.values[rows],
            table.columns,
            only=attributes,
            transform=transform,
            missing=missing,
            zero="unknown",
        )


def _find(stem: str, places: Sequence[Path]) -> Path:
    return first_file("CelebA", places, (f"{stem}.txt", f"{stem}.csv"), _SOURCE)


def _rows_of(split: str, table: Table, path: Path) -> Bool[np.ndarray, " image"]:
    partition = read_partition("CelebA", path)
    members = partition.names[partition.values[:, 0] == _PARTS[split]]
    rows: Bool[np.ndarray, " image"] = np.isin(table.names, members)
    if not rows.any():
        raise ValueError(
            f"CelebA: split {split!r} is empty: {table.path} lists {len(table.names)} images, {path} puts "
            f"{len(members)} images into this split, and none is in both; take another split, or make the names agree."
        )
    return rows
