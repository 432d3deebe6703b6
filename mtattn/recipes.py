"""What the programs in ``examples/`` share: their options, the folder of a run, and how a run ends."""

import json
import os
import platform
import shutil
import sys
import tempfile
from argparse import (
    Action,
    ArgumentDefaultsHelpFormatter,
    ArgumentParser,
    ArgumentTypeError,
    BooleanOptionalAction,
    Namespace,
)
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mtattn._extras import needed_by
from mtattn.data.dataset import AttributeImages
from mtattn.data.images import read_image
from mtattn.metrics import AttributeMetrics
from mtattn.models import FARAMTN
from mtattn.report import FaceExample, write_metrics, write_report
from mtattn.training import TrainingDiverged, evaluate

with needed_by("mtattn.recipes", extra="recipes"):
    import timm
    from torchvision.transforms import v2

SETTINGS_FILE = "settings.json"
RUN_FILES = ("metrics.json", "metrics.csv", "report.html")
RUN_FOLDERS = ("checkpoints", "model")
MAY_CHANGE_ON_RESUME = {"output", "resume", "overwrite", "workers", "skip_unreadable"}
REPLACED = "replaced"  # where a run waits that --overwrite replaces, until the new one is finished
REPORTED_FACES = 6


class HelpFormatter(ArgumentDefaultsHelpFormatter):
    """Tells defaults, where there is one to tell."""

    def _get_help_string(self, action: Action) -> str | None:
        return action.help if action.default is None or action.default is False else super()._get_help_string(action)


def at_least(minimum: int) -> Callable[[str], int]:
    """Make the type of an option that is a whole number with a smallest value."""

    def whole_number(text: str) -> int:
        if int(text) < minimum:
            raise ArgumentTypeError(f"must be at least {minimum}, got {text}")
        return int(text)

    return whole_number


def positive(text: str) -> float:
    """Read an option that is a number above zero."""
    if not float(text) > 0:
        raise ArgumentTypeError(f"must be above 0, got {text}")
    return float(text)


def recipe_parser(description: str) -> ArgumentParser:
    """Make the parser with the options that all recipes have; a recipe sets its own defaults, with its reasons."""
    parser = ArgumentParser(description=description, formatter_class=HelpFormatter, allow_abbrev=False)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--root", type=Path, help="the folder of the data set")
    source.add_argument(
        "--synthetic",
        type=int,
        nargs="?",
        const=4000,
        metavar="N",
        help="draw N labelled faces (4000 if N is left out) and use these in place of a data set",
    )
    run = parser.add_argument_group("the run")
    run.add_argument("--output", type=Path, help="the folder for checkpoints, model, metrics and report")
    again = run.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on from the last checkpoint in the output folder")
    again.add_argument("--overwrite", action="store_true", help="replace the run that the output folder holds")
    run.add_argument("--seed", type=at_least(0), default=0, help="decides all chance; the same seed gives the same run")
    run.add_argument("--workers", type=at_least(0), default=1, help="processes that read images")
    run.add_argument("--skip-unreadable", action="store_true", help="count and leave out images that cannot be read")
    model = parser.add_argument_group("the model")
    model.add_argument("--backbone", help="a timm model name")
    model.add_argument("--backbone-weights", type=Path, metavar="FILE", help="a local checkpoint of the backbone")
    model.add_argument("--pretrained", action="store_true", help="fetch timm's pretrained weights of the backbone")
    model.add_argument("--drop-stages", type=at_least(0), help="leave out this many of the backbone's last stages")
    model.add_argument(
        "--image-size", type=at_least(1), help="height and width, in pixels, that images are squeezed to"
    )
    model.add_argument("--reduction", type=at_least(1), default=16, help="divides the channels in the gates")
    model.add_argument(
        "--spatial", action=BooleanOptionalAction, default=False, help="each group also learns where to look"
    )
    training = parser.add_argument_group("the training")
    training.add_argument("--epochs", type=at_least(1), help="how often to go through the training images")
    training.add_argument("--batch-size", type=at_least(1), help="images a step and process")
    training.add_argument("--learning-rate", type=positive, help="peak learning rate of the new modules")
    training.add_argument("--trunk-factor", type=positive, help="the backbone's learning rate is this times the other")
    training.add_argument("--weight-decay", type=float, default=0.05, help="AdamW's, for all but biases and norms")
    training.add_argument("--rule", default="dws", help="how groups are weighted: dws, equal, dwa, trend or random")
    training.add_argument("--alpha", type=float, default=1.0, help="how strongly the rule dws follows the loss left")
    training.add_argument("--averaging", type=float, metavar="DECAY", help="keep an averaged copy of the weights")
    training.add_argument(
        "--mixed-precision", default="no", choices=["no", "bf16", "fp16"], help="arithmetic; fp16 needs a GPU"
    )
    return parser


def run_recipe(main: Callable[[Namespace], None], options: Namespace) -> None:
    """Run a recipe so that an error of the user's ends in one line that says what to do, not in a traceback."""
    try:
        main(options)
    except KeyboardInterrupt:
        text = "stopped."
        if (options.output / "checkpoints").is_dir() and "resume" in options:
            text += " The checkpoints are kept; go on after the last whole epoch with --resume."
    except (ValueError, OSError, ImportError, TrainingDiverged) as error:
        text = str(error)
        if "in DataLoader worker" in text:  # torch puts the worker's traceback around our one line
            text = text.strip().splitlines()[-1].partition(": ")[2]
    else:
        return
    if (replaced := options.output / REPLACED).is_dir():
        text += f" The run that was to be replaced is in {replaced}."
    sys.exit(f"{Path(sys.argv[0]).name}: {text}")


