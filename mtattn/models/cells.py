"""Where in the picture the cells of attribute maps look: at the middle of what their convolutions read."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mtattn._modes import evaluating
from mtattn._rules import is_centres
from mtattn.functional import Centres, square_centres


def map_centres(model: Any, size: Sequence[int] | None = None) -> Centres:
    """Find where in the picture the cells of ``model.attribute_maps`` look.

    A cell does not look at the rectangle that is its share of the picture: a convolution with stride 2 and padding 1
    reads around the first of the two pixels that it brings together, so a cell behind five of them looks half a cell
    up and left. One forward pass adds this up from kernels, strides and paddings; weights and pixels do not matter.
    All other operations (patches put together, attention) count as looking at the middle of what they bring together.

    What was found for the size that the model was made for is kept in ``model.config["map_centres"]``, is saved with
    the model, and is read from there.

    Args:
        model: A FARAMTN, in any mode.
        size: Height and width of the images; None means those of ``model.config["image"]``.

    Raises:
        ValueError: No size is given and the config has none.

    Example:
        >>> from mtattn import FARAMTN, AttributeGroups
        >>> trunk = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        >>> map_centres(FARAMTN(trunk, 16, AttributeGroups({"mouth": ["Smiling"]})), (4, 8))
        Centres(rows=[0.125, 0.625], columns=[0.0625, 0.3125, 0.5625, 0.8125])
    """
    own = model.config.get("image", {}).get("size")
    if size is None and own is None:
        raise ValueError(
            "map_centres: size is that of the images, got None and no size in model.config['image']; pass size=."
        )
    size = [int(side) for side in (own if size is None else size)]
    known = model.config.get("map_centres")
    if _is_sound(known) and known["size"] == size:
        return Centres(known["rows"], known["columns"])
    centres = _follow(model, size)
    if own is not None and size == list(own):
        model.config["map_centres"] = {"size": size, **centres._asdict()}
    return centres


@torch.no_grad()
def _follow(model: Any, size: list[int]) -> Centres:
    num_colors = len(model.config.get("image", {}).get("mean", range(3)))
    images: Any = next(iter(model.parameters())).new_zeros(1, num_colors, *size)
    images.axes = _Axis(size[0]), _Axis(size[1])
    with evaluating(model), torch.compiler.set_stance("force_eager"), _Following():
        maps = model.attribute_maps(images)
    cells = maps.shape[-2:]
    if not hasattr(maps, "axes"):  # behind a scripted trunk, for one
        return square_centres(*cells)
    rows, columns = (
        axis.seen_as(count).centres(side) for axis, count, side in zip(maps.axes, cells, size, strict=True)
    )
    return Centres(rows, columns)


class _Axis(NamedTuple):
    """The rows, or the columns, of a feature map.

    Attributes:
        cells: How many there are.
        step: Pixels from one to the next.
        offset: By how many pixels each looks beside the middle of its ``step`` pixels.
    """

    cells: int
    step: float = 1.0
    offset: float = 0.0

    def seen_as(self, cells: int) -> "_Axis":
        """Take in what an operation that is not followed did: it put cells together, or cut a few off."""
        ratio = self.cells / cells
        return self._replace(cells=cells, step=self.step if 2 / 3 < ratio < 3 / 2 else self.step * ratio)

    def behind(self, cells: int, kernel: int = 1, stride: int = 1, padding: float = 0) -> "_Axis":
        """Go through a convolution, a pooling or a padding."""
        beside = (kernel - stride) / 2 - padding
        return _Axis(cells, self.step * stride, self.offset + self.step * beside)

    def centres(self, length: int) -> list[float]:
        return [round((self.offset + self.step * (index + 0.5)) / length, 9) for index in range(self.cells)]


_Axes = tuple[_Axis, _Axis]


class _Following(TorchFunctionMode):
    """Let each tensor carry the axes of the feature map that it comes from."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        carried = [tensor.axes for tensor in _tensors((*args, *kwargs.values())) if hasattr(tensor, "axes")]
        axes = _joined(carried) if carried else None  # before an operation in place changes them
        result = func(*args, **kwargs)
        if axes is None:
            return result
        names = _FOLLOWED.get(getattr(func, "__name__", ""), ())
        told = dict(zip(names, args, strict=False)) | dict(kwargs)
        for tensor in _tensors([result]):
            tensor.axes = _moved(axes, told, tensor) if names else axes
        return result


def _tensors(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _joined(carried: list[_Axes]) -> _Axes:
    """Where branches meet, the finest counts; of several as fine, the middle of where they look."""
    finest = min(math.prod(axis.step for axis in axes) for axes in carried)
    equal = [axes for axes in carried if math.prod(axis.step for axis in axes) == finest]
    rows, columns = (
        same[0]._replace(offset=sum(axis.offset for axis in same) / len(same)) for same in zip(*equal, strict=True)
    )
    return rows, columns


_POOLING = ("input", "kernel_size", "stride", "padding", "dilation")
_FOLLOWED = {  # by the names of their arguments
    "conv2d": ("input", "weight", "bias", "stride", "padding", "dilation"),
    "max_pool2d": _POOLING,
    "_max_pool2d": _POOLING,
    "avg_pool2d": _POOLING[:4],
    "pad": ("input", "pad"),
}


def _moved(axes: _Axes, told: Mapping[str, Any], result: Tensor) -> _Axes:
    """Go through one of the operations that are followed."""
    before = [axis.seen_as(count) for axis, count in zip(axes, told["input"].shape[-2:], strict=True)]
    if "pad" in told:
        left, top = told["pad"][0], (*told["pad"], 0, 0)[2]
        options = [(1, 1, top), (1, 1, left)]
    else:
        options = list(zip(*_kernel(told), strict=True))
    rows, columns = (
        axis.behind(count, *each) for axis, count, each in zip(before, result.shape[-2:], options, strict=True)
    )
    return rows, columns


def _kernel(told: Mapping[str, Any]) -> tuple[list[int], list[int], list[float]]:
    """Read spans, strides and paddings, each of rows and columns; a span counts the gaps of a dilated kernel."""
    sizes = _pair(told["kernel_size"]) if "kernel_size" in told else list(told["weight"].shape[-2:])
    stride = told.get("stride") or told.get("kernel_size", 1)  # a pooling's default
    spans = [1 + (length - 1) * gap for length, gap in zip(sizes, _pair(told.get("dilation", 1)), strict=True)]
    padding = told.get("padding", 0)
    if isinstance(padding, str):
        return spans, _pair(stride), [(span - 1) / 2 if padding == "same" else 0 for span in spans]
    return spans, _pair(stride), [float(side) for side in _pair(padding)]


def _pair(value: Any) -> list[int]:
    numbers = [value] if isinstance(value, int) else list(value)
    return [numbers[0], numbers[-1]]


def _is_sound(known: Any) -> bool:
    """Whether a config's entry can be drawn with; one that cannot is found out once more."""
    return is_centres(known) and "size" in known
