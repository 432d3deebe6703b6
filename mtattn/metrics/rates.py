"""train_rates: how frequent binary attributes are."""

from collections.abc import Sequence
from typing import Any, Protocol, overload, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from mtattn._baselines import targets_by_name


@runtime_checkable
class Labelled(Protocol):
    """A data set that knows the names of its columns and all its targets."""

    @property
    def attributes(self) -> Sequence[str]:
        """The names of the columns of the targets."""

    @property
    def targets(self) -> Float[Tensor, "image attribute"]:
        """All targets."""


@overload
def train_rates(targets: Tensor) -> Float[Tensor, " attribute"]: ...
@overload
def train_rates(targets: Labelled) -> dict[str, float]: ...
def train_rates(targets: Any) -> Float[Tensor, " attribute"] | dict[str, float]:
    """Measure the share of positives of each binary attribute among its labels.

    Args:
        targets: Targets in [0, 1], positive from 0.5; NaN where an attribute is unlabelled. Or a data set with
            ``attributes`` and ``targets``.

    Returns:
        The rates in [0, 1], NaN for an attribute without labels; of a data set by name, so that nobody can take them
        for those of other columns.

    Raises:
        ValueError: A target lies outside [0, 1].
        TypeError: It is neither.

    Example:
        >>> train_rates(torch.tensor([[1.0, 0.0], [1.0, float("nan")], [0.0, float("nan")], [1.0, 0.0]]))
        tensor([0.7500, 0.0000])
    """
    if not isinstance(targets, Tensor):
        names = tuple(getattr(targets, "attributes", ()))
        rates = train_rates(targets_by_name("train_rates", names, targets))
        return dict(zip(names, rates.tolist(), strict=True))
    wrong = ((targets < 0) | (targets > 1)).nonzero()
    if len(wrong):
        image, column = wrong[0].tolist()
        raise ValueError(
            f"train_rates: a target is in [0, 1], or NaN where it is missing, "
            f"got {targets[image, column].item():g} for image {image}, column {column}."
        )
    return (targets >= 0.5).sum(0) / (~targets.isnan()).sum(0)
