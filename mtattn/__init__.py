"""Multi-task attention for attribute recognition: WSGSA, CGFF, DWSLoss, and FAR-AMTN as the reference model."""

from mtattn.groups import AttributeGroups

__all__ = ["AttributeGroups"]
