"""FARAMTN, the reference model."""

from mtattn.models.faramtn import FARAMTN
from mtattn.models.recompute import set_grad_checkpointing

__all__ = ["FARAMTN", "set_grad_checkpointing"]
