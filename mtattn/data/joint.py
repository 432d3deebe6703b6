"""JointDataset: several data sets, each labelling something else, as one."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import inf
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset, Sampler

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
        shares: The share of each batch that comes from each data set, positive, together 1; None trains on all images
            once an epoch, in any order. With shares an epoch has as many images as all data sets together: a small data
            set is gone through several times, of a large one each epoch takes other images.

    Attributes:
        attributes: The names of the target columns.
        datasets: The data sets joined.
        shares: The share of each data set in a batch.

    Raises:
        TypeError: A data set does not say what its columns are.
        ValueError: There is no data set, none labels an attribute that is asked for, or shares do not fit.

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
        >>> balanced = JointDataset(smiles, ages, shares=(0.5, 0.5))
        >>> order = list(balanced.sampler())  # the third image is the only one with an age
        >>> [index == 2 for index in order[:2]].count(True)
        1
    """

    def __init__(
        self, *datasets: Any, attributes: Sequence[str] | None = None, shares: Sequence[float] | None = None
    ) -> None:
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
        self.shares = None if shares is None else _checked_shares(shares, datasets)
        self._ends = list(accumulate(map(len, datasets)))

    @property
    def targets(self) -> Float[Tensor, "image attribute"]:
        """Every target, NaN where the image's data set does not label the attribute or its label is missing."""
        return torch.cat([self._widened(data, data.targets) for data in self.datasets])

    @property
    def skipped(self) -> tuple[Path, ...]:
        """The paths of the images that the data sets left out."""
        return tuple(path for data in self.datasets for path in getattr(data, "skipped", ()))

    def sampler(self, seed: int = 0) -> "SharesSampler":
        """Make the sampler that gives each data set its share, for a loader of your own; ``fit`` does it by itself.

        Raises:
            ValueError: There are no shares.
        """
        if self.shares is None:
            raise ValueError("JointDataset.sampler: needs shares, got none; give JointDataset(..., shares=).")
        return SharesSampler([len(data) for data in self.datasets], self.shares, seed)

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


class SharesSampler(Sampler[int]):
    """Give indices such that any images in a row hold the stated share of each data set, to within an image or so.

    So batches of any size do, those of several processes and those that make up a step too. The order depends on the
    seed and the epoch alone.

    Args:
        sizes: How many images each data set has; its indices follow those of the data sets before.
        shares: The share of each.
        seed: With the epoch, it decides the order.
    """

    def __init__(self, sizes: Sequence[int], shares: Sequence[float], seed: int = 0) -> None:
        super().__init__()
        self.sizes, self.shares, self.seed, self.epoch = tuple(sizes), tuple(shares), seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch is next; each has another order."""
        self.epoch = epoch

    def __len__(self) -> int:
        return sum(self.sizes)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(((self.seed << 24) + self.epoch) % 2**63)
        starts = [end - size for end, size in zip(accumulate(self.sizes), self.sizes, strict=True)]
        waiting: list[list[int]] = [[] for _ in self.sizes]
        taken = [0] * len(self.sizes)
        for place in range(1, len(self) + 1):
            behind = [share * place - num for share, num in zip(self.shares, taken, strict=True)]
            which = behind.index(max(behind))
            if not waiting[which]:
                waiting[which] = torch.randperm(self.sizes[which], generator=generator).tolist()
            taken[which] += 1
            yield starts[which] + waiting[which].pop()


def _checked_shares(shares: Sequence[float], datasets: Sequence[Any]) -> tuple[float, ...]:
    given = tuple(float(share) for share in shares)
    if len(given) != len(datasets) or not all(0 < share < inf for share in given) or abs(sum(given) - 1) > 1e-6:
        raise ValueError(
            f"JointDataset: shares are a positive number for each data set, together 1, got {list(shares)} for "
            f"{len(datasets)} data sets."
        )
    if not all(map(len, datasets)):
        empty = next(place for place, data in enumerate(datasets) if not len(data))
        raise ValueError(f"JointDataset: a data set with a share has images, got none in place {empty}.")
    return given
