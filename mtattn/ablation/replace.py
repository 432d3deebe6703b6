"""ablated: replace what one part of a model computes, for a while."""

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mtattn.modules import CGFF, WSGSA

_COMPUTED_BY: dict[str, tuple[type[nn.Module], str]] = {
    "gates": (WSGSA, "_gates"),
    "positions": (WSGSA, "_positions"),
    "affinity": (CGFF, "_affinity"),
    "exchange": (CGFF, "_heard"),
}


@contextmanager
def ablated(model: nn.Module, part: str, replace: Callable[[Tensor], Tensor]) -> Generator[None]:
    r"""Replace what one part computes in every WSGSA or CGFF of a model, for as long as the context lasts.

    Everything that follows is computed from the replacement, so attribute maps still average to the outputs.

    Args:
        model: Any model that contains :class:`~mtattn.WSGSA` or :class:`~mtattn.CGFF`.
        part: "gates" (batch, group, channel) or "positions" (batch, group x query, \*space) of WSGSA, "affinity"
            (batch, head, group, group) of CGFF, or "exchange" (batch, group, channel, \*space), what CGFF adds.
        replace: From what the part computes to a tensor of the same shape.

    Raises:
        ValueError: There is no such part, or the model has no module that computes it.

    Example:
        >>> groups = AttributeGroups({"eyes": ["Eyeglasses"], "mouth": ["Smiling"]})
        >>> model = FARAMTN(nn.Conv2d(3, 32, 8, stride=8), 32, groups)
        >>> with ablated(model, "gates", lambda gates: gates.mean(1, keepdim=True).expand_as(gates)):
        ...     gates = model.wsgsa.gates(torch.rand(2, 32, 4, 4))
        >>> torch.equal(gates[:, 0], gates[:, 1])
        True
    """
    if part not in _COMPUTED_BY:
        raise ValueError(f"ablated: no part {part!r}; there are {', '.join(_COMPUTED_BY)}.")
    if not computing(model, part):
        kind, _ = _COMPUTED_BY[part]
        raise ValueError(f"ablated: {kind.__name__} computes {part}, and {type(model).__name__} contains none.")
    with ablated_each(model, part, lambda _, values, *__: replace(values)):
        yield


def computing(model: nn.Module, part: str) -> list[nn.Module]:
    """List the modules of a model that compute a part."""
    kind, _ = _COMPUTED_BY[part]
    return [module for module in model.modules() if isinstance(module, kind)]


@contextmanager
def ablated_each(model: nn.Module, part: str, replace: Callable[..., Tensor]) -> Generator[None]:
    """Replace what each module computes by a function of the module, of what it computes, and of its inputs."""
    _, method = _COMPUTED_BY[part]
    with ExitStack() as stack:
        for module in computing(model, part):
            before = module.__dict__.get(method)  # an ablation around this one
            module.__dict__[method] = _Replaced(module, getattr(module, method), replace)
            stack.callback(restore, module, method, before)
        yield


class _Replaced:
    def __init__(
        self, module: nn.Module, compute: Callable[..., Tensor | None], replace: Callable[..., Tensor]
    ) -> None:
        self.module, self.compute, self.replace = module, compute, replace

    def __call__(self, *inputs: Any) -> Tensor | None:
        values = self.compute(*inputs)
        return None if values is None else self.replace(self.module, values, *inputs)  # None: no positions are weighed


def heard_from(cgff: CGFF, x: Tensor, speaker: int) -> Tensor:
    """Compute what each group hears from one group: its part of the sum that CGFF adds."""
    affinity = type(cgff)._affinity(cgff, x)
    from_speaker = torch.zeros_like(affinity)
    from_speaker[..., speaker] = affinity[..., speaker]
    before = cgff.__dict__.get("_affinity")
    cgff.__dict__["_affinity"] = lambda _: from_speaker
    try:
        return type(cgff)._heard(cgff, x)
    finally:
        restore(cgff, "_affinity", before)


def restore(module: nn.Module, method: str, before: Any) -> None:
    """Give a module the method back that it had before; None is its class's."""
    if before is None:
        del module.__dict__[method]
    else:
        module.__dict__[method] = before
