"""Multi-task attention for attribute recognition: WSGSA, CGFF, DWSLoss, and FAR-AMTN as the reference model."""

from typing import TYPE_CHECKING, Any

from mtattn.groups import AttributeGroups, Categorical, Number, Ordinal
from mtattn.losses import DWSLoss, DynamicWeighting
from mtattn.modules import CGFF, WSGSA, GroupHeads

if TYPE_CHECKING:
    from mtattn.models import FARAMTN

__all__ = [
    "CGFF",
    "FARAMTN",
    "WSGSA",
    "AttributeGroups",
    "Categorical",
    "DWSLoss",
    "DynamicWeighting",
    "GroupHeads",
    "Number",
    "Ordinal",
]


def __getattr__(name: str) -> Any:
    if name == "FARAMTN":  # late, because it brings huggingface_hub
        from mtattn.models import FARAMTN  # noqa: PLC0415

        return FARAMTN
    raise AttributeError(f"module 'mtattn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
