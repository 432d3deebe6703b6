"""What the modules refuse: sizes, probabilities and features, with rule, what came and the way out."""

from collections.abc import Iterable, Mapping
from numbers import Real
from operator import index
from typing import Any

from torch import Tensor


def check_positive(owner: str, **sizes: Any) -> tuple[int, ...]:
    """Refuse what is no whole number of at least 1; returns plain ints, so that numpy's do not reach a config."""
    return tuple(_whole(owner, name, size) for name, size in sizes.items())


def check_probability(owner: str, **probabilities: Any) -> None:
    """Refuse what is no probability below 1, of dropping something."""
    for name, probability in probabilities.items():
        if isinstance(probability, bool) or not isinstance(probability, Real) or not 0 <= float(probability) < 1:
            raise ValueError(f"{owner}: {name} is a probability in [0, 1), got {probability}.")


def check_divides(owner: str, *, divisor: str, value: int, **size: int) -> None:
    """Refuse a divisor that leaves a rest."""
    ((name, number),) = size.items()
    if number % value:
        raise ValueError(f"{owner}: {divisor} must divide {name}, got {name}={number} and {divisor}={value}.")


def check_features(owner: str, x: object, *axes: str, **sizes: int) -> None:
    """Refuse what is not a tensor with these axes, spatial ones after them or none, and these sizes of named axes.

    The last of ``axes`` is the channel's. What users pass in place of it is known: channels last, no batch axis, no
    group axis, the dict or tuple of another library's model. The error says which it is and how to get out of it.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{owner}: expects a tensor ({', '.join(axes)}, ...), got {_described(x, axes, sizes)}.")
    if x.ndim < len(axes):
        raise ValueError(
            f"{owner}: expects the axes {', '.join(axes)} and any spatial ones, got {tuple(x.shape)}"
            f"{_way_out(x, axes, sizes)}."
        )
    for axis, expected in sizes.items():
        got = x.shape[axes.index(axis)]
        if got != expected:
            way_out = _way_out(x, axes, sizes) or f"; the module was built for {expected}"
            raise ValueError(f"{owner}: expects {expected} {axis}s, got {got} in {tuple(x.shape)}{way_out}.")


def _whole(owner: str, name: str, size: object) -> int:
    try:
        number = index(size)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    except TypeError:
        number = None
    if number is None or isinstance(size, bool):
        given = repr(size) if isinstance(size, (bool, str, float)) or size is None else _kind(size)
        way_out = f"; pass len() of it or its {name}" if isinstance(size, (Mapping, list, tuple)) else ""
        raise TypeError(f"{owner}: {name} is a whole number, got {given}{way_out}.")
    if number < 1:
        raise ValueError(f"{owner}: {name} must be at least 1, got {number}.")
    return number


def _kind(x: object) -> str:
    name = type(x).__name__
    return f"{'an' if name[0].lower() in 'aeiou' or name == 'ndarray' else 'a'} {name}"


def _way_out(x: Tensor, axes: tuple[str, ...], sizes: Mapping[str, int]) -> str:
    """What is likely wrong with a tensor, and the line that corrects it; empty where nothing is likely."""
    channel, channels = len(axes) - 1, sizes.get(axes[-1])
    if x.ndim > len(axes) and x.shape[-1] == channels:
        tokens = ", or the map that these tokens make: x.movedim(-1, 1).unflatten(-1, (height, width))"
        return f"; its channels come last: pass x.movedim(-1, {channel}){tokens * (x.ndim == 3)}"
    if x.ndim >= channel and x.shape[channel - 1] == channels:
        missing = axes[channel - 1]
        line = "x[None]" if missing == "batch" else "what WSGSA gives, or x[:, None] for one group"
        return f"; it has no {missing} axis: pass {line}"
    return ""


def _described(x: object, axes: tuple[str, ...], sizes: Mapping[str, int]) -> str:
    """Another object than a tensor in words, and which of its tensors to pass."""
    items: Iterable[tuple[str, object]] = ()
    if isinstance(x, Mapping):
        items = ((f"x[{key!r}]", value) for key, value in x.items())
    elif isinstance(x, (list, tuple)):
        items = ((f"x[{position}]", value) for position, value in enumerate(x))
    tensors = {name: value for name, value in items if isinstance(value, Tensor)}
    if not tensors:
        hint = "; pass torch.as_tensor(x)" if hasattr(x, "__array__") else ""
        return f"{_kind(x)}{hint}"
    endings = {name: _ending(tensor, axes, sizes) for name, tensor in tensors.items()}
    fitting = [name for name, ending in endings.items() if ending is not None] or list(tensors)
    shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
    return f"{_kind(x)} with {shapes}; pass one of them, such as {fitting[-1]}{endings[fitting[-1]] or ''}"


def _ending(x: Tensor, axes: tuple[str, ...], sizes: Mapping[str, int]) -> str | None:
    """What makes a tensor fit: nothing, or channels moved; None where it does not fit."""
    channel, channels = len(axes) - 1, sizes.get(axes[-1])
    if x.ndim > channel and x.shape[channel] == channels:
        return ""
    return f".movedim(-1, {channel})" if x.ndim > len(axes) and x.shape[-1] == channels else None
