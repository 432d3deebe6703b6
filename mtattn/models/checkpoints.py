"""A backbone's checkpoint: read without unpickling anything but tensors, and matched by name before by order."""

import re
import warnings
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

_AVERAGED = re.compile(r"(^|[._])ema([._]|$)", re.IGNORECASE)


class CutBackbone(nn.Module):
    """The two parts of a backbone under the names that they have in a FARAMTN, to be loaded from a saved one.

    Args:
        trunk: The trunk.
        shared: The shared module that was cut from the backbone; None where it is the user's own.
    """

    pretrained_cfg: ClassVar = {"classifier": ("wsgsa", "projection", "cgff", "heads")}

    def __init__(self, trunk: nn.Module, shared: nn.Module | None) -> None:
        super().__init__()
        self.trunk, self.wsgsa = trunk, nn.ModuleDict({} if shared is None else {"shared": shared})


def is_our_own(file: Path) -> bool:
    """Tell whether a file holds the weights of a saved FARAMTN."""
    return file.suffix == ".safetensors" and file.is_file() and "wsgsa.down_weight" in _read_tensors(file)


def load_backbone_weights(model: nn.Module, file: Path) -> None:
    """Load a checkpoint into a timm model, or into the parts of one, by the names of its tensors or by their order.

    The names may have anything before them: a wrapper's ``module.``, ``state_dict.``, ``model.`` or ``backbone.``, and
    the file may hold other things beside the backbone, such as an optimizer. Of a model and its averaged copy (EMA) the
    copy is taken, as timm does. The classifier's tensors may be missing or too many. Where no names agree, the order of
    the tensors decides, with a warning.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no checkpoint, it holds the backbone more than once, or its tensors fit neither by name
            nor by order.
    """
    found = _read_tensors(file)
    wanted = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    owner = f"from_timm: {file} does not fit {type(model).__name__}:"
    prefix = _prefix(file, wanted, found)
    if prefix is None:
        found, left = _in_order(owner, wanted, found, keeps_order=file.suffix != ".safetensors")
    else:
        found = {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}
        left = [name for name in found if name not in wanted and not name.startswith(_classifiers(model))]
    for name, tensor in wanted.items():
        if name not in found or found[name].shape != tensor.shape:
            came = tuple(found[name].shape) if name in found else "nothing"
            raise ValueError(
                f"{owner} {name} has shape {tuple(tensor.shape)}, the file has {came} in its place"
                f"{f' under {prefix!r}' if prefix else ''}."
            )
        if name.endswith("running_var") and (found[name] < 0).any():
            raise ValueError(f"{owner} {name} is a variance, the file has negative numbers in its place.")
    if left:
        raise ValueError(f"{owner} it has {left[0]} and more that the model lacks.")
    if prefix is None:
        warnings.warn(
            "from_timm: the names in the checkpoint differ from the model's, so its tensors were taken by their order. "
            "Order cannot tell padding, strides or the eps of a norm: compare features before you trust them.",
            stacklevel=4,
        )
    model.load_state_dict({name: found[name] for name in wanted}, strict=False)


def _prefix(file: Path, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    """Find what the file puts before the names of the model; None where no such name is in it.

    Raises:
        ValueError: The model stands there more than once.
    """
    before = {name.removesuffix(end) for end in wanted for name in found if f".{name}".endswith(f".{end}")}
    hits = {prefix: sum(prefix + name in found for name in wanted) for prefix in before}
    most = max(hits.values(), default=0)
    if 2 * most < len(wanted):  # a name or two agree by accident
        return None
    best = [prefix for prefix in hits if hits[prefix] == most]
    averaged = [prefix for prefix in best if _AVERAGED.search(prefix)]
    if "" in best:
        return ""
    best = averaged if len(averaged) == 1 else best
    if len(best) > 1:
        raise ValueError(
            f"from_timm: {file} holds the backbone {len(best)} times, under {' and '.join(map(repr, sorted(best)))}; "
            f"save the one that you mean."
        )
    return best[0]


def _in_order(
    owner: str, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], *, keeps_order: bool
) -> tuple[dict[str, Tensor], list[str]]:
    """Give the tensors of another program's file the names of the model: the same network keeps its order.

    Raises:
        ValueError: The tensors have other roles, or the file does not keep their order.
    """
    for wrapper in ("state_dict.", "model."):
        within = {name: tensor for name, tensor in found.items() if name.startswith(wrapper)}
        found = within or found
    names = list(found)
    if names and not keeps_order:
        raise ValueError(
            f"{owner} it has other names ({names[0]}, not {next(iter(wanted))}), and safetensors sorts its tensors, so "
            f"that their order tells nothing; rename them, or give the .pth they come from."
        )
    pairs = [(name, theirs) for name, theirs in zip(wanted, names, strict=False)]
    for (before, their_before), (name, theirs) in pairwise([("", ""), *pairs]):
        same_role = _role(name) == _role(theirs)
        same_module = (_module(name) == _module(before)) == (_module(theirs) == _module(their_before))
        if wanted[name].shape == found[theirs].shape and not (same_role and same_module):
            raise ValueError(
                f"{owner} its names differ, and by order {theirs} would become {name}, which is something else; "
                f"rename its tensors."
            )
    left = names[len(wanted) :]
    return dict(zip(wanted, found.values(), strict=False)), left if len(left) > 2 else []  # the classifier's


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _role(name: str) -> str:
    return name.rpartition(".")[2]


def _classifiers(model: Any) -> tuple[str, ...]:
    names = getattr(model, "pretrained_cfg", {}).get("classifier") or ()
    return tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))


def _read_tensors(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise FileNotFoundError(f"from_timm: no checkpoint at {file.resolve()}.")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file  # noqa: PLC0415

            content: Any = load_file(file)
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"from_timm: {file} is not a checkpoint that can be read without unpickling: {error}"
        ) from error
    if not isinstance(content, Mapping):
        raise ValueError(f"from_timm: {file} is not a checkpoint: needs tensors by name, got {type(content).__name__}.")
    return {name: tensor for name, tensor in _flat(content) if not name.endswith("num_batches_tracked")}


def _flat(content: Mapping[Any, Any], before: str = "") -> Iterator[tuple[str, Tensor]]:
    for key, value in content.items():
        if isinstance(value, Tensor):
            yield f"{before}{key}", value
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
