"""Sort a model's parameters for an optimizer."""

from collections.abc import Sequence
from typing import Any

from torch import nn


def sort_parameters(
    model: nn.Module, trunk: Sequence[str], learning_rate: float, trunk_learning_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Sort the trainable parameters by learning rate and by whether they decay; biases and norms do not.

    Args:
        model: Whose parameters.
        trunk: How the names of the trunk's parameters begin.
        learning_rate: Of all other parameters.
        trunk_learning_rate: Of the trunk.
        weight_decay: Of everything but biases and norms.
    """
    rates = {"trunk": trunk_learning_rate, "new": learning_rate}
    parameters: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        part = "trunk" if name.startswith(tuple(trunk)) else "new"
        decays = parameter.ndim > 1 and not name.endswith("bias")
        if parameter.requires_grad:
            parameters.setdefault((part, decays), []).append(parameter)
    return [
        {
            "name": part if decays else f"{part}, no decay",
            "params": parameters[part, decays],
            "lr": rates[part],
            "weight_decay": weight_decay if decays else 0.0,
        }
        for part in rates
        for decays in (True, False)
        if (part, decays) in parameters
    ]
