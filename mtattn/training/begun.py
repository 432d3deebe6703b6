"""How a run was begun: what stands in each of its checkpoints, so that another run is not taken for the same."""

import copy
import json
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mtattn.losses import DWSLoss
from mtattn.training.checks import Options

Settings = dict[str, Any]


def how_begun(options: Options, model: nn.Module, loss: DWSLoss, optimizer: Optimizer, **counts: Any) -> Settings:
    """Collect what makes a run the run that it is, as it comes back from JSON."""
    weighting = loss.weighting
    settings = {
        "groups": list(loss.groups.to_plain().items()),
        **asdict(options),
        **counts,
        "model": _size(model),
        "rule": _name(weighting.rule),
        "alpha": weighting.alpha,
        "loss_seed": weighting.seed,
        "pos_weight": _listed(loss.pos_weight),
        "class_weight": _listed(loss.class_weight),
        "optimizer": type(optimizer).__name__,
        "parameter_groups": [  # with the rates that they had before a schedule
            {name: value for name, value in group.items() if name not in ("params", "initial_lr")}
            | {
                "lr": group.get("initial_lr", group["lr"]),
                "num_parameters": len(group["params"]),
            }
            for group in optimizer.param_groups
        ],
    }
    as_read: Settings = json.loads(json.dumps(settings, default=_plain))
    return as_read


def num_images(data: Any) -> int:
    """Count images, also those that were left out because they cannot be read: those may change on the way."""
    return len(data) + len(getattr(data, "skipped", ()))


def check_same_run(place: str, before: Any, now: Any) -> None:
    """Refuse to go on with a run that was begun in another way; what only one of the two tells is left out.

    Raises:
        ValueError: Something differs.

    Example:
        >>> check_same_run("runs/a", {"epochs": 3, "groups": [["hair", ["Bald"]]]}, {"epochs": 6})
        Traceback (most recent call last):
        ValueError: fit: the run in runs/a was begun with epochs=3, got 6; a run resumes with what it was begun with...
    """
    difference = _first_difference("", before, now)
    if difference is not None:
        name, was, got = difference
        raise ValueError(
            f"fit: the run in {place} was begun with {name}={was}, got {got}; a run resumes with what it was begun "
            f"with, anything else is a new run in another output."
        )


def check_new(loss: DWSLoss, optimizer: Optimizer) -> None:
    """Refuse a loss or an optimizer that another run has left its traces in.

    Raises:
        ValueError: It remembers losses or steps.
    """
    new = copy.deepcopy(loss.weighting)
    new.reset()
    states = zip(loss.weighting.state_dict().values(), new.state_dict().values(), strict=True)
    if not all(torch.allclose(now, fresh, rtol=0, atol=0, equal_nan=True) for now, fresh in states):
        raise ValueError(
            "fit: a new run begins with equal weights and without the losses of another, got a loss that has seen "
            "some; make a new one for each run, or call loss.weighting.reset()."
        )
    if optimizer.state:
        raise ValueError(
            f"fit: a new run begins with a new optimizer, got one that has made steps already; "
            f"make a new {type(optimizer).__name__} for each run."
        )


def _name(rule: Any) -> str:
    """Name a rule so that it has the same name in the next process: no address."""
    if isinstance(rule, str):
        return rule
    return str(getattr(rule, "__qualname__", type(rule).__qualname__))


def _listed(weights: Tensor | None) -> Any:
    return None if weights is None else weights.tolist()


def _size(model: nn.Module) -> str:
    sizes = [tensor.numel() for tensor in model.state_dict().values()]
    return f"{type(model).__name__} of {sum(sizes)} numbers in {len(sizes)} tensors"


def _first_difference(name: str, before: Any, now: Any) -> tuple[str, Any, Any] | None:
    if isinstance(before, dict) and isinstance(now, dict):
        pairs = [(f"{name}.{key}" if name else key, before[key], now[key]) for key in before if key in now]
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = [(f"{name}[{place}]", *both) for place, both in enumerate(zip(before, now, strict=True))]
    else:
        return None if before == now else (name, before, now)
    return next(filter(None, (_first_difference(*pair) for pair in pairs)), None)


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
