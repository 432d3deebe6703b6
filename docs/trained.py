"""One small FAR-AMTN on drawn faces, trained once for all pictures and pages that show a trained model.

The first call draws the faces and trains, about a minute on two cores, and keeps both in ``docs/_cache``; later calls
load them. Delete that folder to begin anew.
"""

import json
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.utils import set_seed
from torch import Tensor

from mtattn import FARAMTN, AttributeGroups, DWSLoss
from mtattn.data import CELEBA_GROUPS, CelebA, SyntheticFaces, image_transform
from mtattn.metrics import AttributeMetrics, train_rates
from mtattn.training import fit

CACHE = Path(__file__).parent / "_cache"
FACES, EPOCHS, SIZE = 3000, 6, 64
GROUPS: AttributeGroups = CELEBA_GROUPS.only(SyntheticFaces.attributes)


class Trained(NamedTuple):
    """What training leaves.

    Attributes:
        model: In evaluation mode.
        history: A record of each epoch, as :func:`mtattn.training.fit` returns it.
        faces: The folder of the drawn faces, in CelebA's layout.
    """

    model: FARAMTN
    history: list[dict[str, Any]]
    faces: Path


def trained() -> Trained:
    """Load the model and what it was trained on; draw and train them if they are not there."""
    faces = SyntheticFaces(FACES).write(CACHE / f"faces-{FACES}")
    run = CACHE / f"run-{FACES}-{EPOCHS}-{SIZE}"
    if not run.exists():
        with tempfile.TemporaryDirectory(dir=CACHE) as workshop, redirect_stdout(sys.stderr):  # not into a page
            _train(faces, Path(workshop) / "run")
            (Path(workshop) / "run").rename(run)  # only when it is complete
    return Trained(FARAMTN.from_pretrained(run), json.loads((run / "history.json").read_text()), faces)


def split(faces: Path, name: str, *, augment: bool = False, size: int = SIZE) -> CelebA:
    """Open the training ("train"), validation ("valid") or test part ("test") as the model takes it."""
    transform = image_transform([size, size], mean=[0.5] * 3, std=[0.5] * 3, augment=augment)
    return CelebA(faces, name, attributes=GROUPS.attributes, transform=transform)


def tensors(faces: Path, name: str, *, size: int = SIZE) -> tuple[Tensor, Tensor]:
    """Read all images and all targets of a part into one tensor each."""
    images, targets = zip(*split(faces, name, size=size), strict=True)
    return torch.stack(images), torch.stack(targets)


def _train(faces: Path, folder: Path) -> None:
    set_seed(0)
    model = FARAMTN.from_timm("resnet18", GROUPS, drop_stages=1).to(memory_format=torch.channels_last)
    model.config["image"] = {"size": [SIZE, SIZE], "mean": [0.5] * 3, "std": [0.5] * 3}
    train, valid = split(faces, "train", augment=True), split(faces, "valid")
    history = fit(
        model,
        DWSLoss(GROUPS),
        torch.optim.AdamW(model.parameter_groups(2e-3, trunk_factor=1.0, weight_decay=0.05)),
        AttributeMetrics(GROUPS, train_rates(train.targets)),
        train,
        valid,
        output=folder.parent,
        epochs=EPOCHS,
        batch_size=64,
    )
    model.save_pretrained(folder)
    (folder / "history.json").write_text(json.dumps(history))


if __name__ == "__main__":
    last = trained().history[-1]["valid"]
    print(f"accuracy {last['mean_accuracy']:.3f}, always the majority class {last['majority_accuracy']:.3f}")
