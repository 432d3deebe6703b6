"""Which columns of outputs and targets the losses of each kind read, as plain lists."""

from math import inf
from typing import Any

import torch

from mtattn.groups import AttributeGroups, Categorical, Number, Ordinal

Layout = dict[str, tuple[list[Any], torch.dtype]]


def loss_layout(groups: AttributeGroups) -> Layout:
    """List what the losses of each kind read, for those kinds that there are, and the place of each attribute's loss.

    ``places`` is where each attribute stands when the kinds stand one behind the other: first those with thresholds,
    which are binary ones and ordinal ones, then categorical ones, then numbers.
    """
    members = list(enumerate(zip(groups.attributes, groups.kinds, strict=True)))
    columns = {index: list(range(*_ends(groups.columns_of(name)))) for index, (name, _) in members}
    with_thresholds = [index for index, (_, kind) in members if isinstance(kind, str | Ordinal)]
    with_choices = [index for index, (_, kind) in members if isinstance(kind, Categorical)]
    numbers = [index for index, (_, kind) in members if isinstance(kind, Number)]
    order = with_thresholds + with_choices + numbers
    layout: Layout = {"places": ([order.index(index) for index in range(len(order))], torch.long)}
    if with_thresholds:
        layout |= _thresholds(groups, {index: columns[index] for index in with_thresholds})
    if with_choices:
        layout |= _choices({index: columns[index] for index in with_choices})
    if numbers:
        moments = [kind.moments for kind in groups.kinds if isinstance(kind, Number)]
        layout |= {
            "number_columns": ([columns[index][0] for index in numbers], torch.long),
            "number_attributes": (numbers, torch.long),
            "number_moments": (list(zip(*moments, strict=True)), torch.float32),
        }
    return layout


def _ends(columns: slice) -> tuple[int, int]:
    return columns.start, columns.stop


def _thresholds(groups: AttributeGroups, columns: dict[int, list[int]]) -> Layout:
    """Take a binary attribute for a single threshold without a level below it."""
    levels: list[float] = []
    highest: list[int] = []
    for index, own in columns.items():
        is_binary = isinstance(groups.kinds[index], str)
        levels += [-inf] if is_binary else range(len(own))
        highest += [len(own)] * len(own)
    owners = [index for index, own in columns.items() for _ in own]
    return {
        "threshold_columns": ([column for own in columns.values() for column in own], torch.long),
        "threshold_attributes": (owners, torch.long),
        "threshold_levels": ([levels, highest], torch.float32),
        "threshold_owner": ([[owner == index for index in columns] for owner in owners], torch.bool),
    }


def _choices(columns: dict[int, list[int]]) -> Layout:
    """Give all attributes as many classes as the one with the most; what is too many reads any column, for nothing."""
    most = max(map(len, columns.values()))
    padded = [own + own[:1] * (most - len(own)) for own in columns.values()]
    return {
        "choice_columns": (padded, torch.long),
        "choice_attributes": (list(columns), torch.long),
        "choice_exists": ([[place < len(own) for place in range(most)] for own in columns.values()], torch.bool),
    }
