"""What every data set of faces shares: images in a folder, a label for each attribute, columns asked for by name."""

import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int8, Shaped
from torch import Tensor
from torch.utils.data import Dataset

from mtattn.data.images import UnreadableImage, read_image
from mtattn.groups import check_known


class AttributeImages(Dataset[tuple[Any, Tensor]]):
    """Images in a folder with their attributes: the base of ``CelebA`` and ``LFWA``, and a data set of your own.

    Args:
        folder: Where the images lie.
        names: The image names, relative to the folder.
        labels: 1 where an image has the attribute, -1 where it has not, 0 where nobody knows; a row an image.
        attributes: The names of the label columns.
        only: The attributes to give, in the order wanted; all of them if None.
        transform: Turns the PIL image into what a model takes.
        missing: What to do about images that are not there: "error" stops, "skip" warns and leaves them out.

    Attributes:
        attributes: The names of the target columns.
        skipped: The paths of the images left out because they are missing or cannot be read.

    Raises:
        ValueError: Labels, names and attributes disagree, a label is something else, or an attribute is unknown.
        FileNotFoundError: An image is missing.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> folder = tempfile.mkdtemp()
        >>> Image.new("RGB", (8, 8)).save(f"{folder}/ann.png")
        >>> faces = AttributeImages(folder, ["ann.png"], [[1, -1, 0]], ["Smiling", "Male", "Young"])
        >>> image, target = faces[0]
        >>> target
        tensor([1., 0., nan])
    """

    _read_from_files = False  # True where a reader has looked at its files whole: these rows may be a part of them

    def __init__(
        self,
        folder: str | Path,
        names: Sequence[str] | Shaped[np.ndarray, " image"],
        labels: Sequence[Sequence[int]] | Shaped[np.ndarray, "image attribute"],
        attributes: Sequence[str],
        *,
        only: Sequence[str] | None = None,
        transform: Callable[[Any], Any] | None = None,
        missing: str = "error",
    ) -> None:
        check_known(self._owner, "way to treat missing images", [missing], ("error", "skip"))
        if not self._read_from_files:
            _check_own(self._owner, np.asarray(names), np.asarray(labels), attributes)
        self.attributes = tuple(attributes) if only is None else _chosen(self._owner, only, attributes)
        self.transform = transform
        self.skipped: tuple[Path, ...] = ()
        self._folder = str(folder)
        self._names = _encoded(np.asarray(names))
        columns = [list(attributes).index(attribute) for attribute in self.attributes]
        self._labels = _checked_labels(self._owner, labels, len(self._names), len(attributes))[:, columns]
        self._check_presence(missing)

    @property
    def files(self) -> list[str]:
        """The image names, relative to the image folder."""
        return [name.decode() for name in self._names.tolist()]

    @property
    def targets(self) -> Float[Tensor, "image attribute"]:
        """Every target, 1 where an image has the attribute, 0 where it has not, NaN where nobody knows."""
        return _as_targets(self._labels)

    def path(self, index: int) -> Path:
        """Return where the image lies."""
        return Path(self._folder, self._names[index].decode())

    def subset(self, indices: Sequence[int] | Shaped[np.ndarray, " image"]) -> "AttributeImages":
        """Return the same data set with these images only, in this order."""
        part = copy(self)
        part._select(np.arange(len(self))[list(indices)])
        return part

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> tuple[Any, Float[Tensor, " attribute"]]:
        """Read one image, RGB and transformed, and its targets."""
        try:
            image = read_image(self.path(index))
        except UnreadableImage as error:
            hint = "Or leave such images out with skip_unreadable(dataset), in a recipe with --skip-unreadable."
            raise UnreadableImage(f"{error} {hint}") from error
        return image if self.transform is None else self.transform(image), _as_targets(self._labels[index])

    def __repr__(self) -> str:
        return f"{self._owner}({len(self)} images, {len(self.attributes)} attributes, in {self._folder})"

    @property
    def _owner(self) -> str:
        return type(self).__name__

    def _select(self, indices: Shaped[np.ndarray, " image"]) -> None:
        self._names, self._labels = self._names[indices], self._labels[torch.from_numpy(indices)]

    def _check_presence(self, missing: str) -> None:
        absent = _absent(self._folder, self.files)
        if absent and missing == "error":
            raise FileNotFoundError(
                f"{self._owner}: every image of the split must be there, got {len(absent)} of {len(self)} missing, "
                f"the first is {self.path(absent[0])}; unpack all images there, or take those that are there "
                f"with missing='skip', on the command line --skip-unreadable."
            )
        self._leave_out(absent, "are missing")

    def _leave_out(self, indices: list[int], why: str) -> None:
        if not indices:
            return
        paths = tuple(self.path(index) for index in indices)
        if len(paths) == len(self):
            raise FileNotFoundError(f"{self._owner}: all {len(self)} images {why}, the first is {paths[0]}.")
        shown = ", ".join(map(str, paths[:3])) + (", ..." if len(paths) > 3 else "")
        warnings.warn(
            f"{self._owner}: left out {len(paths)} of {len(self)} images because they {why} ({shown}); "
            f"the attribute `skipped` has them all.",
            stacklevel=3,
        )
        self._select(np.delete(np.arange(len(self)), indices))
        self.skipped += paths


