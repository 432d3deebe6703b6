"""A trained model as one ONNX file that needs no torch, with all that a program must know to use it.

Inputs and outputs carry names: ``images`` (batch, 3, height, width), normalised as the image transform does it, gives
``logits`` (batch, attribute) and, if asked for, ``maps`` (batch, attribute, h, w), which average to the logits.
"""

import copy
import json
import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import Dim

from mtattn._extras import needed_by
from mtattn._version import installed_version
from mtattn.models import FARAMTN, map_centres

METADATA_KEY = "mtattn"


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
    file = _free(Path(file), "export_onnx", overwrite)
    metadata = _metadata(model, maps)
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
    _write(proto, file, metadata)


def quantize_onnx(
    file: "str | os.PathLike[str]",
    quantized: "str | os.PathLike[str]",
    batches: Iterable[Float[Tensor, "batch color height width"]],
    *,
    overwrite: bool = False,
) -> None:
    """Write a copy of an exported model whose convolutions compute in int8, scaled on images that it will meet.

    Gates, fusion and heads stay in float32: they cost little, and the maps still average to the logits. Weights have
    one scale a channel, activations range from the least to the greatest value met.

    Args:
        file: What :func:`export_onnx` wrote.
        quantized: Where to write.
        batches: Images as the model takes them, a few hundred from the training part, in batches.
        overwrite: Whether a file that is there already is replaced.

    Raises:
        ValueError: The file is not one of :func:`export_onnx`, or there are no images.
        FileExistsError: ``quantized`` is there already.
        ImportError: The extra ``export`` is not installed.
    """
    quantized = _free(Path(quantized), "quantize_onnx", overwrite)
    metadata = read_onnx_metadata(file)
    with needed_by("quantize_onnx", extra="export"):
        import onnx  # noqa: PLC0415
        from onnxruntime import quantization  # noqa: PLC0415
        from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415
    feeds = ({"images": images.numpy()} for images in batches)
    if (first := next(feeds, None)) is None:
        raise ValueError("quantize_onnx: needs at least one batch of images, got none.")
    reader: Any = _Reader(chain([first], feeds))
    with tempfile.TemporaryDirectory() as folder:
        simplified, result = Path(folder, "simplified.onnx"), Path(folder, "quantized.onnx")
        quant_pre_process(str(file), str(simplified), skip_symbolic_shape=True)  # folds the batch norms
        quantization.quantize_static(
            str(simplified),
            str(result),
            reader,
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,  # signed ones leave most convolutions in float32
        )
        _write(onnx.load(result), quantized, metadata)


def read_onnx_metadata(file: "str | os.PathLike[str]") -> dict[str, Any]:
    """Read what a file of :func:`export_onnx` says about its model.

    Without torch and onnx the same is
    ``json.loads(InferenceSession(file).get_modelmeta().custom_metadata_map["mtattn"])``.

    Returns:
        ``groups`` (the attributes of each group, in the order of the outputs), ``image`` (``size``, ``mean``, ``std``
        and, unless it is the whole image, ``crop``, see :func:`mtattn.data.image_transform`), ``mtattn_version`` and,
        with maps, ``map_centres`` (``rows`` and ``columns``, where the cells of a map look in such an image, see
        :func:`mtattn.models.map_centres`).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not an ONNX file, or not one of :func:`export_onnx`.
        ImportError: The extra ``export`` is not installed.
    """
    with needed_by("read_onnx_metadata", extra="export"):
        import onnx  # noqa: PLC0415
    if not Path(file).is_file():
        raise FileNotFoundError(f"read_onnx_metadata: no file {Path(file).absolute()}.")
    try:
        properties = onnx.load(str(file), load_external_data=False).metadata_props
    except Exception as error:  # protobuf's own, which is no ValueError
        raise ValueError(f"read_onnx_metadata: {file} is damaged or no ONNX file.") from error
    for entry in properties:
        if entry.key == METADATA_KEY:
            metadata: dict[str, Any] = json.loads(entry.value)
            return metadata
    raise ValueError(f"read_onnx_metadata: {file} was not written by mtattn; write it with export_onnx.")


def _trace(model: FARAMTN, image: dict[str, Any], maps: bool, dynamic_size: bool) -> Any:
    height, width = image["size"]
    if dynamic_size:  # another size than its own, so that a trunk which takes only that is found out
        height, width = height + 32, width + 64
    images = torch.zeros(2, len(image["mean"]), height, width)  # two: a batch of one would be taken for a constant
    open_axes = {0: Dim("batch"), **({2: Dim("height"), 3: Dim("width")} if dynamic_size else {})}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's about its own insides
        program = torch.onnx.export(
            _Outputs(copy.deepcopy(model).cpu().float(), maps=maps).eval(),
            (images,),
            dynamic_shapes=(open_axes,),
            input_names=["images"],
            output_names=["logits", "maps"] if maps else ["logits"],
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


class _Reader:
    """Hand out batches as onnxruntime's quantization asks for them."""

    def __init__(self, feeds: Iterator[dict[str, Any]]) -> None:
        self.feeds = feeds

    def get_next(self) -> dict[str, Any] | None:
        return next(self.feeds, None)


class _Outputs(nn.Module):
    """Compute both outputs; what they have in common is merged in the exported graph."""

    def __init__(self, model: FARAMTN, *, maps: bool) -> None:
        super().__init__()
        self.model, self.maps = model, maps

    def forward(self, images: Float[Tensor, "batch color height width"]) -> tuple[Tensor, ...]:
        logits = self.model(images)
        return (logits, self.model.attribute_maps(images)) if self.maps else (logits,)


def _metadata(model: FARAMTN, maps: bool) -> dict[str, Any]:
    image = model.config.get("image", {})
    if missing := [key for key in ("size", "mean", "std") if key not in image]:
        raise ValueError(
            f"export_onnx: model.config['image'] says which images the model takes, by size, mean and std, "
            f"got no {', '.join(missing)}; set it, for example to dict(size=[64, 64], mean=[0.5] * 3, std=[0.5] * 3)."
        )
    groups = {group: list(attributes) for group, attributes in model.groups.items()}
    centres = {"map_centres": map_centres(model)._asdict()} if maps else {}
    return {"mtattn_version": installed_version(), "groups": groups, "image": image, **centres}


def _free(file: Path, owner: str, overwrite: bool) -> Path:
    if file.exists() and not overwrite:
        raise FileExistsError(f"{owner}: {file} exists already; move it away, or pass overwrite=True.")
    return file


def _write(proto: Any, file: Path, metadata: dict[str, Any]) -> None:
    """Write a model with its metadata so that the file holds either what it held before or all of it."""
    del proto.metadata_props[:]
    proto.metadata_props.add(key=METADATA_KEY, value=json.dumps(metadata))
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(proto.SerializeToString())
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


def _first_line(error: Exception) -> str:
    return next(iter(str(error.__cause__ or error).strip().splitlines()), type(error).__name__)
