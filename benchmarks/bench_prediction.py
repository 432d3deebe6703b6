"""Predictor on a folder, to the last answer, against the bare model on the same files in batches."""

import statistics
from pathlib import Path

import torch
from bench_data import celeba_folder
from common import Bench, Call
from torch.utils.data import DataLoader

from mtattn import FARAMTN, Predictor
from mtattn.data import CELEBA_GROUPS, CelebA, image_transform

BATCH = 32
OURS, BARE, IN_MEMORY = (
    "Predictor, with all answers",
    "the bare model on torch's DataLoader",
    "the same on images in memory",
)


def run(bench: Bench) -> None:
    cases = (("resnet18", 1, 64, 192), ("resnet50", 0, 224, 1024 if bench.on_gpu else 32))
    with celeba_folder(bench) as (root, kind):
        for backbone, drop_stages, side, num_images in cases:
            data = CelebA(root, "train").subset(range(num_images))
            groups = CELEBA_GROUPS.only(data.attributes)
            model = FARAMTN.from_timm(backbone, groups, drop_stages=drop_stages).to(bench.device).eval()
            model.config["image"] |= {"size": [side, side]}
            data.transform = image_transform(**model.config["image"])
            files = [data.path(index) for index in range(num_images)]
            loader = DataLoader(data, BATCH)
            bench.compare(
                f"Prediction of files by {backbone} at {side} pixels",
                {
                    OURS: predicting(Predictor(model, batch_size=BATCH), files),
                    BARE: computing(model, loader, bench.device),
                    IN_MEMORY: computing(model, list(loader), bench.device),
                },
                sizes={"images": f"{num_images} {kind}", "batch": BATCH},
                blocks=min(bench.blocks, 9),
                facts=lambda seconds: {"rate_of_the_bare_model": _rate(seconds)},
            )


def predicting(predictor: Predictor, files: list[Path]) -> Call:
    """Predict all files, and read each answer."""

    def predict() -> None:
        for prediction in predictor.predict(files):
            assert prediction.answers

    return predict


def computing(model: FARAMTN, batches: object, device: torch.device) -> Call:
    """Compute the logits of all batches, and nothing else."""

    @torch.inference_mode()
    def compute() -> None:
        for images, _ in batches:
            model(images.to(device)).cpu()

    return compute


def _rate(seconds: dict[str, list[float]]) -> float:
    return statistics.median(bare / own for bare, own in zip(seconds[BARE], seconds[OURS], strict=True))
