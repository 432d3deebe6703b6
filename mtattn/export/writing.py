"""A trained model as one ONNX file that needs no torch, with all that a program must know to use it.

Inputs and outputs carry names: ``images`` (batch, 3, height, width), normalised as the image transform does it, gives
``logits`` (batch, attribute) and, if asked for, ``maps`` (batch, attribute, h, w), which average to the logits.
"""

import copy
import os
import warnings
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import Dim

from mtattn._extras import needed_by
from mtattn.export.metadata import description_of, free_file, metadata_of, write_onnx
from mtattn.models import FARAMTN, map_centres


def export_onnx(
    model: FARAMTN,
    file: "str | os.PathLike[str]",
    *,
    maps: bool = True,
    dynamic_size: bool = True,
    overwrite: bool = False,
) -> None:
    """Write a model as one ONNX file that takes any batch and, where its trunk does, images of any size.

    The file computes in float32 on whatever runs it. A session that is asked for the logits alone need not compute the
    maps: set onnxruntime's run option ``only_execute_path_to_fetches``.

    Args:
        model: The model, in any mode and on any device; it is left as it is.
        file: Where to write; the folder is made if it does not exist.
        maps: Whether the attribute maps are a second output.
        dynamic_size: Whether height and width are left open. A trunk made for one size, such as a ViT, needs False.
        overwrite: Whether a file that is there already is replaced.

    Raises:
        ValueError: ``model.config`` does not say which images the model takes, or its trunk needs one size.
        FileExistsError: The file is there already.
        ImportError: The extra ``export`` is not installed.
    """
    file = free_file(file, "export_onnx", overwrite)
    metadata = metadata_of(model.groups, _image(model))
    if "decisions" in model.config:  # temperatures and thresholds: logits stay as the model gives them
        metadata["decisions"] = model.config["decisions"]
    if dynamic_size and any(type(part).__name__.endswith("Same") for part in model.modules()):
        raise ValueError(  # torch.export would search for minutes and then fail
            "export_onnx: a model exports with open height and width if its trunk takes images of any size, "
            "got one that pads by their size, as timm's tf_ models do; pass dynamic_size=False."
        )
    with needed_by("export_onnx", extra="export"):
        import onnx  # noqa: F401, PLC0415
        import onnxscript  # noqa: F401, PLC0415
    try:
        proto = _trace(model, metadata["image"], maps, dynamic_size)
    except ImportError:  # an onnxscript that is too old for this torch
        with needed_by("export_onnx", extra="export"):
            raise
    except Exception as error:
        if not dynamic_size:
            raise
        raise ValueError(
            f"export_onnx: a model exports with open height and width if its trunk takes images of any size, "
            f"got one that does not ({_first_line(error)}); pass dynamic_size=False."
        ) from error
    if maps:
        metadata["map_centres"] = map_centres(model)._asdict()
    write_onnx(proto, file, metadata, description_of(metadata))


def _trace(model: FARAMTN, image: dict[str, Any], maps: bool, dynamic_size: bool) -> Any:
    height, width = image["size"]
    if dynamic_size:  # another size than its own, so that a trunk which takes only that is found out
        height, width = height + 32, width + 64
    images = torch.zeros(2, len(image["mean"]), height, width)  # two: a batch of one would be taken for a constant
    open_axes = {0: Dim("batch"), **({2: Dim("height"), 3: Dim("width")} if dynamic_size else {})}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's about its own insides
        program = torch.onnx.export(
            _Outputs(_copy_for_use(model), maps=maps).eval(),
            (images,),
            dynamic_shapes=(open_axes,),
            input_names=["images"],
            output_names=["logits", "maps"] if maps else ["logits"],
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def _copy_for_use(model: FARAMTN) -> FARAMTN:
    """Copy a model to the CPU in float32, tensor by tensor: a copy beside it on a GPU may not fit."""
    tensors = {id(tensor): _for_use(tensor) for tensor in chain(model.parameters(), model.buffers())}
    return copy.deepcopy(model, tensors).eval()


def _for_use(tensor: Tensor) -> Tensor:
    copied = tensor.detach().to("cpu", torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
    return nn.Parameter(copied, requires_grad=False) if isinstance(tensor, nn.Parameter) else copied


class _Outputs(nn.Module):
    """Compute both outputs; what they have in common is merged in the exported graph."""

    def __init__(self, model: FARAMTN, *, maps: bool) -> None:
        super().__init__()
        self.model, self.maps = model, maps

    def forward(self, images: Float[Tensor, "batch color height width"]) -> tuple[Tensor, ...]:
        logits = self.model(images)
        return (logits, self.model.attribute_maps(images)) if self.maps else (logits,)


def _image(model: FARAMTN) -> dict[str, Any]:
    image: dict[str, Any] = model.config.get("image", {})
    if missing := [key for key in ("size", "mean", "std") if key not in image]:
        raise ValueError(
            f"export_onnx: model.config['image'] says which images the model takes, by size, mean and std, "
            f"got no {', '.join(missing)}; set it, for example to dict(size=[64, 64], mean=[0.5] * 3, std=[0.5] * 3)."
        )
    return image


def _first_line(error: Exception) -> str:
    return next(iter(str(error.__cause__ or error).strip().splitlines()), type(error).__name__)