AttributeImagesT = TypeVar("AttributeImagesT", bound=AttributeImages)


def skip_unreadable(dataset: AttributeImagesT, *, num_threads: int | None = None) -> AttributeImagesT:
    """Leave out every image that cannot be read, with a warning that counts and names them.

    Every image is decoded once, here and now, so all epochs, processes and resumed runs see the same images; a core
    reads about 3,000 CelebA images a second. The paths left out are in ``skipped`` of the data set returned.

    Args:
        dataset: The images to read; it stays as it is.
        num_threads: How many images are read at a time; all cores if None.

    Raises:
        FileNotFoundError: No image can be read.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> folder = tempfile.mkdtemp()
        >>> Image.new("RGB", (8, 8)).save(f"{folder}/ann.png")
        >>> _ = Path(folder, "bob.png").write_text("no image")
        >>> faces = AttributeImages(folder, ["ann.png", "bob.png"], [[1], [-1]], ["Smiling"])
        >>> with warnings.catch_warnings(action="ignore"):
        ...     faces = skip_unreadable(faces)
        >>> faces.files, len(faces.skipped)
        (['ann.png'], 1)
    """
    num_threads = num_threads or os.cpu_count() or 1
    shares = [range(start, len(dataset), num_threads) for start in range(num_threads)]
    with ThreadPoolExecutor(num_threads) as pool:
        unreadable = pool.map(lambda share: [index for index in share if not _is_readable(dataset.path(index))], shares)
    result = copy(dataset)
    result._leave_out(sorted(index for indices in unreadable for index in indices), "cannot be read")
    return result


def _is_readable(path: Path) -> bool:
    try:
        read_image(path)
    except UnreadableImage:
        return False
    return True


def _as_targets(labels: Int8[Tensor, "*image attribute"]) -> Float[Tensor, "*image attribute"]:
    return labels.float().add(1).div(2).masked_fill(labels == 0, torch.nan)


def _absent(folder: str, names: list[str]) -> list[int]:
    with os.scandir(folder) as entries:  # one listing instead of 200,000 questions
        there = {entry.name for entry in entries}
    return [index for index, name in enumerate(names) if name not in there and not Path(folder, name).exists()]


def _encoded(names: Shaped[np.ndarray, " image"]) -> Shaped[np.ndarray, " image"]:
    return names if names.dtype.kind == "S" else np.char.encode(names.astype(str), "utf-8")


def _check_own(owner: str, names: Shaped[np.ndarray, " image"], labels: Any, attributes: Sequence[str]) -> None:
    _check_unique(owner, "attribute", attributes)
    _check_unique(owner, "image", names.tolist())
    if labels.dtype == bool or ((labels == 0).any() and not (labels == -1).any()):
        raise ValueError(
            f"{owner}: -1 says that an image lacks an attribute and 0 that nobody knows, got no -1; write -1 for 0."
        )


def _check_unique(owner: str, kind: str, names: Sequence[Any]) -> None:
    name, count = max(Counter(names).items(), key=lambda item: item[1], default=("", 0))
    if count > 1:
        raise ValueError(f"{owner}: {kind} names are unique, got {name!r} {count} times; keep one of them.")


def _chosen(owner: str, only: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    if isinstance(only, str) or len(only) == 0:
        raise ValueError(f"{owner}: attributes is a list of at least one attribute name, got {only!r}.")
    check_known(owner, "attribute", only, known)
    twice = [attribute for attribute in only if list(only).count(attribute) > 1]
    if twice:
        raise ValueError(
            f"{owner}: each attribute is asked for once, got {twice[0]!r} {list(only).count(twice[0])} times."
        )
    return tuple(only)


def _checked_labels(owner: str, labels: Any, num_images: int, num_attributes: int) -> Int8[Tensor, "image attribute"]:
    if num_images == 0:
        raise ValueError(f"{owner}: needs at least one image, got none.")
    array = np.asarray(labels)
    if array.shape != (num_images, num_attributes):
        raise ValueError(
            f"{owner}: labels have a row for each image and a column for each attribute, got shape {array.shape} "
            f"for {num_images} images and {num_attributes} attributes."
        )
    if not np.isin(array, (-1, 0, 1)).all():
        raise ValueError(f"{owner}: a label is 1 (yes), -1 (no) or 0 (unlabelled), got {np.unique(array)[:5]}.")
    return torch.from_numpy(array.astype(np.int8))
