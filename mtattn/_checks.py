"""What the modules refuse: sizes, each with who refuses, the rule and what came."""

from torch import Tensor


def check_positive(owner: str, **sizes: int) -> None:
    """Refuse a size below 1."""
    for name, size in sizes.items():
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
