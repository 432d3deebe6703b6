"""PlantedRelations: drawn faces in which it is known who has to listen to whom."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.data import Dataset

from mtattn.data.synthetic.drawing import View, picture
from mtattn.data.synthetic.parts import READ, Face, choose
from mtattn.groups import AttributeGroups, check_known

REGIONS = {  # top, left, bottom, right in sixteenths of the picture
    "Hair": [(0, 0, 6, 16)],
    "Eyes": [(6, 4, 9, 12)],
    "Cheek": [(6, 0, 12, 4), (6, 12, 12, 16)],
    "Mouth": [(9, 4, 12, 12)],
    "Neck": [(12, 0, 16, 16)],
}
MARKS = {"Hair": (1, 0), "Eyes": (6, 4), "Cheek": (10, 0), "Mouth": (10, 4), "Neck": (13, 0)}  # top and left
MARK = 2  # sixteenths a side
YES, NO, COVER = (40, 90, 220), (240, 150, 20), (128, 128, 128)
CYCLE = {"Hair": "Mouth", "Eyes": "Neck", "Cheek": "Eyes", "Mouth": "Cheek", "Neck": "Hair"}
STRAIGHT_AHEAD = View(scale=1, shift=(0, 0), angle=0, flip=False, occluder=None, softness=0, quality=90)


class PlantedRelations(Dataset[tuple[Any, Tensor]]):
    """Drawn faces in which a group's label is to be told from another group's region: who has to listen is known.

    Each of five groups has one attribute, which half of the faces show, independently of the others. Where a group
    listens to another by ``relations``, its own region is covered, and a mark in the other's region says yes (blue) or
    no (orange). All marks look alike, so it counts from whom one hears it. A model whose groups see no more than their
    own region, see ``masks``, has to pass on what the marks say; one that looks everywhere needs no exchange.

    Args:
        num_faces: How many.
        relations: From each group that has to listen to the group in whose region the mark stands. None takes all
            five, in a cycle.
        covered: The share of faces in which the region of a listening group is covered; the others show both.
        strength: The probability that a mark is right.
        size: Height and width in pixels, a multiple of 16.
        seed: Any whole number from 0. Take others for validation and test.
        transform: Turns the PIL image into what a model takes.

    Attributes:
        groups: The five groups.
        masks: Where each group's region is, (group, size, size); :func:`mtattn.functional.mask_positions` turns them
            into positions.
        links: The planted pairs of listener and speaker.

    Raises:
        ValueError: A group is unknown or would listen to itself, two marks would stand in one region, or a number is
            out of its range.

    Example:
        >>> planted = PlantedRelations(8, relations={"Mouth": "Hair"}, size=64)
        >>> image, target = planted[0]
        >>> image.size, target.shape, planted.links
        ((64, 64), torch.Size([5]), {('Mouth', 'Hair')})
        >>> planted.groups.attributes
        ('Bangs', 'Bags_Under_Eyes', 'Wearing_Earrings', 'Wearing_Lipstick', 'Wearing_Necktie')
    """

    groups = AttributeGroups(
        {
            "Hair": ["Bangs"],
            "Eyes": ["Bags_Under_Eyes"],
            "Cheek": ["Wearing_Earrings"],
            "Mouth": ["Wearing_Lipstick"],
            "Neck": ["Wearing_Necktie"],
        }
    )

    def __init__(
        self,
        num_faces: int,
        *,
        relations: Mapping[str, str] | None = None,
        covered: float = 1.0,
        strength: float = 1.0,
        size: int = 64,
        seed: int = 0,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        relations = dict(CYCLE if relations is None else relations)
        check_known("PlantedRelations", "group", [*relations, *relations.values()], tuple(self.groups))
        alone = [name for name, speaker in relations.items() if name == speaker]
        crowded = len(set(relations.values())) < len(relations)
        if alone or crowded:
            raise ValueError(
                f"PlantedRelations: every group listens to another one, and a region has room for one mark, "
                f"got relations={relations}."
            )
        _check("num_faces is 1 or more", num_faces, num_faces >= 1)
        _check("covered lies in [0, 1]", covered, 0 <= covered <= 1)
        _check("strength is a probability, from 0.5 to 1", strength, 0.5 <= strength <= 1)
        _check("size is a multiple of 16", size, size >= 16 and size % 16 == 0)
        _check("seed is 0 or more", seed, seed >= 0)
        self.relations, self.covered, self.strength = relations, covered, strength
        self.num_faces, self.size, self.seed, self.transform = num_faces, size, seed, transform
        self.attributes = self.groups.attributes
        self.links = set(relations.items())

    def __len__(self) -> int:
        return self.num_faces

    def __getitem__(self, index: int) -> tuple[Any, Float[Tensor, " attribute"]]:
        """Draw one face with its covers and marks, and tell its labels."""
        if not 0 <= index < self.num_faces:
            raise IndexError(f"PlantedRelations: index must lie in [0, {self.num_faces}), got {index}.")
        rng = np.random.default_rng((self.seed, index))
        face = self._face(rng)
        truth = dict(zip(self.groups, _labels(face), strict=True))
        image = picture(face, STRAIGHT_AHEAD, (self.size, self.size))
        pixel = self.size // 16
        covers = [group for group in self.relations if rng.random() < self.covered]
        marks = {speaker: truth[group] ^ (rng.random() >= self.strength) for group, speaker in self.relations.items()}
        for group in covers:
            for box in REGIONS[group]:
                top, left, bottom, right = (pixel * side for side in box)
                image.paste(COVER, (left, top, right, bottom))
        for group, says in marks.items():
            top, left = (pixel * side for side in MARKS[group])
            image.paste(YES if says else NO, (left, top, left + MARK * pixel, top + MARK * pixel))
        target = torch.tensor([*truth.values()], dtype=torch.float32)
        return image if self.transform is None else self.transform(image), target

    @property
    def targets(self) -> Float[Tensor, "image attribute"]:
        """The labels of all faces; computing them draws nothing."""
        faces = (self._face(np.random.default_rng((self.seed, index))) for index in range(self.num_faces))
        return torch.from_numpy(np.stack([_labels(face) for face in faces])).float()

    @property
    def masks(self) -> Float[Tensor, "group height width"]:
        """Ones where the region of a group is, zeros elsewhere."""
        masks = torch.zeros(len(self.groups), 16, 16)
        for mask, group in zip(masks, self.groups, strict=True):
            for top, left, bottom, right in REGIONS[group]:
                mask[top:bottom, left:right] = 1
        return masks.repeat_interleave(self.size // 16, 1).repeat_interleave(self.size // 16, 2)

    def _face(self, rng: np.random.Generator) -> Face:
        wanted = rng.random(len(self.attributes)) < 0.5
        return choose(["No_Beard", *np.array(self.attributes)[wanted]], rng)


def _labels(face: Face) -> Bool[np.ndarray, " attribute"]:
    return np.array([READ[name](face) for name in PlantedRelations.groups.attributes])


def _check(rule: str, value: object, holds: bool) -> None:
    if not holds:
        raise ValueError(f"PlantedRelations: {rule}, got {value}.")
