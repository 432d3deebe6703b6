"""One small FAR-AMTN on drawn faces, trained once for all pictures and pages that show a trained model.

The first call draws the faces and trains, about a minute on two cores, and keeps both in ``docs/_cache``; later calls
load them. Delete that folder to start again.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.utils import set_seed
from torch import Tensor, nn

from mtattn import FARAMTN, AttributeGroups, DWSLoss
from mtattn.data import CELEBA_GROUPS, CelebA, SyntheticFaces, image_transform
from mtattn.metrics import AttributeMetrics, train_rates
from mtattn.training import fit

CACHE = Path(__file__).parent / "_cache"
FACES, EPOCHS, SIZE = 3000, 10, 64
IMAGE: dict[str, Any] = {"size": [SIZE, SIZE], "mean": [0.5] * 3, "std": [0.5] * 3}
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
    run = CACHE / f"run-{FACES}-{EPOCHS}-{SIZE}-places"  # under other names lie models that no longer load
    if not run.exists():
        with tempfile.TemporaryDirectory(dir=CACHE) as workshop, redirect_stdout(sys.stderr):  # not into a page
            _train(faces, Path(workshop) / "run")
            (Path(workshop) / "run").rename(run)  # only when it is complete
    model = FARAMTN.from_pretrained(run, trunk=new_model().trunk, shared=new_model().wsgsa.shared)
    return Trained(model, json.loads((run / "history.json").read_text()), faces)


def split(faces: Path, name: str, *, augment: bool = False, size: int = SIZE) -> CelebA:
    """Open the training ("train"), validation ("valid") or test part ("test") as the model takes it."""
    transform = image_transform(**IMAGE | {"size": [size, size]}, augment=augment)
    return CelebA(faces, name, attributes=GROUPS.attributes, transform=transform)


def tensors(faces: Path, name: str, *, size: int = SIZE) -> tuple[Tensor, Tensor]:
    """Read all images and all targets of a part into one tensor each."""
    images, targets = zip(*split(faces, name, size=size), strict=True)
    return torch.stack(images), torch.stack(targets)


def new_model(**options: Any) -> FARAMTN:
    """Make a new FAR-AMTN that two cores train in seconds: small convolutions in place of a timm backbone."""
    set_seed(0)
    trunk = nn.Sequential(_convolution(3, 32), _convolution(32, 64), _convolution(64, 128))
    model = FARAMTN(trunk, 128, GROUPS, shared=_convolution(128, 128, stride=1), **options)
    return model.to(memory_format=torch.channels_last)


def train_briefly(
    model: nn.Module,
    loss: DWSLoss,
    images: Tensor,
    targets: Tensor,
    *,
    epochs: int,
    learning_rate: float = 5e-3,
    measure: Callable[[], Any] = lambda: None,
) -> list[dict[str, Any]]:
    """Train on tensors, in the same order every time; tell each epoch's weights, loss left and measure."""
    order, batches = torch.Generator().manual_seed(0), len(images) // 64
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=epochs * batches)
    history = []
    for _ in range(epochs):
        model.train()
        for rows in torch.randperm(len(images), generator=order).split(64)[:batches]:
            loss(model(images[rows]), targets[rows]).backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        weights = loss.weights.clone()  # of this epoch, before the step sets the next ones
        loss.step()
        model.eval()
        history.append({"weights": weights, "loss_left": loss.loss_left, "measured": measure()})
    return history


def _convolution(channels: int, out_channels: int, *, stride: int = 2) -> nn.Sequential:
    convolution = nn.Conv2d(channels, out_channels, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU())


def _train(faces: Path, folder: Path) -> None:
    model = new_model()
    model.config["image"] = IMAGE
    train, valid = split(faces, "train", augment=True), split(faces, "valid")
    history = fit(
        model,
        DWSLoss(GROUPS),
        torch.optim.AdamW(model.parameter_groups(5e-3, trunk_factor=1.0, weight_decay=0.05)),
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
