"""Less memory for more time: blocks that keep only their input and compute the rest again in the backward pass."""

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def set_grad_checkpointing(trunk: nn.Module, enable: bool = True) -> None:
    """Have a trunk's blocks computed twice in training, so that only what goes in between them is kept.

    Gradients and batch norm statistics stay exactly the same. A block is a module with modules of its own inside an
    ``nn.Sequential``: a residual block of a ResNet, a stage of a ConvNeXt, a layer of a ViT. A trunk without such
    blocks is one itself.

    Args:
        trunk: The module, say ``model.trunk`` of a :class:`~mtattn.FARAMTN`. It is changed in place.
        enable: False: keep everything again.

    Example:
        >>> trunk = nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), nn.Conv2d(8, 8, 3))
        >>> set_grad_checkpointing(trunk)
        >>> trunk(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 8, 4, 4])
    """
    for block in list(_blocks(trunk)) or [trunk]:
        block.__dict__.pop("forward", None)
        if enable:
            block.__dict__["forward"] = _Recomputed(block)


class _Recomputed:
    """A block's forward; an object and not a closure, so that a copied or unpickled model calls its own blocks."""

    def __init__(self, block: nn.Module) -> None:
        self.block = block

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        forward = type(self.block).forward
        if not (self.block.training and torch.is_grad_enabled()):
            return forward(self.block, *inputs, **options)
        if not torch.compiler.is_compiling():  # a compiled program updates no statistics twice, and takes no contexts
            options["context_fn"] = partial(_contexts, self.block)
        return checkpoint(forward, self.block, *inputs, use_reentrant=False, **options)


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _statistics_untouched(block)


@contextmanager
def _statistics_untouched(block: nn.Module) -> Generator[None, None, None]:
    norms = (module for module in block.modules() if getattr(module, "track_running_stats", False))
    buffers = [buffer for norm in norms for buffer in norm.buffers(recurse=False)]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    in_sequence = isinstance(module, nn.Sequential)
    for child in module.children():
        is_composite = any(True for _ in child.children())
        if in_sequence and is_composite and not isinstance(child, nn.Sequential):
            yield child
        else:
            yield from _blocks(child)
