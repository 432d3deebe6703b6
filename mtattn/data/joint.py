"""JointDataset: several data sets, each labelling something else, as one."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from mtattn.groups import check_known


class JointDataset(Dataset[tuple[Any, Tensor]]):
    """Join data sets that label different attributes; what a data set does not label is NaN, a missing label.

    Their images come one data set after the other. Columns are matched by name: an attribute that two of them label
    means the same in both.

    Args:
        *datasets: Data sets with ``attributes``, the names of their target columns, and ``targets``, as those of
            ``mtattn.data`` have them.
        attributes: The attributes to give, in the order wanted; None gives all, each data set's new ones after those
            of the sets before.

    Attributes:
        attributes: The names of the target columns.
        datasets: The data sets joined.

    Raises:
        TypeError: A data set does not say what its columns are.
        ValueError: There is no data set, or none labels an attribute that is asked for.

    Example:
        >>> from torch.utils.data import TensorDataset
        >>> def labelled(*names, targets):
        ...     data = TensorDataset(torch.zeros(len(targets), 3, 8, 8), torch.tensor(targets))
        ...     data.attributes, data.targets = names, data.tensors[1]
        ...     return data
        >>> smiles = labelled("Smiling", targets=[[1.0], [0.0]])
        >>> ages = labelled("age", "Smiling", targets=[[53.0, 1.0]])
        >>> joint = JointDataset(smiles, ages)
        >>> joint.attributes, joint.targets
        (('Smiling', 'age'), tensor([[ 1., nan],
                [ 0., nan],
                [ 1., 53.]]))
    """

    def __init__(self, *datasets: Any, attributes: Sequence[str] | None = None) -> None:
        if not datasets:
            raise ValueError("JointDataset: joins at least one data set, got none.")
        for place, data in enumerate(datasets):
            if not hasattr(data, "attributes") or not hasattr(data, "targets"):
                raise TypeError(
                    f"JointDataset: a data set has attributes, the names of its columns, and targets, got a "
                    f"{type(data).__name__} without in place {place}; set both on it."
                )
        known = tuple(dict.fromkeys(name for data in datasets for name in data.attributes))
        check_known("JointDataset", "attribute", known if attributes is None else attributes, known)
        self.attributes = known if attributes is None else tuple(attributes)
        self.datasets = datasets
        self._ends = list(accumulate(map(len, datasets)))

    @property
    def targets(self) -> Float[Tensor, "image attribute"]:
        """Every target, NaN where the image's data set does not label the attribute or its label is missing."""
        return torch.cat([self._widened(data, data.targets) for data in self.datasets])

    @property
    def skipped(self) -> tuple[Path, ...]:
        """The paths of the images that the data sets left out."""
        return tuple(path for data in self.datasets for path in getattr(data, "skipped", ()))

    def path(self, index: int) -> Path:
        """Return where the image lies."""
        data, place = self._find(index)
        path: Path = data.path(place)
        return path

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> tuple[Any, Float[Tensor, " attribute"]]:
        """Read one image as its data set does, and its targets in the joint columns."""
        data, place = self._find(index)
        image, targets = data[place]
        return image, self._widened(data, targets[None])[0]

    def _find(self, index: int) -> tuple[Any, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"JointDataset: has {len(self)} images, got index {index}.")
        index %= len(self)
        which = bisect_right(self._ends, index)
        return self.datasets[which], index - (self._ends[which - 1] if which else 0)

    def _widened(self, data: Any, targets: Float[Tensor, "image _"]) -> Float[Tensor, "image attribute"]:
        widened = torch.full((len(targets), len(self.attributes)), torch.nan, dtype=torch.float32)
        names = list(data.attributes)
        for column, name in enumerate(self.attributes):
            if name in names:
                widened[:, column] = targets[:, names.index(name)]
        return widened
