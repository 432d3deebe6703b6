"""What computes: a model in torch, or an ONNX file in onnxruntime. Both are called alike."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from mtattn._extras import needed_by
from mtattn._metadata import num_columns
from mtattn._rules import check_image
from mtattn.functional import Centres
from mtattn.groups import AttributeGroups
from mtattn.models import FARAMTN, find_model, map_centres

Outputs = tuple[Float[Tensor, "batch column"], Float[Tensor, "batch column h w"] | None]


@runtime_checkable
class Engine(Protocol):
    """A model that is ready to compute."""

    groups: AttributeGroups
    config: dict[str, Any]

    def __call__(self, images: Float[Tensor, "batch color height width"], *, maps: bool) -> Outputs:
        """Compute logits and, if asked for, maps, on the CPU when they come back."""
        ...

    def map_centres(self, size: Sequence[int]) -> Centres | None:
        """Tell where the cells of the maps of images of this size look, where that is known."""
        ...


def open_engine(model: Any, device: str | torch.device | None) -> Engine:
    """Make a model ready: a FARAMTN, its folder, the folder of its run, its name on the hub, or an ONNX file.

    Raises:
        FileNotFoundError: There is no such model.
        ValueError: It is damaged, or does not say which images it takes.
    """
    if isinstance(model, FARAMTN):
        return _checked(InTorch(model, device), "the model")
    place = find_model(model)
    if Path(place).suffix == ".onnx":
        return _checked(InOnnxruntime(Path(place), device), place)
    chosen = default_device() if device is None else torch.device(device)
    return _checked(InTorch(FARAMTN.from_pretrained(place, map_location=chosen), chosen), place)


def default_device() -> torch.device:
    """Choose a GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class InTorch:
    """A model in torch."""

    def __init__(self, model: FARAMTN, device: str | torch.device | None) -> None:
        self.model = model if device is None else model.to(device)
        self.groups, self.config = model.groups, model.config

    @torch.inference_mode()
    def __call__(self, images: Float[Tensor, "batch color height width"], *, maps: bool) -> Outputs:
        """Compute; the maps average to the logits, so with them these cost nothing."""
        model = self.model.eval()  # somebody may train it in between
        images = images.to(next(model.parameters()).device, non_blocking=True)
        if not maps:
            return model(images).float().cpu(), None
        found = model.attribute_maps(images).float().cpu()
        return found.mean((-2, -1)), found

    def map_centres(self, size: Sequence[int]) -> Centres | None:
        """Find them, or read them from the config."""
        return map_centres(self.model, size)


class WithMirrorImages:
    """Another engine, asked of each image and of its mirror image."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.groups, self.config = engine, engine.groups, engine.config

    def __call__(self, images: Float[Tensor, "batch color height width"], *, maps: bool) -> Outputs:
        """Compute the mean of both; the maps of the mirror image are turned back."""
        logits, found = self.engine(images, maps=maps)
        mirrored, turned = self.engine(images.flip(-1), maps=maps)
        both = None if found is None or turned is None else (found + turned.flip(-1)) / 2
        return (logits + mirrored) / 2, both

    def map_centres(self, size: Sequence[int]) -> Centres | None:
        """Tell where the means look: between where a cell looks and where its counterpart in the mirror image does."""
        found = self.engine.map_centres(size)
        if found is None:
            return None
        both = zip(found.columns, reversed(found.columns), strict=True)
        return Centres(found.rows, [(1 + column - other) / 2 for column, other in both])


class InOnnxruntime:
    """A file of :func:`mtattn.export.export_onnx` in onnxruntime, on the CPU unless told otherwise."""

    def __init__(self, file: Path, device: str | torch.device | None) -> None:
        if not file.is_file():
            raise FileNotFoundError(f"Predictor: no file {file.absolute()}.")
        with needed_by("Predictor", extra="serve"):
            from mtattn.serving.session import Session  # noqa: PLC0415
        self.session = Session(file, device="cpu" if device is None else str(device))
        self.config: dict[str, Any] = self.session.metadata
        try:
            self.groups = AttributeGroups.from_plain(self.session.groups)
        except (TypeError, ValueError) as error:
            raise ValueError(f"Predictor: what {file} says about its model is damaged: {error}") from error
        if len(self.groups.columns.attributes) != num_columns(self.config):
            raise ValueError(f"Predictor: the groups and attributes that {file} tells of differ; export it again.")

    def __call__(self, images: Float[Tensor, "batch color height width"], *, maps: bool) -> Outputs:
        """Compute."""
        if maps and not self.session.has_maps:
            raise ValueError("Predictor: this ONNX file was exported without maps; export it again with them.")
        logits, found = self.session.run(images.numpy(), maps=maps)
        return torch.from_numpy(logits), None if found is None else torch.from_numpy(found)

    def map_centres(self, size: Sequence[int]) -> Centres | None:
        """Read them: the file knows those of images of its own size."""
        told = self.config.get("map_centres")
        return (
            Centres(told["rows"], told["columns"])
            if told and list(size) == list(self.config["image"]["size"])
            else None
        )


def _checked(engine: Engine, place: object) -> Engine:
    if "image" not in engine.config:
        raise ValueError(
            f"Predictor: config['image'] of a model says which images it takes, by size, mean and std, "
            f"got none in {place}; set it and save the model again."
        )
    check_image(f"Predictor: {place}", _plain(engine.config["image"]), needs=("size", "mean", "std"))
    return engine


def _plain(image: Any) -> Any:
    """Write it as JSON would: a model in memory may have tuples."""
    return json.loads(json.dumps(image, default=str))
