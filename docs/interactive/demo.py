"""What the interactive page shows: the small model of all pages, and a few drawn faces that it was not trained on."""

from pathlib import Path
from typing import NamedTuple

import torch
from PIL.Image import Image
from trained import FACES, split, tensors, trained

from mtattn import FARAMTN
from mtattn.data import SyntheticFaces

SHOWN = [2713, 2708, 2727, 2702, 2715, 2730, 2712, 2725]  # of the test part; they differ in many attributes
SIZE = (324, 264)  # larger than what the model was trained on, so that people see them well


class Face(NamedTuple):
    """A drawn face and the attributes that it shows."""

    picture: Image
    shows: list[str]


class Demo(NamedTuple):
    """What the page is made of; ``about`` is a sentence on how good the model is."""

    model: FARAMTN
    faces: list[Face]
    about: str


def demo() -> Demo:
    """Load the trained model, training it first where that has not happened, and draw the faces."""
    model, _, folder = trained()
    faces = SyntheticFaces(FACES, size=SIZE)
    return Demo(model, [_face(faces, index) for index in SHOWN], _scores(model, folder))


def _face(faces: SyntheticFaces, index: int) -> Face:
    picture, labels = faces[index]
    return Face(picture, [name for name, shown in zip(faces.attributes, labels, strict=True) if shown])


def _scores(model: FARAMTN, folder: Path) -> str:
    images, targets = tensors(folder, "test")
    with torch.inference_mode():
        right = ((model(images) > 0) == (targets > 0)).float().mean()
    more_frequent = split(folder, "train").targets.mean(0) > 0.5
    floor = (more_frequent == (targets > 0)).float().mean()
    return (
        f"On {len(images)} drawn faces that it was not trained on, {100 * right:.1f} % of its answers are right; "
        f"always giving the more frequent answer is right in {100 * floor:.1f} %."
    )
