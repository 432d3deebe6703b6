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
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.utils.data import Dataset

from mtattn.data.files import existing_folder
from mtattn.data.images import UnreadableImage, read_image
from mtattn.data.labels import read_labels
from mtattn.data.names import FolderNames
from mtattn.groups import Attribute, check_known
from mtattn.groups.kinds import name_of

AttributeImagesT = TypeVar("AttributeImagesT", bound="AttributeImages")


class AttributeImages(Dataset[tuple[Any, Tensor]]):
    r"""Images in a folder with their attributes: the base of ``CelebA`` and ``LFWA``, and a data set of your own.

    Args:
        folder: Where the images lie.
        names: The image names, relative to the folder.
        labels: A row an image, a column an attribute. 1 or true where an image has it, -1, 0 or false where it has not,
            NaN or None where nobody knows. Beside -1 in its column a 0 says that nobody knows, as in CelebA's files.
            Of other kinds the name or the index of the class or level, or the number.
        attributes: What the label columns are: names, or kinds as in :class:`mtattn.AttributeGroups`.
        only: The attributes to give, in the order wanted; all of them if None.
        transform: Turns the PIL image into what a model takes.
        missing: What to do about images that are not there: "error" stops, "skip" warns and leaves them out.
        zero: What a 0 says in a column with neither -1 nor NaN, which tell it: "no" or "unknown"; None refuses it.

    Attributes:
        attributes: The names of the target columns.
        kinds: The same as they were given: a name where it is binary.
        skipped: The paths of the images left out because they are missing or cannot be read.
        caution: What everybody must know who reads scores on these data; a report shows it.

    Raises:
        ValueError: Labels, names and attributes disagree, a label is something else or says two things, or an
            attribute is unknown.
        FileNotFoundError: The folder or an image is missing. An image is there if exactly one file fits its name but
            for capital letters, the form of its accents, ``\\`` for ``/``, or a suffix that the name has not.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> folder = tempfile.mkdtemp()
        >>> Image.new("RGB", (8, 8)).save(f"{folder}/ann.png")
        >>> faces = AttributeImages(folder, ["ann.png"], [[1, -1, None]], ["Smiling", "Male", "Young"])
        >>> image, target = faces[0]
        >>> target
        tensor([1., 0., nan])
    """

    caution = ""

    def __init__(
        self,
        folder: str | Path,
        names: Sequence[str] | Shaped[np.ndarray, " image"],
        labels: Sequence[Sequence[Any]] | Shaped[np.ndarray, "image attribute"],
        attributes: Sequence[Attribute],
        *,
        only: Sequence[str] | None = None,
        transform: Callable[[Any], Any] | None = None,
        missing: str = "error",
        zero: str | None = None,
    ) -> None:
        check_known(self._owner, "way to treat missing images", [missing], ("error", "skip"))
        self._names = _checked_names(self._owner, names)
        known = list(map(name_of, attributes))
        _check_unique(self._owner, "attribute", known)
        self.attributes = tuple(known) if only is None else _chosen(self._owner, only, known)
        columns = [known.index(name) for name in self.attributes]
        self.kinds = tuple(attributes[column] for column in columns)
        self.transform = transform
        self.skipped: tuple[Path, ...] = ()
        self._folder = str(existing_folder(self._owner, "folder", folder, "give the folder that holds the images."))
        self._targets = self._read_targets(labels, attributes, zero)[:, columns]
        self._check_presence(missing)

    @property
    def files(self) -> list[str]:
        """The image names, relative to the image folder."""
        return [name.decode() for name in self._names.tolist()]

    @property
    def targets(self) -> Float[Tensor, "image attribute"]:
        """Every target, 1 for yes and 0 for no, a class or level, or a number; NaN where nobody knows."""
        return self._targets.clone()

    def path(self, index: int) -> Path:
        """Return where the image lies."""
        return Path(self._folder, self._names[index].decode())

    def subset(  # noqa: PYI019  beartype, which checks the tests, cannot read Self on a method
        self: AttributeImagesT, indices: Sequence[int] | Shaped[np.ndarray, " image"]
    ) -> AttributeImagesT:
        """Return the same data set with these images only, in this order."""
        part = copy(self)
        part._select(np.arange(len(self))[list(indices)])
        return part

    def with_targets(  # noqa: PYI019  as above
        self: AttributeImagesT, targets: Float[Tensor, "image attribute"]
    ) -> AttributeImagesT:
        """Return the same images with other targets, such as what another model says of them.

        Raises:
            ValueError: There is not a row an image and a column an attribute.
        """
        if targets.shape != self._targets.shape:
            shapes = f"{tuple(self._targets.shape)}, got {tuple(targets.shape)}"
            raise ValueError(f"{self._owner}: targets are (image, attribute), here {shapes}.")
        other = copy(self)
        other._targets = targets.to(self._targets.dtype, copy=True)
        return other

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> tuple[Any, Float[Tensor, " attribute"]]:
        """Read one image, RGB and transformed, and its targets."""
        try:
            image = read_image(self.path(index))
        except UnreadableImage as error:
            hint = "Or leave such images out with skip_unreadable(dataset), in a recipe with --skip-unreadable."
            raise UnreadableImage(f"{error} {hint}") from error
        return image if self.transform is None else self.transform(image), self._targets[index].clone()

    def __repr__(self) -> str:
        return f"{self._owner}({len(self)} images, {len(self.attributes)} attributes, in {self._folder})"

    @property
    def _owner(self) -> str:
        return type(self).__name__

    def _read_targets(
        self, labels: Any, attributes: Sequence[Attribute], zero: str | None
    ) -> Float[Tensor, "image attribute"]:
        return read_labels(self._owner, labels, attributes, num_images=len(self), zero=zero)

    def _select(self, indices: Shaped[np.ndarray, " image"]) -> None:
        self._names, self._targets = self._names[indices], self._targets[torch.from_numpy(indices)]

    def _check_presence(self, missing: str) -> None:
        absent = self._find_written_otherwise(_absent(self._folder, self.files))
        if absent and missing == "error":
            nearest = FolderNames(self._folder).nearest(self.files[absent[0]])
            hint = f"did you mean {' or '.join(map(repr, nearest[:3]))}? Else " if nearest else ""
            raise FileNotFoundError(
                f"{self._owner}: every image of the split must be there, got {len(absent)} of {len(self)} missing, "
                f"the first is {self.path(absent[0])}; {hint}unpack all images in {self._folder}, or take those that "
                f"are there with missing='skip', on the command line --skip-unreadable."
            )
        self._leave_out(absent, "are missing")

    def _find_written_otherwise(self, absent: list[int]) -> list[int]:
        """Take the files that absent names mean, and return what is still absent."""
        if not absent:
            return []
        files = self.files
        meant = FolderNames(self._folder).meant_by(
            [files[index] for index in absent], taken=set(files) - {files[index] for index in absent}
        )
        self._names = _encoded(np.array([meant.get(name, name) for name in files]))
        return [index for index in absent if files[index] not in meant]

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


def _absent(folder: str, names: list[str]) -> list[int]:
    with os.scandir(folder) as entries:  # one listing instead of 200,000 questions
        there = {entry.name for entry in entries if entry.is_file()}
    return [index for index, name in enumerate(names) if name not in there and not Path(folder, name).is_file()]


def _checked_names(owner: str, names: Any) -> Shaped[np.ndarray, " image"]:
    names = np.asarray(names)
    if not names.size:
        raise ValueError(f"{owner}: needs at least one image, got none.")
    encoded = _encoded(names)
    empty = np.flatnonzero(np.char.strip(encoded) == b"")
    if empty.size:
        raise ValueError(f"{owner}: an image has a name, got an empty one in row {empty[0] + 1}; name the file.")
    _check_unique(owner, "image", encoded.tolist())
    return encoded


def _encoded(names: Shaped[np.ndarray, " image"]) -> Shaped[np.ndarray, " image"]:
    return names if names.dtype.kind == "S" else np.char.encode(names.astype(str), "utf-8")


def _check_unique(owner: str, kind: str, names: Sequence[Any]) -> None:
    name, count = max(Counter(names).items(), key=lambda item: item[1], default=("", 0))
    if count > 1:
        name = name.decode() if isinstance(name, bytes) else name
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
