"""FARAMTN, the reference model."""

from mtattn.models.faramtn import FARAMTN

__all__ = ["FARAMTN"]
