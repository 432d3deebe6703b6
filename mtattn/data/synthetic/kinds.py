"""SyntheticKinds: drawn faces whose labels are of every kind."""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from mtattn.data.cells import labels_of, read_published
from mtattn.data.dataset import AttributeImages
from mtattn.data.files import existing_root
from mtattn.data.synthetic.drawing import OLDEST
from mtattn.data.synthetic.faces import SyntheticFaces
from mtattn.data.synthetic.parts import COLORS, READ, Face, shows_hair, skin_depth
from mtattn.groups import AttributeGroups, Categorical, Number, Ordinal, check_known

TABLE, AGE = "kinds.csv", 3  # the streams of chance below 3 are those of SyntheticFaces
PARTS = ("train", "valid", "test")
HAIR_COLORS = {"": "other", **{color: color.removesuffix("_Hair").lower() for color in COLORS}}
TONES = {"pale": 0.15, "light": 0.53, "medium": 0.77, "dark": 1.0}  # up to which depth; the drawing goes from 0 to 1
BANDS = {f"{start}-{start + 19}": start for start in range(0, OLDEST, 20)}


class SyntheticKinds(AttributeImages):
    """Drawn faces with labels of every kind, in place of a data set: yes or no, a class, levels and a number.

    They are the faces of :class:`SyntheticFaces` with wrinkles, which are the deeper the older a face is; that is all
    that shows its age. Its color of hair is unknown where none is to be seen. The levels of ``age`` are bands of
    ``years``.

    Args:
        root: The folder that :meth:`write` wrote.
        split: "train", "valid", "test" or "all"; the first 80 % are for training, then 10 % each.
        attributes: The attributes to give, in the order wanted; those of ``groups`` if None.
        transform: Turns the PIL image into what a model takes.
        missing: What to do about listed images that are not there: "error" stops, "skip" warns and leaves them out.

    Attributes:
        groups: What is drawn.

    Raises:
        FileNotFoundError: The root, its table or an image is missing.
        ValueError: An attribute or split is unknown, or the table breaks its form.

    Example:
        >>> import tempfile
        >>> root = SyntheticKinds.write(Path(tempfile.mkdtemp(), "faces"), 10)
        >>> image, target = SyntheticKinds(root, "train", attributes=["years", "age", "skin_tone"])[0]
        >>> image.size, target
        ((88, 108), tensor([61.2000,  3.0000,  2.0000]))
    """

    groups = AttributeGroups(
        {
            "hair": ["Bangs", Categorical("hair_color", tuple(HAIR_COLORS.values()))],
            "skin": [Ordinal("skin_tone", tuple(TONES)), Ordinal("age", tuple(BANDS)), Number("years", unit="years")],
            "eyes": ["Eyeglasses", "Narrow_Eyes"],
            "mouth": ["Mouth_Slightly_Open", "Smiling"],
        }
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
        check_known("SyntheticKinds", "split", [split], (*PARTS, "all"))
        source = "Draw it with SyntheticKinds.write(root)."
        folder = existing_root("SyntheticKinds", root, source)
        names = ("image", "split", *self.groups.attributes)
        table = read_published("SyntheticKinds", folder / TABLE, names, source, kinds=self.groups.kinds)
        cells: dict[str, Sequence[Any]] = dict(table.cells)
        cells["years"] = [float(cell or "nan") for cell in cells["years"]]
        rows = np.flatnonzero([split in (part, "all") for part in cells["split"]])
        super().__init__(
            folder / "img_align_celeba",
            [cells["image"][row] for row in rows.tolist()],
            labels_of(cells, self.groups.kinds, rows),
            self.groups.kinds,
            only=attributes,
            transform=transform,
            missing=missing,
            zero="no",
        )

    @staticmethod
    def write(root: str | Path, num_faces: int = 4000, *, seed: int = 0) -> Path:
        """Draw faces into a new folder; one that already holds this very set is left as it is.

        Raises:
            FileExistsError: The folder holds something else.
            ValueError: An argument is out of its range.
        """
        return AgedFaces(num_faces, seed=seed).write(root)


@dataclass(frozen=True)
class AgedFaces(SyntheticFaces):
    """The same faces with an age, and a table of their labels beside CelebA's files."""

    def _face(self, index: int) -> Face:
        years = round(float(self._rng(index, AGE).uniform(0, OLDEST)), 1)
        return replace(super()._face(index), years=min(years, OLDEST - 0.1))

    def _fill(self, folder: Path) -> None:
        super()._fill(folder)
        lines = StringIO()
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(("image", "split", *SyntheticKinds.groups.attributes))
        for index, part in enumerate(self.partition.tolist()):
            writer.writerow((f"{index + 1:06d}.jpg", PARTS[part], *_cells(self._face(index))))
        (folder / TABLE).write_text(lines.getvalue(), encoding="utf-8", newline="\n")

    def _settings(self) -> dict[str, Any]:
        return super()._settings() | {"kinds": 1}


def _cells(face: Face) -> Iterator[str]:
    years = face.years or 0.0
    told = {
        "hair_color": HAIR_COLORS[face.hair] if shows_hair(face) else "",
        "skin_tone": next(tone for tone, deepest in TONES.items() if skin_depth(face) <= deepest),
        "age": [band for band, start in BANDS.items() if start <= years][-1],
        "years": f"{years:g}",
    }
    return (told[name] if name in told else str(int(READ[name](face))) for name in SyntheticKinds.groups.attributes)
