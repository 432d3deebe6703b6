"""The options of a run that decide what it computes, and what fit refuses of them."""

from dataclasses import dataclass
from typing import Any

from mtattn.groups import check_known

SCORES = ("mean_accuracy", "mean_balanced_accuracy", "mean_f1", "mean_average_precision", "mean_skill")


@dataclass(frozen=True)
class Options:
    """What :func:`mtattn.training.fit` takes under the same names.

    Raises:
        ValueError: An option is out of range.
    """

    epochs: int
    batch_size: int
    accumulate: int
    warmup: float
    averaging: float | None
    mixed_precision: str
    sync_batch_norm: bool
    select_by: str
    seed: int

    def __post_init__(self) -> None:
        check_known("fit", "precision", [self.mixed_precision], ("no", "bf16", "fp16"))
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(f"fit: epochs and batch_size must be at least 1, got {self.epochs} and {self.batch_size}.")
        if self.accumulate < 1:
            raise ValueError(f"fit: accumulate must be at least 1, got {self.accumulate}.")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"fit: warmup is a share in [0, 1), got {self.warmup}.")
        if self.averaging is not None and not 0 < self.averaging < 1:
            raise ValueError(f"fit: averaging is a decay in (0, 1), got {self.averaging}; None turns it off.")


def check_length(data: Any, options: Options, num_processes: int) -> None:
    """Refuse data that have no length or do not make one step."""
    if not hasattr(data, "__len__"):
        raise TypeError(
            f"fit: train_data has a length, so that it can be shuffled, got a {type(data).__name__} without; "
            f"wrap it in a data set with __len__ and __getitem__."
        )
    num_images, accumulate = len(data), options.accumulate
    if num_images < options.batch_size * accumulate * num_processes:
        factors = f" x accumulate={accumulate}" if accumulate > 1 else ""
        factors += f" in {num_processes} processes" if num_processes > 1 else ""
        raise ValueError(
            f"fit: needs at least one full batch of images, got batch_size={options.batch_size}{factors} "
            f"for {num_images} images; take a smaller batch_size, --batch-size on the command line."
        )
