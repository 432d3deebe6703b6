"""An exported model with convolutions in int8."""

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mtattn._extras import needed_by
from mtattn.export.metadata import free_file, read_onnx_metadata, write_onnx

_BATCH_SIZE = 32


def quantize_onnx(
    file: "str | os.PathLike[str]",
    quantized: "str | os.PathLike[str]",
    batches: "Iterable[Any] | Float[Tensor, 'batch color height width']",
    *,
    overwrite: bool = False,
) -> None:
    """Write a copy of an exported model whose convolutions compute in int8, scaled on images that it will meet.

    Gates, fusion and heads stay in float32: they cost little, and the maps still average to the logits. Weights have
    one scale a channel, activations range from the least to the greatest value met.

    Args:
        file: What :func:`export_onnx` wrote.
        quantized: Where to write.
        batches: Images as the model takes them, a few hundred from the training part: a loader, whose batches may have
            targets behind the images, any other iterable of batches, or all images in one tensor or array.
        overwrite: Whether a file that is there already is replaced.

    Raises:
        ValueError: The file is not one of :func:`export_onnx`, there are no images, or they are not such as the model
            takes.
        TypeError: A batch is something else.
        FileExistsError: ``quantized`` is there already.
        ImportError: The extra ``export`` is not installed.
    """
    quantized = free_file(quantized, "quantize_onnx", overwrite)
    metadata = read_onnx_metadata(file)
    with needed_by("quantize_onnx", extra="export"):
        import onnx  # noqa: PLC0415
        from onnxruntime import quantization  # noqa: PLC0415
        from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415
    model = onnx.load(str(file), load_external_data=False)
    sizes = [axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim]  # 0 where it is open
    feeds = ({"images": _as_images(batch, sizes)} for batch in _split(batches))
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
        write_onnx(onnx.load(result), quantized, metadata, model.doc_string)


class _Reader:
    """Hand out batches as onnxruntime's quantization asks for them."""

    def __init__(self, feeds: Iterator[dict[str, Any]]) -> None:
        self.feeds = feeds

    def get_next(self) -> dict[str, Any] | None:
        return next(self.feeds, None)


def _split(batches: Any) -> Iterable[Any]:
    if isinstance(batches, Tensor | np.ndarray) and batches.ndim == 4:  # all images at once
        return (batches[start : start + _BATCH_SIZE] for start in range(0, len(batches), _BATCH_SIZE))
    if isinstance(batches, str | Mapping) or not isinstance(batches, Iterable):
        raise TypeError(f"quantize_onnx: batches is a loader or a tensor of images, got a {type(batches).__name__}.")
    return batches


def _as_images(batch: Any, sizes: Sequence[int]) -> Float[np.ndarray, "batch color height width"]:
    images = batch[0] if isinstance(batch, list | tuple) and batch else batch  # targets stand behind
    if not isinstance(images, Tensor | np.ndarray):
        raise TypeError(
            f"quantize_onnx: a batch is a tensor or array of images, or a pair that begins with one, "
            f"got a {type(images).__name__}; take the images out of it."
        )
    tensor = torch.as_tensor(images)
    if not tensor.is_floating_point():
        raise TypeError(
            f"quantize_onnx: images are normalised floats, as mtattn.data.image_transform makes them, "
            f"got {tensor.dtype}; transform them first."
        )
    fits = tensor.ndim == 4 and all(size in {0, there} for size, there in zip(sizes[1:], tensor.shape[1:], strict=True))
    if not fits or not tensor.numel():
        expected = ", ".join(str(size or "any") for size in sizes)
        raise ValueError(f"quantize_onnx: a batch of images is ({expected}) here, got {tuple(tensor.shape)}.")
    array: Float[np.ndarray, "batch color height width"] = tensor.detach().cpu().float().numpy()
    return array
