"""Training and evaluation modes that are restored."""

from collections.abc import Generator
from contextlib import contextmanager

from torch import nn


@contextmanager
def modes_kept(*modules: nn.Module) -> Generator[None]:
    """Give each part of modules its mode back, training or evaluation, also after an error."""
    modes = [(part, part.training) for module in modules for part in module.modules()]  # parts may be frozen
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@contextmanager
def evaluating(module: nn.Module) -> Generator[None]:
    """Put every part of a module in evaluation mode, and give each its mode back."""
    with modes_kept(module):
        module.eval()
        yield
