"""State that no change of precision or of device spoils, and that belongs to its groups."""

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn

from mtattn.groups import AttributeGroups


class Float32State(nn.Module):
    """A module whose state stays in float32 wherever it moves: ``.half()`` must not round a history."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        before = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in before.items():
            moved = self._buffers[name]
            if buffer is not None and moved is not None and moved.dtype != buffer.dtype:
                self._buffers[name] = buffer.to(moved.device)
        return self


class Constants(nn.Module):
    """A module with buffers that follow from its constructor's arguments and so stand in no state dict.

    They are right wherever the module goes: also after ``to_empty``, which fills memory with nothing, and after loading
    with ``assign=True`` into a module on the meta device, which moves what the state dict names and nothing else.
    """

    def __init__(self) -> None:
        super().__init__()
        self._constants: dict[str, Tensor] = {}
        self.register_load_state_dict_post_hook(_restore_constants)  # type: ignore[no-untyped-call]

    def register_constant(
        self, name: str, values: Sequence[Any], *, dtype: torch.dtype, device: torch.device | str | None
    ) -> None:
        """Add a buffer with these values."""
        self._constants[name] = torch.tensor(values, dtype=dtype, device="cpu")  # also under torch.device("meta")
        self.register_buffer(name, torch.tensor(values, dtype=dtype, device=device), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        _restore_constants(self)
        return self


class StateOfGroups(Constants):
    """A module that refuses the state of other groups, also where all sizes agree.

    A state dict tells the groups in its metadata, where torch keeps the versions of modules: the keys stay as they are.
    What comes without, as from safetensors or an earlier version, is loaded as before.
    """

    groups: AttributeGroups

    def __init__(self) -> None:
        super().__init__()
        self.register_state_dict_post_hook(_tell_groups)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_compare_groups)  # type: ignore[no-untyped-call]


def _tell_groups(module: StateOfGroups, _state: object, _prefix: str, metadata: dict[str, Any]) -> None:
    metadata["groups"] = _members(module.groups)


def _compare_groups(
    module: StateOfGroups, _state: object, _prefix: str, metadata: dict[str, Any], *others: Any
) -> None:
    told, own = metadata.get("groups"), _members(module.groups)
    if told is not None and told != own:
        *_, errors = others
        got, expected = next(pair for pair in zip_longest(told, own, fillvalue="no more") if len(set(pair)) == 2)
        errors.append(
            f"{type(module).__name__}: takes the state of its own groups, got {got} in place of {expected}; load it "
            f"into a module of those groups, or pass dict(state) where only names differ."
        )


def _members(groups: AttributeGroups) -> list[str]:
    return [f"{member!r} in {name!r}" for name, members in groups.to_plain().items() for member in members]


def _restore_constants(module: nn.Module, _keys: object = None) -> None:
    assert isinstance(module, Constants)
    loaded = [tensor.device for tensor in (*module.parameters(), *module.buffers()) if not tensor.is_meta]
    for name, constant in module._constants.items():
        device = module.get_buffer(name).device
        # a copy, so that what is written into the buffer does not spoil the constant
        setattr(module, name, constant.to(loaded[0] if loaded and device.type == "meta" else device, copy=True))
