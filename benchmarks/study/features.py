"""What the study trains on: maps of a frozen trunk, or small images, computed once and kept in a folder."""

import json
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from mtattn.data import LFWA, PETA, PETA_GROUPS, CelebA, FairFace, SyntheticFaces, image_transform
from mtattn.data.transforms import Augmentation
from mtattn.models.backbones import build_backbone

SETS = ("lfwa", "celeba", "drawn-easy", "drawn-hard")
SPLITS = ("train", "valid", "test")
NUM_VIEWS = 4  # of each training image: as it is, then flipped and shifted at random
NUM_DRAWN = 4000
FLIPPED = 0.1  # share of the labels that "drawn-hard" gets wrong in training and validation, never in the test


@dataclass(frozen=True)
class Source:
    """Where the images come from and what looks at them."""

    data: str
    root: Path | None
    cache: Path
    backbone: str = "tf_efficientnet_lite0"
    weights: Path | None = None
    size: int = 128
    images: bool = False  # keep the images themselves, for training the trunk too
    crop: float = 1.0
    drop_stages: int = 0
    augment: Augmentation = "light"
    mixed: bool = False  # whether the trunk computes in bfloat16
    mirrored: bool = False  # a second view of all that is not trained on: the image as a mirror shows it
    views: int = NUM_VIEWS
    splits: tuple[str, ...] = SPLITS
    by_person: bool = True  # PETA: nobody is in two parts; or the official split


@dataclass(frozen=True)
class Features:
    """Inputs (image, view, ...) and targets (image, attribute) of the three splits."""

    attributes: tuple[str, ...]
    inputs: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]

    @property
    def channels(self) -> int:
        return int(self.inputs["train"].shape[2])

    @property
    def side(self) -> int:
        return int(self.inputs["train"].shape[3])

    def targets(self, split: str, attributes: Sequence[str]) -> Tensor:
        """Give the targets in the order asked for."""
        columns = [self.attributes.index(name) for name in attributes]
        return torch.from_numpy(self.labels[split][:, columns].astype(np.float32))

    def batch(self, split: str, images: Tensor, views: Tensor | None = None) -> Tensor:
        """Read inputs; without ``views`` the images as they are."""
        chosen = np.zeros(len(images), dtype=np.int64) if views is None else views.numpy()
        return torch.from_numpy(self.inputs[split][images.numpy(), chosen]).float()


def study_options(parser: ArgumentParser, results: Path) -> None:
    """Add the options that all programs on the maps of the frozen trunk have."""
    parser.add_argument("--weights", type=Path, help=f"the checkpoint of {Source.backbone}; without one it is random")
    parser.add_argument("--cache", type=Path, default=Path("runs/study"), help="the folder for the trunk's maps")
    parser.add_argument("--results", type=Path, default=results, help="the file of finished runs")
    parser.add_argument("--threads", type=int, default=1)


def load(source: Source) -> Features:
    """Read the features, and compute them first where they are not there yet."""
    folder = source.cache / _name(source)
    if not (folder / "done.json").exists():
        compute(source, folder)
    return Features(
        tuple(json.loads((folder / "done.json").read_text(encoding="utf-8"))),
        {split: np.load(folder / f"{split}-inputs.npy", mmap_mode="r") for split in source.splits},
        {split: np.load(folder / f"{split}-labels.npy") for split in source.splits},
    )


def _name(source: Source) -> str:
    """Name the folder of a source by all that decides what lies in it; what is as it comes is left out."""
    trunk = f"{source.backbone}-{source.weights.stem if source.weights else 'random'}"
    parts = [source.data, "images" if source.images else trunk, str(source.size)]
    changed = ("crop", "drop_stages", "augment", "mixed", "mirrored", "views", "by_person")
    parts += [] if source.splits == SPLITS else ["-".join(source.splits)]
    parts += [f"{key}-{getattr(source, key)}" for key in changed if getattr(source, key) != getattr(Source, key)]
    return "-".join(parts)