def check_output(options: Namespace) -> Path:
    """Find out whether the output folder may be used, and change nothing.

    Raises:
        ValueError: The folder holds a run and neither ``resume`` nor ``overwrite`` was asked for, the settings differ
            from those of the run to resume, the folder holds something else, or there are several processes.
    """
    output: Path = options.output
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    if num_processes > 1:
        raise ValueError(f"a recipe runs in one process, got WORLD_SIZE={num_processes}; start it with python.")
    before = output / SETTINGS_FILE
    was_ours = before.is_file()
    if was_ours and any((output / name).exists() for name in (*RUN_FILES, *RUN_FOLDERS)):
        if options.resume:
            _check_same_settings(before, _settings(options))
        elif not options.overwrite:
            raise ValueError(
                f"{output} already holds a run; go on with --resume, replace it with --overwrite, "
                f"or give another --output."
            )
    elif not was_ours and output.exists() and any(output.iterdir()):
        raise ValueError(f"{output} is not empty and holds no run, so it is left alone; give another --output.")
    return output


def open_output(options: Namespace) -> None:
    """Make the output folder, set a run aside that is to be replaced, and note the settings; call it last."""
    if options.overwrite:
        _set_aside(options.output)
    options.output.mkdir(parents=True, exist_ok=True)
    settings = json.dumps(_settings(options), indent=2)
    (options.output / SETTINGS_FILE).write_text(settings + "\n", encoding="utf-8")


def size_options(options: Namespace) -> dict[str, Any]:
    """Tell a backbone that is made for one image size, such as a ViT, which size it gets."""
    config = timm.get_pretrained_cfg(options.backbone, allow_unregistered=True)
    return {"img_size": options.image_size} if config is not None and config.fixed_input_size else {}


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
) -> dict[str, Any]:
    """Measure the model on validation and test part, and write model, metrics and report into the output folder.

    Returns:
        What stands in ``metrics.json``.
    """
    parts = {"train": train_data, "valid": valid_data, "test": test_data}
    valid, test = (
        evaluate(model, data, metrics, batch_size=batch_size, workers=workers) for data in (valid_data, test_data)
    )
    test["intervals"] = metrics.intervals()  # of the test part, which it saw last
    settings = json.loads((output / SETTINGS_FILE).read_text(encoding="utf-8"))
    settings["images"] = {name: len(data) for name, data in parts.items()}
    settings["skipped"] = {name: [str(path) for path in data.skipped] for name, data in parts.items() if data.skipped}
    results = {"test": test, "valid": valid, "settings": settings, "versions": _versions()}
    model.save_pretrained(output / "model", model_card_kwargs={"run": results, "title": title})
    write_metrics(output, results, model.groups)
    write_report(
        output / "report.html",
        title=title,
        metrics=results,
        history=history,
        groups=model.groups,
        affinity=_mean_affinity(model, test_data),
        faces=explain_faces(model, test_data, _evenly_spaced(len(test_data), REPORTED_FACES)),
    )
    shutil.rmtree(output / REPLACED, ignore_errors=True)
    print(
        f"test: accuracy {test['mean_accuracy']:.4f} (majority {test['majority_accuracy']:.4f}), "
        f"balanced {test['mean_balanced_accuracy']:.4f}, average precision {test['mean_average_precision']:.4f}\n"
        f"report: {output / 'report.html'}"
    )
    return results


@torch.no_grad()
def explain_faces(model: FARAMTN, data: AttributeImages, indices: list[int]) -> list[FaceExample]:
    """Predict some images of a data set and keep with each its attribute maps, as reports show them."""
    model.eval()
    device = next(model.parameters()).device
    faces = []
    for index in indices:
        image, targets = data[index]
        maps = model.attribute_maps(image[None].to(device))[0].cpu()
        faces.append(
            FaceExample(
                image=_as_seen(data.path(index), image.shape[-2:]),
                probabilities=maps.mean((-2, -1)).sigmoid(),
                targets=targets,
                maps=maps,
            )
        )
    return faces


def _as_seen(path: Path, size: torch.Size) -> torch.Tensor:
    height, width = size
    seen: torch.Tensor = v2.functional.pil_to_tensor(read_image(path).resize((width, height)))
    return seen / 255


@torch.no_grad()
def _mean_affinity(model: FARAMTN, data: AttributeImages, num_images: int = 128) -> torch.Tensor:
    model.eval()
    device = next(model.parameters()).device
    images = torch.stack([data[index][0] for index in _evenly_spaced(len(data), num_images)])
    return model.affinity(images.to(device)).mean(0).cpu()


def _evenly_spaced(length: int, count: int) -> list[int]:
    return sorted({index * length // count for index in range(count)})


def _versions() -> dict[str, str]:
    packages = ("mtattn", "torch", "timm", "torchmetrics", "accelerate")
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


def _settings(options: Namespace) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}


def _check_same_settings(file: Path, now: Mapping[str, Any]) -> None:
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is damaged or cut short ({error}); begin anew with --overwrite.") from error
    for name in sorted((before.keys() | now.keys()) - MAY_CHANGE_ON_RESUME):
        if before.get(name) != now.get(name):
            raise ValueError(
                f"{file.parent} was begun with {name}={before.get(name)}, got {now.get(name)}; "
                f"a run resumes with the settings it was begun with."
            )


def _set_aside(output: Path) -> None:
    """Move a run away, or delete it if a run that it was to replace is already waiting: then it never got far."""
    waiting = output / REPLACED
    place = Path(tempfile.mkdtemp(dir=output, prefix=".")) if waiting.is_dir() else waiting
    place.mkdir(parents=True, exist_ok=True)
    for name in (*RUN_FILES, *RUN_FOLDERS, SETTINGS_FILE):
        if (output / name).exists():
            (output / name).rename(place / name)
    if place != waiting or not any(place.iterdir()):
        shutil.rmtree(place)
