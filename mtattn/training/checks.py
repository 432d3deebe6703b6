"""What fit and evaluate refuse before they begin."""

from collections.abc import Sequence, Sized
from typing import Any, cast

from mtattn.groups import AttributeGroups, check_known

SCORES = ("mean_accuracy", "mean_balanced_accuracy", "mean_f1", "mean_average_precision")


def check_columns(owner: str, name: str, data: Any, groups: AttributeGroups) -> None:
    """Refuse data or metrics whose columns are known to be in another order."""
    attributes = getattr(data, "attributes", None)  # a data set of somebody else's need not say
    if attributes is not None and tuple(attributes) != groups.attributes:
        raise ValueError(
            f"{owner}: the columns of {name} are groups.attributes, {_few(groups.attributes)}, "
            f"got {_few(attributes)}; ask for attributes=groups.attributes."
        )


def check_length(data: Any, batch_size: int, accumulate: int, num_processes: int) -> None:
    """Refuse data that do not make one step."""
    num_images, needed = len(cast("Sized", data)), batch_size * accumulate * num_processes
    if num_images < needed:
        factors = f" x accumulate={accumulate}" if accumulate > 1 else ""
        factors += f" in {num_processes} processes" if num_processes > 1 else ""
        raise ValueError(
            f"fit: needs at least one full batch of images, got batch_size={batch_size}{factors} "
            f"for {num_images} images; take a smaller one."
        )


def check_options(
    epochs: int, batch_size: int, accumulate: int, *, warmup: float, averaging: float | None, select_by: str
) -> None:
    """Refuse options out of range."""
    check_known("fit", "score to select by", [select_by], SCORES)
    if epochs < 1 or batch_size < 1:
        raise ValueError(f"fit: epochs and batch_size must be at least 1, got {epochs} and {batch_size}.")
    if accumulate < 1:
        raise ValueError(f"fit: accumulate must be at least 1, got {accumulate}.")
    if not 0 <= warmup < 1:
        raise ValueError(f"fit: warmup is a share in [0, 1), got {warmup}.")
    if averaging is not None and not 0 < averaging < 1:
        raise ValueError(f"fit: averaging is a decay in (0, 1), got {averaging}; None turns it off.")


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
