"""What the modules refuse: sizes and features, each with who refuses, the rule, what came and the way out."""

from collections.abc import Mapping
from numbers import Integral
from typing import Any

from torch import Tensor


def check_positive(owner: str, **sizes: int) -> None:
    """Refuse a size that is no whole number, or below 1; numpy's whole numbers are as good as Python's."""
    for name, size in sizes.items():
        if not isinstance(size, Integral) or isinstance(size, bool):
            way_out = f"; pass len(...), {len(size)}" if isinstance(size, Mapping | list | tuple) else ""
            raise TypeError(f"{owner}: {name} is a whole number, got a {type(size).__name__}, {size!r}{way_out}.")
        if size < 1:
            raise ValueError(f"{owner}: {name} must be at least 1, got {size}.")


def check_divides(owner: str, *, divisor: str, value: int, **size: int) -> None:
    """Refuse a divisor that leaves a rest."""
    ((name, number),) = size.items()
    if number % value:
        raise ValueError(f"{owner}: {divisor} must divide {name}, got {name}={number} and {divisor}={value}.")


def check_size(owner: str, what: str, *, expected: int, got: int) -> None:
    """Refuse an input of another size."""
    if got != expected:
        raise ValueError(f"{owner}: expects {expected} {what}, got {got}.")


def check_axes(owner: str, features: Tensor, *names: str) -> None:
    """Refuse an input that lacks axes; it may have more, its spatial ones."""
    if features.ndim < len(names):
        shape = tuple(features.shape)
        raise ValueError(f"{owner}: expects the axes {', '.join(names)} and any spatial ones, got {shape}.")


def check_features(owner: str, features: Any, channels: int, what: str = "channels") -> None:
    """Refuse what is not a tensor (batch, channels, any spatial axes), and say what it looks like and the way out.

    Args:
        owner: Who complains.
        features: What a trunk, or a module of the user's, returned.
        channels: How many channels it has to have.
        what: What these channels are.

    Example:
        >>> check_features("WSGSA", torch.rand(2, 7, 7, 768), 768)
        Traceback (most recent call last):
        ValueError: WSGSA: expects 768 channels, got 7 in (2, 7, 7, 768): channels come last, pass x.movedim(-1, 1).
    """
    if not isinstance(features, Tensor):
        raise TypeError(
            f"{owner}: expects a tensor (batch, {channels} {what}, any spatial axes), got {_looks(features)}."
        )
    check_axes(owner, features, "batch", "channel")
    if features.shape[1] == channels:
        return
    shape, hint = tuple(features.shape), ""
    if features.ndim == 3 and shape[-1] == channels:
        hint = (
            ": these are tokens, pass x.movedim(-1, 1), or the map that they make: "
            "x[:, num_prefix_tokens:].movedim(-1, 1).unflatten(-1, (height, width))"
        )
    elif features.ndim > 3 and shape[-1] == channels:
        hint = ": channels come last, pass x.movedim(-1, 1)"
    raise ValueError(f"{owner}: expects {channels} {what}, got {shape[1]} in {shape}{hint}.")


def _looks(features: Any) -> str:
    kind = type(features).__name__
    if isinstance(features, Mapping):  # of one's own, and the ModelOutput of transformers
        (name, *_) = [*features, "name"]
        return f"a {kind} with {', '.join(map(str, features)) or 'nothing'}; pass one of its tensors, say x[{name!r}]"
    if isinstance(features, list | tuple):
        return f"a {kind} of {len(features)}; pass one of its tensors, say x[-1]"
    return f"a {kind}"