@torch.no_grad()
def compute(source: Source, folder: Path) -> None:
    """Run the trunk once over each image and its views; ``done.json`` is written last, so a part is never taken."""
    folder.mkdir(parents=True, exist_ok=True)
    trunk, image = trunk_of(source)
    attributes: tuple[str, ...] = ()
    for split in source.splits:
        views = source.views if split == "train" else 1 + source.mirrored
        parts = [_one_view(source, split, view, trunk, image) for view in range(views)]
        attributes = parts[0][2]
        np.save(folder / f"{split}-inputs.npy", np.stack([inputs for inputs, _, _ in parts], 1))
        np.save(folder / f"{split}-labels.npy", parts[0][1])
    (folder / "done.json").write_text(json.dumps(attributes), encoding="utf-8")


def trunk_of(source: Source) -> tuple[nn.Module, dict[str, Any]]:
    """Build what looks at the images, up to the block that FARAMTN shares, and tell how it wants them."""
    backbone = build_backbone(source.backbone, weights=source.weights, drop_stages=source.drop_stages)
    trunk = backbone.trunk.eval().to(memory_format=torch.channels_last)
    image = {"mean": [0.0] * 3, "std": [1.0] * 3} if source.images else {"mean": backbone.mean, "std": backbone.std}
    return (nn.Identity() if source.images else trunk), image


def _one_view(
    source: Source, split: str, view: int, trunk: nn.Module, image: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    torch.manual_seed(view)
    augment = source.augment if split == "train" and view else "none"
    size = (source.size, source.size // 2 if source.data == "peta" else source.size)  # pedestrians are tall
    transform: Any = image_transform(size, **image, crop=source.crop, augment=augment)
    if split != "train" and view:
        transform = v2.Compose([*transform.transforms, v2.functional.horizontal_flip])
    if source.data == "drawn-hard":
        transform = v2.Compose([v2.Lambda(_spoiled), *transform.transforms])
    data = _data(source, split, transform)
    loader = DataLoader(data, batch_size=128, num_workers=1, generator=torch.Generator().manual_seed(view))
    with torch.autocast("cpu", torch.bfloat16, enabled=source.mixed):
        outputs = [trunk(images.to(memory_format=torch.channels_last)).contiguous() for images, _ in loader]
    kept = [(255 * part).round().byte() if source.images else part.half() for part in outputs]
    labels = data.targets.numpy().astype(np.float16)
    if source.data == "drawn-hard" and split != "test":
        wrong = np.random.default_rng(0).random(labels.shape) < FLIPPED
        labels = np.where(wrong, 1 - labels, labels)
    return torch.cat(kept).numpy(), labels, data.attributes


def _data(source: Source, split: str, transform: Callable[[Any], Any]) -> Any:
    if source.data == "lfwa":
        return LFWA(_root(source), split, transform=transform)
    if source.data == "fairface":
        faces = FairFace(_root(source), split, attributes=["years"], transform=transform)
        return faces.subset(range(0, len(faces), 3))  # about as many as LFWA has, so that neither drowns the other
    if source.data == "celeba":
        return CelebA(_root(source), split, transform=transform)
    if source.data == "peta":
        yes_or_no = [kind for kind in PETA_GROUPS.kinds if isinstance(kind, str)]
        return PETA(_root(source), split, attributes=yes_or_no, by_person=source.by_person, transform=transform)
    drawn = source.cache / f"drawn-{NUM_DRAWN}"
    if not (drawn / "list_eval_partition.txt").exists():
        SyntheticFaces(NUM_DRAWN, seed=0).write(drawn)
    return CelebA(drawn, split, transform=transform)


def _root(source: Source) -> Path:
    if source.root is None:
        raise ValueError(f"study: {source.data} needs the folder of the data set, got none; give --root.")
    return source.root


def _spoiled(picture: Any) -> Any:
    """Make a drawn face hard to read: a quarter of the pixels a side, with noise."""
    small = picture.resize((24, 24))
    pixels = np.asarray(small, dtype=np.float32)
    noise = np.random.default_rng(int(pixels.sum())).normal(0, 20, pixels.shape)  # the picture decides its noise
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))
