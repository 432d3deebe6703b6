"""LFWPairs: the pairs of pictures on which Labeled Faces in the Wild asks for the same person."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset

from mtattn._files import read_text
from mtattn.data.files import existing_root, first_file, image_folder
from mtattn.data.images import read_image
from mtattn.groups import check_known

_PAIRS = "pairs.txt"
_SOURCE = (
    f"LFW is described at http://vis-www.cs.umass.edu/lfw; give the folder that holds {_PAIRS} and the folder lfw."
)


class _Pair(NamedTuple):
    first: str
    second: str
    same: bool
    fold: int


class LFWPairs(Dataset[Any]):
    """The pictures of LFW's pairs, each once, and which of them make a pair.

    ``pairs[i]`` is a picture; compute the embedding of each, then compare ``embeddings[pairs.first]`` with
    ``embeddings[pairs.second]`` by :class:`mtattn.verification.VerificationMetrics`.

    Args:
        root: The folder with the official ``pairs.txt`` and the images ``lfw/<Person>/<Person>_0001.jpg``.
        transform: Turns the PIL image into what a model takes.
        missing: What to do about pairs whose pictures are not there: "error" stops, "skip" warns and leaves them out.

    Attributes:
        files: The pictures, relative to ``lfw``.
        first: For each pair the index of its first picture.
        second: For each pair the index of its second picture.
        same: For each pair whether both show the same person.
        fold: For each pair its fold, from 0.
        missing: The pictures that are not there.
        left_out: How many pairs were left out for it.

    Raises:
        FileNotFoundError: The root, a file, the image folder or a picture is missing.
        ValueError: A line of ``pairs.txt`` breaks its form, or no pair is left.
    """

    def __init__(
        self, root: str | Path, *, transform: Callable[[Any], Any] | None = None, missing: str = "error"
    ) -> None:
        check_known("LFWPairs", "missing", [missing], ("error", "skip"))
        places = [existing_root("LFWPairs", root, _SOURCE)]
        path = first_file("LFWPairs", places, [_PAIRS], _SOURCE)
        self.folder, self.transform = image_folder("LFWPairs", places, "lfw", _SOURCE), transform
        pairs = _read_pairs(path)
        pictures = {name for pair in pairs for name in (pair.first, pair.second)}
        self.missing = tuple(sorted(name for name in pictures if not (self.folder / name).is_file()))
        absent = set(self.missing)
        kept = [pair for pair in pairs if pair.first not in absent and pair.second not in absent]
        self.left_out = len(pairs) - len(kept)
        if self.missing:
            told = (
                f"LFWPairs: {len(self.missing)} pictures of {self.left_out} among {len(pairs)} pairs are not in "
                f"{self.folder}, such as {', '.join(self.missing[:3])}"
            )
            if missing == "error" or not kept:
                raise FileNotFoundError(f'{told}; missing="skip" leaves their pairs out. {_SOURCE}')
            warnings.warn(f"{told}; {len(kept)} pairs are used.", stacklevel=2)
        self.files = tuple(sorted({name for pair in kept for name in (pair.first, pair.second)}))
        index = {name: position for position, name in enumerate(self.files)}
        self.first = torch.tensor([index[pair.first] for pair in kept])
        self.second = torch.tensor([index[pair.second] for pair in kept])
        self.same = torch.tensor([pair.same for pair in kept])
        self.fold = torch.tensor([pair.fold for pair in kept])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Any:
        image = read_image(self.folder / self.files[index])
        return image if self.transform is None else self.transform(image)


def _read_pairs(path: Path) -> list[_Pair]:
    lines = [line.split() for line in read_text("LFWPairs", path).splitlines() if line.strip()]
    header = lines[0] if lines else []
    if len(header) != 2 or not all(word.isdecimal() and int(word) > 0 for word in header):
        raise ValueError(f"LFWPairs: {path} begins with the numbers of folds and of pairs of a kind, got {header}.")
    folds, each = map(int, header)
    if len(lines) - 1 != 2 * folds * each:
        raise ValueError(
            f"LFWPairs: {path} says {folds} folds of {each} same and {each} different pairs, {2 * folds * each} lines, "
            f"got {len(lines) - 1}; get the file again."
        )
    pairs = []
    for position, words in enumerate(lines[1:]):
        same = position % (2 * each) < each
        names = words[:1] + words[:1] if same and len(words) == 3 else words[::2]
        numbers = words[1:] if same and len(words) == 3 else words[1::2]
        if len(words) != (3 if same else 4) or not all(number.isdecimal() for number in numbers):
            form = "a name and two numbers" if same else "a name and a number, twice"
            raise ValueError(f"LFWPairs: line {position + 2} of {path} is {form}, got {' '.join(words)!r}; correct it.")
        first, second = (f"{name}/{name}_{int(number):04d}.jpg" for name, number in zip(names, numbers, strict=True))
        pairs.append(_Pair(first, second, same, position // (2 * each)))
    return pairs
