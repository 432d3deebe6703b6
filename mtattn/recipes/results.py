"""What a finished run leaves: model, metrics and report."""

import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset

from mtattn._baselines import without_labels
from mtattn._version import installed_version
from mtattn.ablation import measure_ablations
from mtattn.data.dataset import AttributeImages
from mtattn.data.images import read_image
from mtattn.data.transforms import image_transform
from mtattn.decisions import choose_decisions
from mtattn.metrics import AttributeMetrics
from mtattn.models import FARAMTN, map_centres
from mtattn.recipes.measuring import measure_test, told
from mtattn.recipes.output import REPLACED, SETTINGS_FILE
from mtattn.report import FaceExample, write_metrics, write_report
from mtattn.report.kinds import Pairs
from mtattn.training import evaluate, processes

REPORTED_FACES = 6
ABLATED_IMAGES = 2048  # enough for intervals of a point, and seconds on a CPU


def finish_run(
    output: Path,
    model: FARAMTN,
    metrics: AttributeMetrics,
    history: list[dict[str, Any]],
    *,
    title: str,
    train_data: AttributeImages,
    valid_data: AttributeImages,
    test_data: AttributeImages,
    batch_size: int = 256,
    workers: int = 0,
    thresholds: str | None = None,
    uncertain: bool = False,
    slices: Mapping[str, Sequence[str]] | None = None,
    mirror: bool = False,
) -> dict[str, Any]:
    """Measure the model on validation and test part, and write model, metrics and report into the output folder.

    Several processes share the measuring, and the first writes. With ``thresholds``, a goal of
    :func:`mtattn.decisions.choose_decisions`, these are chosen on the validation part and saved with the model; scores
    with them stand beside those at one half. ``slices`` has, by name, the value of each test image, such as the gender
    of who is on it: scores are told apart for each. ``mirror`` measures, on both parts, the mean of each image and its
    mirror image; what the report shows of single images and of parts of the model stays without it.

    Returns:
        What stands in ``metrics.json``.
    """
    parts = {"train": train_data, "valid": valid_data, "test": test_data}
    valid = evaluate(model, valid_data, metrics, batch_size=batch_size, workers=workers, mirror=mirror)
    chosen = None
    if thresholds is not None:
        chosen = choose_decisions(model.groups, *metrics.seen(), goal=thresholds, uncertain=uncertain)
    found = measure_test(
        model,
        test_data,
        metrics,
        decisions=chosen,
        slices=slices or {},
        batch_size=batch_size,
        workers=workers,
        mirror=mirror,
    )
    predictions = metrics.predictions()
    settings = json.loads((output / SETTINGS_FILE).read_text(encoding="utf-8"))
    settings["images"] = {name: len(data) for name, data in parts.items()}
    settings["skipped"] = {name: [str(path) for path in data.skipped] for name, data in parts.items() if data.skipped}
    if history:
        settings["best_epoch"] = history[-1]["best_epoch"]  # whose weights these are
    results = {"test": found.pop("test"), "valid": valid, "settings": settings, "versions": versions(), **found}
    if unlearnt := without_labels(train_data.attributes, train_data.targets):
        results["unlearnt"] = unlearnt
    if chosen is not None:
        model.config["decisions"] = chosen.to_plain()
    if processes().is_main_process:
        if "image" in model.config:
            map_centres(model)  # now, so that they are saved with the model
        model.save_pretrained(output / "model", model_card_kwargs={"run": results, "title": title})
        write_pages(output, model, history, results, title, test_data, predictions=predictions)
        shutil.rmtree(output / REPLACED, ignore_errors=True)
        print(*told(results), f"report: {output / 'report.html'}", sep="\n")
    processes().wait_for_everyone()
    return results


def write_pages(
    output: Path,
    model: FARAMTN,
    history: list[dict[str, Any]],
    results: dict[str, Any],
    title: str,
    test_data: AttributeImages,
    *,
    predictions: Pairs,
) -> None:
    """Write ``metrics.json``, ``metrics.csv`` and ``report.html``."""
    write_metrics(output, results, model.groups)
    write_report(
        output / "report.html",
        title=title,
        metrics=results,
        history=history,
        groups=model.groups,
        ablations=measure_ablations(model, _loader(test_data), model.groups),
        faces=explain_faces(model, test_data, _evenly_spaced(len(test_data), REPORTED_FACES)),
        predictions=predictions,
        caution=test_data.caution,
    )


@torch.no_grad()
def explain_faces(model: FARAMTN, data: AttributeImages, indices: list[int]) -> list[FaceExample]:
    """Predict some images of a data set and keep with each its attribute maps, as reports show them.

    Example:
        >>> import tempfile
        >>> from mtattn.data import CelebA, SyntheticFaces, image_transform
        >>> root = SyntheticFaces(10).write(Path(tempfile.mkdtemp(), "faces"))
        >>> transform = image_transform((32, 32), mean=[0.5] * 3, std=[0.5] * 3)
        >>> data = CelebA(root, "test", attributes=["Smiling"], transform=transform)
        >>> model = FARAMTN(torch.nn.Conv2d(3, 16, 8, stride=8), 16, AttributeGroups({"mouth": ["Smiling"]}))
        >>> (face,) = explain_faces(model, data, [0])
        >>> face.image.shape, face.maps.shape
        (torch.Size([3, 32, 32]), torch.Size([1, 4, 4]))
    """
    model.eval()
    device = next(model.parameters()).device
    faces = []
    for index in indices:
        image, targets = data[index]
        maps = model.attribute_maps(image[None].to(device))[0].cpu()
        faces.append(
            FaceExample(
                image=_as_seen(data.path(index), image.shape[-2:], model.config.get("image", {}).get("crop", 1.0)),
                probabilities=maps.mean((-2, -1)).sigmoid(),
                targets=targets,
                maps=maps,
                centres=map_centres(model, image.shape[-2:]),
                name=data.files[index],
            )
        )
    return faces


def _as_seen(path: Path, size: Sequence[int], crop: float | Sequence[float]) -> torch.Tensor:
    seen: torch.Tensor = image_transform(size, mean=[0.0] * 3, std=[1.0] * 3, crop=crop)(read_image(path))
    return seen


def _loader(data: AttributeImages) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
    return DataLoader(Subset(data, _evenly_spaced(len(data), ABLATED_IMAGES)), batch_size=128)


def _evenly_spaced(length: int, count: int) -> list[int]:
    return sorted({index * length // count for index in range(count)})


def versions() -> dict[str, str]:
    """Tell the versions that decide what a run measures."""
    packages = ("mtattn", "torch", "timm", "torchmetrics", "accelerate")
    return {"python": platform.python_version(), **{package: installed_version(package) for package in packages}}
