"""Reading images: CelebA's loader against torchvision's ImageFolder on the same files, and what training needs."""

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import torch
from common import Bench, Call, training_step
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.datasets import ImageFolder

from mtattn import FARAMTN, DWSLoss
from mtattn.data import CELEBA_GROUPS, CelebA, SyntheticFaces, image_transform

BATCH, NUM_IMAGES, WORKERS = 64, 640, (0, 1, 2, 4)
STEPS = 20
NORMAL = {"mean": [0.5] * 3, "std": [0.25] * 3}


def run(bench: Bench) -> None:
    size, backbone = ((224, 224), ("resnet50", 0)) if bench.on_gpu else ((64, 64), ("resnet18", 1))
    with celeba_folder(bench) as (root, kind):
        attributes = CelebA(root, "train").attributes
        groups = CELEBA_GROUPS.only(attributes)
        transform = image_transform(size, **NORMAL, augment=True)
        ours = CelebA(root, "train", attributes=groups.attributes, transform=transform).subset(range(NUM_IMAGES))
        theirs = Subset(ImageFolder(str(ours.path(0).parents[1]), transform), range(NUM_IMAGES))
        assert [str(ours.path(i)) for i in range(NUM_IMAGES)] == [theirs.dataset.imgs[i][0] for i in range(NUM_IMAGES)]
        shared = {"sizes": {"images": f"{NUM_IMAGES} {kind}", "pixels": size[0]}, "blocks": min(bench.blocks, 9)}
        for workers in WORKERS:
            calls = {"CelebA": reading(ours, workers), "torchvision's ImageFolder": reading(theirs, workers)}
            bench.compare(
                f"Reading with {workers} workers",
                calls,
                facts=lambda seconds: {"images_a_second": NUM_IMAGES / statistics.median(seconds["CelebA"])},
                **shared,
            )
        model = bench.put(FARAMTN.from_timm(backbone[0], groups, drop_stages=backbone[1]))
        loss = bench.put(DWSLoss(groups))
        loop(bench, model, loss, ours, shared)


def loop(bench: Bench, model: FARAMTN, loss: DWSLoss, data: CelebA, shared: dict) -> None:
    """Time training steps on images from disk, and on one batch that is already there."""
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-6)
    waited: dict[int, list[float]] = {1: [], 2: []}
    kept = next(iter(DataLoader(data, BATCH)))

    def step(images: torch.Tensor, targets: torch.Tensor) -> None:
        images, targets = (tensor.to(bench.device, non_blocking=True) for tensor in (images, targets))
        training_step(lambda x: loss(model(x), targets), [images], parameters, optimizer=optimizer)()

    def from_memory() -> None:
        for _ in range(STEPS):
            step(*kept)

    def from_disk(workers: int) -> Call:
        batches = endless(data, workers)

        def steps() -> None:
            began, waiting = time.perf_counter(), 0.0
            for _ in range(STEPS):
                asked = time.perf_counter()
                batch = next(batches)
                waiting += time.perf_counter() - asked
                step(*batch)
            if bench.on_gpu:
                torch.cuda.synchronize()
            waited[workers].append(100 * waiting / (time.perf_counter() - began))

        return steps

    calls = {"steps on images from disk, 1 worker": from_disk(1), "the same with 2 workers": from_disk(2)}
    bench.compare(
        "Training loop and loader",
        calls | {"the same steps on a batch in memory": from_memory},
        facts=lambda seconds: {
            "percent_of_the_time_waiting_for_images": {
                f"{workers} workers": statistics.median(percents) for workers, percents in waited.items()
            },
            "images_a_second_that_the_steps_need": STEPS
            * BATCH
            / statistics.median(seconds["the same steps on a batch in memory"]),
        },
        **shared,
    )


def reading(data: Dataset, workers: int) -> Call:
    """Make one pass over the images, the workers staying alive between passes as they do in training."""
    loader = DataLoader(data, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)

    def read() -> None:
        for _ in loader:
            pass

    return read


def endless(data: Dataset, workers: int) -> Iterator:
    loader = DataLoader(data, BATCH, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=True)
    return (batch for _ in cycle([0]) for batch in loader)


@contextmanager
def celeba_folder(bench: Bench) -> Iterator[tuple[Path, str]]:
    """Give CelebA's own folder if there is one, and drawn faces in its layout if not."""
    if bench.celeba is not None:
        yield bench.celeba, "of CelebA"
        return
    with tempfile.TemporaryDirectory() as folder:
        SyntheticFaces(NUM_IMAGES * 2, seed=bench.seed).write(Path(folder))
        yield Path(folder), "drawn"
