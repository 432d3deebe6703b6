"""LFWA from disk: the official MATLAB v7.3 files, which are HDF5, and the LFW images."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Int8, Shaped

from mtattn._extras import needed_by
from mtattn.data.dataset import AttributeImages
from mtattn.data.files import existing_root, first_file, image_folder
from mtattn.groups import check_known

with needed_by("mtattn.data.LFWA", extra="recipes"):
    import h5py

_LABELS, _INDICES = "lfw_att_40.mat", "indices_train_test.mat"
_MOST_NUMBERS, _LONGEST_NAME = 2**24, 2**10  # of an array, LFWA's labels are half a million; of a name
_SOURCE = (
    "Get LFWA, labels and images, from MMLAB's page https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html "
    f"(the images are those of LFW, Labeled Faces in the Wild), and give the folder that holds {_LABELS}, "
    f"{_INDICES} and the image folder lfw."
)


class LFWA(AttributeImages):
    """Labeled Faces in the Wild with 40 attributes; their names have underscores here, as CelebA's have.

    Officially there are two halves, train and test. For choosing a model, "valid" is cut from the training half by
    person, so nobody is in two parts: evenly spaced people in the order of their names, the same ones every time.

    Args:
        root: The folder with ``lfw_att_40.mat``, ``indices_train_test.mat`` and the images
            ``lfw/<Person>/<Person>_0001.jpg``.
        split: "train" and "valid", together "trainval" (the official training half); "test"; or "all".
        attributes: The attributes to give, in the order wanted; all 40 if None.
        transform: Turns the PIL image into what a model takes.
        validation: The share of the training half's people that "valid" takes, in [0, 1).
        missing: What to do about listed images that are not there: "error" stops, "skip" warns and leaves them out.

    Raises:
        FileNotFoundError: The root, a file, the image folder or an image is missing.
        ValueError: An attribute or split is unknown, the split is empty, or a file breaks its form.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        attributes: Sequence[str] | None = None,
        transform: Callable[[Any], Any] | None = None,
        validation: float = 0.1,
        missing: str = "error",
    ) -> None:
        check_known("LFWA", "split", [split], ("train", "valid", "trainval", "test", "all"))
        if not 0 <= validation < 1:
            raise ValueError(f"LFWA: validation is a share in [0, 1), got {validation}; 0.1 takes every tenth person.")
        places = [existing_root("LFWA", root, _SOURCE)]
        file = first_file("LFWA", places, [_LABELS], _SOURCE)
        names, labels, columns = _read_labels(file, file.stat().st_mtime_ns)
        halves = _read_indices(first_file("LFWA", places, [_INDICES], _SOURCE), len(names))
        rows = _rows_of(split, names, *halves, validation)
        super().__init__(
            image_folder("LFWA", places, "lfw", _SOURCE),
            names[rows],
            labels[rows],
            columns,
            only=attributes,
            transform=transform,
            missing=missing,
            zero="unknown",
        )


def _rows_of(
    split: str,
    names: Shaped[np.ndarray, " image"],
    train: Int[np.ndarray, " train"],
    test: Int[np.ndarray, " test"],
    validation: float,
) -> Int[np.ndarray, " row"]:
    rows = {"trainval": train, "test": test, "all": np.arange(len(names))}
    if split in {"train", "valid"}:
        people = np.array([name.rpartition("/")[0] for name in names[train].tolist()])
        everybody = np.unique(people)
        steps = np.floor(np.arange(len(everybody) + 1) * validation)
        is_valid = np.isin(people, everybody[np.diff(steps) > 0])
        rows |= {"train": train[~is_valid], "valid": train[is_valid]}
    if not rows[split].size:
        raise ValueError(
            f"LFWA: split {split!r} is empty: the training half has {len(train)} images, the test half {len(test)}, "
            f"and validation={validation}; take another split or another share."
        )
    return rows[split]


