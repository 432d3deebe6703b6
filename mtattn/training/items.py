"""What an item of a data set has to be, looked at where data meet the loop: on the CPU, before a step."""

from collections.abc import Sequence, Sized
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset, default_collate

from mtattn.groups import AttributeGroups, check_targets

Batch = list[Any]  # images and targets


class Collate:
    """Makes a batch of items and refuses items and targets that cannot be; it runs where the items are read.

    Example:
        >>> collate = Collate("fit", AttributeGroups({"mouth": ["Smiling"]}))
        >>> images, targets = collate([(torch.zeros(3, 2, 2), torch.ones(1))] * 4)
        >>> images.shape, targets.shape
        (torch.Size([4, 3, 2, 2]), torch.Size([4, 1]))
    """

    def __init__(self, owner: str, groups: AttributeGroups) -> None:
        self.owner, self.groups = owner, groups

    def __call__(self, items: Sequence[Any]) -> Batch:
        """Make a batch of images and one of targets, a row an image."""
        for item in items:
            self.check(item)
        images = default_collate([image for image, _ in items])
        targets = _as_floats(torch.stack([torch.as_tensor(target) for _, target in items]))
        if targets.device.type == "cpu":  # elsewhere a look would wait for the device
            check_targets(f"{self.owner}: a batch", self.groups, targets)
        return [images, targets]

    def check(self, item: Any) -> None:
        """Refuse what is not a pair of an image and its targets.

        Raises:
            TypeError: The item has another form.
            ValueError: There is not one target an attribute.
        """
        pair = isinstance(item, tuple | list) and len(item) == 2
        if not pair or not isinstance(item[1], Tensor | np.ndarray):
            raise TypeError(
                f"{self.owner}: an item of a data set is a pair, an image and a tensor of targets, one number an "
                f"attribute, got {_form(item)}; wrap the data set in one that returns "
                f"(image, torch.tensor(targets))."
            )
        _check_width(self.owner, item[1].shape, self.groups)


def check_data(groups: AttributeGroups, train_data: Dataset[Any], valid_data: Dataset[Any]) -> None:
    """Look at what can be seen of data before training: an item, and all targets that lie apart from the images.

    The first training batch comes before the first step, so of the training images none is read twice.

    Raises:
        TypeError: An item is not an image with its targets.
        ValueError: There is nothing to measure, or a target cannot be.
    """
    if len(cast("Sized", valid_data)) == 0:  # torch's Dataset does not say that it has a length
        raise ValueError("fit: valid_data needs at least one image, got none.")
    for name, data in (("train_data", train_data), ("valid_data", valid_data)):
        targets = known_targets(data)
        if targets is not None:
            check_targets(f"fit: {name}", groups, targets)
    Collate("fit: valid_data", groups)([valid_data[0]])


def known_targets(data: Any) -> Float[Tensor, "image attribute"] | None:
    """Give the targets of a data set without reading an image; None if they cannot be had."""
    if isinstance(data, Subset):
        targets = known_targets(data.dataset)
        return None if targets is None else targets[list(data.indices)]
    targets = data.tensors[-1] if isinstance(data, TensorDataset) else getattr(data, "targets", None)
    if not isinstance(targets, Tensor) or targets.ndim != 2 or len(targets) != len(data):
        return None
    return _as_floats(targets)


def _as_floats(targets: Tensor) -> Tensor:
    return targets if targets.is_floating_point() else targets.float()


def _check_width(owner: str, shape: Sequence[int], groups: AttributeGroups) -> None:
    if tuple(shape) != (len(groups.attributes),):
        raise ValueError(
            f"{owner}: an image has one target for each of {len(groups.attributes)} attributes, in the order of "
            f"groups.attributes, got shape {tuple(shape)}."
        )


def _form(item: Any) -> str:
    if isinstance(item, tuple | list):
        inside = ", ".join(f"a {type(part).__name__}" for part in item[:4])
        return f"a {type(item).__name__} of {len(item)}: {inside}"
    keys = f" with {', '.join(map(repr, list(item)[:4]))}" if isinstance(item, dict) else ""
    return f"a {type(item).__name__}{keys}"
