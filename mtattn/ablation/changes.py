"""How scores change between a model and its ablations on the same images, with intervals of a paired bootstrap."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mtattn.functional import level_exceedance
from mtattn.groups import Attribute, AttributeGroups, Categorical, Number, Ordinal


class Change(NamedTuple):
    """By how much a score changed, with the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, resampled: Float[Tensor, " resample"]) -> "Change":
        """Take the first entry for the value, and the interval from the others."""
        low, high = resampled[1:].nanquantile(resampled.new_tensor([0.025, 0.975])).tolist()
        return cls(resampled[0].item(), low, high)


class Scorer:
    """Score outputs attribute by attribute on the images as they are, first, and on resamples of them.

    The score is the share of right answers among the images of a class, averaged over the classes that the labels have:
    the balanced accuracy of a binary attribute. Of a number it is one minus the absolute error, as a share of the
    error of the median of these labels.
    """

    def __init__(
        self, targets: Float[Tensor, "image attribute"], groups: AttributeGroups, *, num_resamples: int, seed: int
    ) -> None:
        self.targets, self.groups = targets, groups
        draws = torch.Generator().manual_seed(seed)
        self.times = torch.ones(num_resamples + 1, len(targets))  # how often each image stands in each resample
        for row in self.times[1:]:
            row.copy_(torch.randint(len(targets), (len(targets),), generator=draws).bincount(minlength=len(targets)))
        classes = torch.stack(
            [_class(kind, truth) for kind, truth in zip(groups.kinds, targets.unbind(1), strict=True)], 1
        )
        if not (classes >= 0).any():
            raise ValueError(
                f"measure_ablations: scores compare outputs with labels, got {len(targets)} images without one; "
                f"pass batches whose targets hold labels."
            )
        self.members = [(classes == index).float() for index in range(int(classes.max()) + 1)]
        self.counts = [self.times @ members for members in self.members]
        num_classes = sum((count[0] > 0).int() for count in self.counts)
        self.defined = num_classes > torch.tensor([not isinstance(kind, Number) for kind in groups.kinds])

    def __call__(self, outputs: Float[Tensor, "image column"]) -> Float[Tensor, "resample attribute"]:
        """Compute the scores; NaN where the labels leave one undefined, or an output that has a label is NaN."""
        columns = [outputs[:, self.groups.columns_of(name)] for name in self.groups.attributes]
        parts = list(zip(self.groups.kinds, columns, self.targets.unbind(1), strict=True))
        hits = torch.stack([_hit(*part) for part in parts], 1)
        sums = [self.times @ torch.where(members > 0, hits, 0) for members in self.members]
        shares = torch.stack([total / count for total, count in zip(sums, self.counts, strict=True)])
        broken = torch.stack([(outputs_of.isnan().any(1) & ~truth.isnan()).any() for _, outputs_of, truth in parts])
        return shares.nanmean(0).where(self.defined & ~broken, torch.nan)


def _class(kind: Attribute, targets: Float[Tensor, " image"]) -> Int[Tensor, " image"]:
    """Tell which class an image is of; -1 without a label."""
    if isinstance(kind, Number):
        classes = torch.zeros_like(targets)
    else:
        classes = targets if isinstance(kind, Categorical | Ordinal) else (targets >= 0.5)
    return classes.nan_to_num().long().where(~targets.isnan(), -1)


def _hit(
    kind: Attribute, columns: Float[Tensor, "image _"], targets: Float[Tensor, " image"]
) -> Float[Tensor, " image"]:
    """Tell whether each answer is right; for a number how much better it is than the median of the labels."""
    match kind:
        case Categorical():
            return (columns.argmax(1) == targets).float()
        case Ordinal():
            return ((level_exceedance(columns) > 0.5).sum(1) == targets).float()
        case Number(_, _, float(mean), float(std)):
            errors = (mean + std * columns[:, 0] - targets).abs()
            blind = (targets - targets.nanmedian()).abs().nanmean()
            return (1 - errors / blind).where(blind > 0, torch.nan)
    return ((columns[:, 0] > 0) == (targets >= 0.5)).float()
