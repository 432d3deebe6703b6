"""Which attributes there are, of which kind, in which order, and which group each belongs to."""

from mtattn.groups.grouping import AttributeGroups, check_groups
from mtattn.groups.kinds import Attribute, Categorical, Number, Ordinal
from mtattn.groups.names import check_known
from mtattn.groups.values import check_fitted, check_targets

__all__ = [
    "Attribute",
    "AttributeGroups",
    "Categorical",
    "Number",
    "Ordinal",
    "check_fitted",
    "check_groups",
    "check_known",
    "check_targets",
]
