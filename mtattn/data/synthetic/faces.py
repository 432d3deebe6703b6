"""SyntheticFaces: draws labelled faces and writes them in CelebA's layout."""

import json
import platform
from collections.abc import Iterable
from dataclasses import KW_ONLY, asdict, dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Bool, Int

from mtattn._version import installed_version
from mtattn.data.synthetic.drawing import View, definition, picture
from mtattn.data.synthetic.label_model import LabelModel
from mtattn.data.synthetic.parts import READ, Face, choose

if TYPE_CHECKING:
    from PIL.Image import Image

DRAWING = 1  # grows whenever the same settings begin to give other pictures or labels
RECORD = "synthetic_faces.json"
PARTS, VIEW, MISTAKES = range(3)  # independent streams of chance, so that no option changes what another one draws


@dataclass(frozen=True)
class SyntheticFaces:
    """Draws faces whose labels are as rare, and as correlated, as CelebA's.

    Labels are drawn from a Gaussian copula fitted to CelebA's, contradictions repaired, parts chosen that show what is
    left, and every label read again from the parts: a label says what the picture shows. A hat hides hair and
    baldness; facial hair of any kind, stubble too, is a beard; dark glasses hide the eyes; close-cropped hair is
    neither straight nor wavy; hair may be red or dyed. Attributes that no drawing shows, such as Young, are absent.

    Face ``i`` depends on the seed and ``i`` alone: the same versions of this library, NumPy, Pillow, resvg-py and
    dicebear-styles draw the same bytes.

    The parts are avataaars by Pablo Stanley, "free for personal and commercial use" (https://avataaars.com), as
    DiceBear remixed them, and overlays of our own.

    Args:
        num_faces: At least 10. The first 80 % are the training split, then 10 % validation, 10 % test.
        seed: Any whole number from 0.
        size: Height and width in pixels. The default has CelebA's proportions and leaves room for crops of 64.
        jitter: How much heads differ in size, place and angle; 0 puts them all in the middle.
        occlusion: The share of faces with something in front of one side. The other half stays free, so every label
            can still be seen.
        wrong_labels: The probability that a label of the training split is written wrongly. Validation and test stay
            true, and ``labels`` always is.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> faces = SyntheticFaces(100, seed=1)
        >>> len(faces.attributes)
        34
        >>> image, labels = faces[0]
        >>> image.size, labels.shape
        ((88, 108), (34,))
    """

    num_faces: int = 4000
    _: KW_ONLY
    seed: int = 0
    size: tuple[int, int] = (108, 88)
    jitter: float = 1.0
    occlusion: float = 0.15
    wrong_labels: float = 0.0

    attributes: ClassVar[tuple[str, ...]] = tuple(READ)
    """The attributes that are drawn, named and ordered as in CelebA."""

    def __post_init__(self) -> None:
        _check("num_faces must be at least 10, so that every split has a face", self.num_faces, self.num_faces >= 10)
        _check(
            "num_faces must be below a million, for CelebA's six-digit names", self.num_faces, self.num_faces < 10**6
        )
        _check("seed must not be negative", self.seed, self.seed >= 0)
        _check(
            "size must be height and width, 16 pixels or more", self.size, len(self.size) == 2 and min(self.size) >= 16
        )
        _check("jitter must lie in [0, 1]", self.jitter, 0 <= self.jitter <= 1)
        _check("occlusion must lie in [0, 1]", self.occlusion, 0 <= self.occlusion <= 1)
        _check("wrong_labels must lie in [0, 1)", self.wrong_labels, 0 <= self.wrong_labels < 1)

    def __len__(self) -> int:
        return self.num_faces

    def __getitem__(self, index: int) -> "tuple[Image, Bool[np.ndarray, ' attribute']]":
        """Draw one face, and tell its true labels."""
        if not 0 <= index < self.num_faces:
            raise IndexError(f"SyntheticFaces: index must lie in [0, {self.num_faces}), got {index}.")
        face = self._face(index)
        return picture(face, self._view(index, face), self.size), _labels([face])[0]

    @property
    def labels(self) -> Bool[np.ndarray, "face attribute"]:
        """The true labels of all faces; computing them draws nothing."""
        return _labels(map(self._face, range(self.num_faces)))

    @property
    def written_labels(self) -> Bool[np.ndarray, "face attribute"]:
        """The labels as ``write`` writes them: true, but for the share ``wrong_labels`` of the training split."""
        labels = self.labels
        for index in range(np.count_nonzero(self.partition == 0)):
            labels[index] ^= self._rng(index, MISTAKES).random(labels.shape[1]) < self.wrong_labels
        return labels

    @property
    def partition(self) -> Int[np.ndarray, " face"]:
        """The split of each face, 0 for train, 1 for valid, 2 for test."""
        tenth = self.num_faces // 10
        return np.repeat([0, 1, 2], [self.num_faces - 2 * tenth, tenth, tenth])

    def write(self, root: str | Path) -> Path:
        """Write the faces to a new folder in CelebA's layout, to be read by ``CelebA(root, split, ...)``.

        A folder that already holds this very set is left as it is. The folder appears when it is complete: what is
        interrupted leaves nothing under its name.

        Raises:
            FileExistsError: The folder holds something else.
        """
        root = Path(root)
        if self._is_at(root):
            return root
        root.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as workshop:
            unfinished = Path(workshop) / root.name
            self._fill(unfinished)
            try:
                if root.exists():
                    root.rmdir()
                unfinished.rename(root)
            except OSError:  # another process may have finished the same set meanwhile
                if not self._is_at(root):
                    raise
        return root

    def _fill(self, folder: Path) -> None:
        images = folder / "img_align_celeba"
        images.mkdir(parents=True)
        names = [f"{index + 1:06d}.jpg" for index in range(self.num_faces)]
        for index, name in enumerate(names):
            face = self._face(index)
            view = self._view(index, face)
            picture(face, view, self.size).save(images / name, "JPEG", quality=view.quality)
        values = np.where(self.written_labels, " 1", "-1")
        rows = [f"{name} {' '.join(row)}" for name, row in zip(names, values, strict=True)]
        splits = [f"{name} {split}" for name, split in zip(names, self.partition, strict=True)]
        _write_lines(folder / "list_attr_celeba.txt", [str(self.num_faces), " ".join(self.attributes), *rows])
        _write_lines(folder / "list_eval_partition.txt", splits)
        _write_lines(folder / RECORD, [json.dumps({"settings": self._settings(), "drawn with": _versions()}, indent=2)])
        _write_lines(folder / "README.txt", _about())

    def _is_at(self, root: Path) -> bool:
        if not root.exists() or (root.is_dir() and not any(root.iterdir())):
            return False
        found = _settings_at(root)
        if found == self._settings():
            return True
        what = f"other faces, {found}" if found else "something else"
        raise FileExistsError(
            f"SyntheticFaces: {root} must be new, empty, or hold this very set; it holds {what}. "
            "Name another folder, or remove this one."
        )

    def _settings(self) -> dict[str, Any]:
        return {**asdict(self), "size": list(self.size), "drawing": DRAWING}

    def _rng(self, index: int, stream: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, index, stream))

    def _face(self, index: int) -> Face:
        rng = self._rng(index, PARTS)
        wanted = _label_model().draw(rng)
        return choose([name for name, wants in zip(self.attributes, wanted, strict=True) if wants], rng)

    def _view(self, index: int, face: Face) -> View:
        return View.draw(self._rng(index, VIEW), jitter=self.jitter, occlusion=self.occlusion, blurry=face.blurry)


@lru_cache(maxsize=1)
def _label_model() -> LabelModel:
    return LabelModel.of(SyntheticFaces.attributes)


def _labels(faces: Iterable[Face]) -> Bool[np.ndarray, "face attribute"]:
    return np.array([[shows(face) for shows in READ.values()] for face in faces])


def _settings_at(root: Path) -> Any:
    try:
        return json.loads((root / RECORD).read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _check(rule: str, value: object, holds: bool) -> None:
    if not holds:
        raise ValueError(f"SyntheticFaces: {rule}, got {value}.")


def _versions() -> dict[str, str]:
    packages = {name: installed_version(name) for name in ("mtattn", "numpy", "pillow", "resvg-py", "dicebear-styles")}
    return {"python": platform.python_version(), **packages}


def _about() -> list[str]:
    return [
        "Faces drawn by mtattn.data.SyntheticFaces, in the layout of CelebA. No person is shown.",
        f"Art: {definition()['meta']['license']['text']}. Overlays by mtattn.",
        "Label statistics: aggregate numbers of CelebA (Liu, Luo, Wang, Tang, ICCV 2015).",
    ]


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