@lru_cache(maxsize=1)  # 13,000 references take seconds, and a recipe opens three parts
def _read_labels(
    path: Path,
    _: int,  # when it was written: a file that changes is read again
) -> tuple[Shaped[np.ndarray, " image"], Int8[np.ndarray, "image attribute"], tuple[str, ...]]:
    with _opened(path, ("AttrName", "label", "name")) as file:
        columns = [text.strip().replace(" ", "_") for text in _strings(file, "AttrName", path)]
        names = np.array([text.replace("\\", "/") for text in _strings(file, "name", path)])
        labels = _numbers(file, "label", path).T
    _check_unique(path, "attribute", columns)
    _check_unique(path, "image", names.tolist())
    without_person = [name for name in names.tolist() if "/" not in name]
    if without_person:
        raise ValueError(
            f"LFWA: image names are Person\\file.jpg, got {without_person[0]!r} in {path}; correct the name."
        )
    if labels.shape != (len(names), len(columns)):
        raise ValueError(
            f"LFWA: label has a row for each of {len(names)} images and a column for each of {len(columns)} "
            f"attributes, got {' x '.join(map(str, labels.shape))} in {path}; get the file again."
        )
    wrong = np.argwhere((labels != 0) & (labels != 1))
    if wrong.size:
        row, column = wrong[0]
        raise ValueError(
            f"LFWA: a label is 0 or 1, got {labels[row, column]:g} for {columns[column]!r} of {names[row]} in {path}; "
            f"correct the file or get it again."
        )
    return names, (2 * labels - 1).astype(np.int8), tuple(columns)


def _read_indices(path: Path, num_images: int) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " test"]]:
    keys = ("indices_img_train", "indices_img_test")
    with _opened(path, keys) as file:
        train, test = (_numbers(file, key, path).ravel().astype(float) for key in keys)
    both = np.concatenate([train, test])
    wrong = both[(both != np.floor(both)) | (both < 1) | (both > num_images)]
    if wrong.size:
        raise ValueError(
            f"LFWA: indices are whole numbers from 1 to {num_images}, the images in {_LABELS}, "
            f"got {wrong[0]:g} in {path}; get both files from the same place."
        )
    values, counts = np.unique(both, return_counts=True)
    if values.size < both.size:
        raise ValueError(
            f"LFWA: an image is in one half and there once, got index {values[counts > 1][0]:g} twice in {path}; "
            f"get the file again."
        )
    return train.astype(np.int64) - 1, test.astype(np.int64) - 1


@contextmanager
def _opened(path: Path, keys: Sequence[str]) -> Generator[Any, None, None]:
    if not h5py.is_hdf5(path):
        raise ValueError(
            f"LFWA: {path} must be a MATLAB v7.3 (HDF5) file, got something else; get it again, "
            f"or save it in MATLAB with '-v7.3'."
        )
    try:
        with h5py.File(path, "r") as file:
            absent = [key for key in keys if key not in file]
            if absent:
                raise ValueError(
                    f"LFWA: {path} must hold {', '.join(keys)}, got {', '.join(file)}; get the file again."
                )
            yield file
    except Exception as error:  # on a damaged file h5py raises nearly anything
        if str(error).startswith("LFWA: "):
            raise
        raise ValueError(f"LFWA: {path} is damaged or cut short ({error}); get the file again.") from error


def _numbers(file: Any, key: str, path: Path) -> Shaped[np.ndarray, "*shape"]:
    """Read an array, after a look at how large it says that it is."""
    found = _array(file, key, path)
    if found.dtype.kind not in "biuf":
        raise ValueError(f"LFWA: {key} must be numbers, got {found.dtype} in {path}; get the file again.")
    numbers: Shaped[np.ndarray, "*shape"] = found[()]
    return numbers


def _strings(file: Any, key: str, path: Path) -> list[str]:
    cells = _array(file, key, path)
    if h5py.check_ref_dtype(cells.dtype) is None:
        raise ValueError(f"LFWA: {key} must be a cell array of strings, got {cells.dtype} in {path}.")
    return [_numbers(file, reference, path).tobytes().decode("utf-16-le") for reference in cells[()].ravel()]


def _array(file: Any, key: Any, path: Path) -> Any:
    found = file[key]
    if not isinstance(found, h5py.Dataset) or found.size is None or found.external or found.is_virtual:
        raise ValueError(f"LFWA: {key} must be an array in this file, got something else in {path}.")
    most = _MOST_NUMBERS if isinstance(key, str) else _LONGEST_NAME
    if found.size > most:
        raise ValueError(f"LFWA: {key} has at most {most:,} numbers, got {found.size:,} in {path}; get the file again.")
    return found


def _check_unique(path: Path, kind: str, names: Sequence[str]) -> None:
    values, counts = np.unique(np.array(names), return_counts=True)
    if values.size < len(names):
        raise ValueError(
            f"LFWA: {kind} names are unique, got {str(values[counts > 1][0])!r} twice in {path}; rename one."
        )
