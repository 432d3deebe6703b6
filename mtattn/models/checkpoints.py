"""A backbone's checkpoint: read without unpickling anything but tensors, and checked before it is loaded."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def load_backbone_weights(model: nn.Module, file: Path) -> None:
    """Load a checkpoint into a timm model, by the names of its tensors or, if these differ, by their order.

    The classifier's tensors may be missing or too many. Nothing is unpickled but tensors.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no checkpoint, or its tensors fit neither by name nor by order.
    """
    found = _read_tensors(file)
    wanted = {key: tensor for key, tensor in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    left = [key for key in found if key not in wanted]
    classifier = [key for key in left if key.startswith(tuple(_classifiers(model)))]
    if not wanted.keys() <= found.keys():  # other names: the same network written by somebody else keeps its order
        left = list(found)[len(wanted) :]
        classifier = left if len(left) <= 2 else []  # at most a weight and a bias at the end
        found = dict(zip(wanted, found.values(), strict=False))
    for key, tensor in wanted.items():
        if key not in found or found[key].shape != tensor.shape:
            came = tuple(found[key].shape) if key in found else "nothing"
            raise ValueError(
                f"from_timm: {file} does not fit {type(model).__name__}: "
                f"{key} has shape {tuple(tensor.shape)}, the file has {came} in its place."
            )
    if len(left) > len(classifier):
        (unused, *_) = (key for key in left if key not in classifier)
        raise ValueError(
            f"from_timm: {file} does not fit {type(model).__name__}: it has {unused} and more that the model lacks."
        )
    model.load_state_dict({key: found[key] for key in wanted}, strict=False)


def _classifiers(model: Any) -> list[str]:
    names = model.pretrained_cfg.get("classifier") or ()
    return [f"{name}." for name in ([names] if isinstance(names, str) else names)]


def _read_tensors(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise FileNotFoundError(f"from_timm: no checkpoint at {file.resolve()}.")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file  # noqa: PLC0415

            tensors: Any = load_file(file)
        else:
            tensors = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"from_timm: {file} is not a checkpoint that can be read without unpickling: {error}"
        ) from error
    for wrapper in ("state_dict", "model"):
        tensors = tensors.get(wrapper, tensors) if isinstance(tensors, dict) else tensors
    if not isinstance(tensors, dict):
        raise ValueError(f"from_timm: {file} is not a checkpoint: needs tensors by name, got {type(tensors).__name__}.")
    return {
        key.removeprefix("module."): tensor
        for key, tensor in tensors.items()
        if isinstance(tensor, Tensor) and not key.endswith("num_batches_tracked")
    }
