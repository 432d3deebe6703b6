"""FARAMTN, the reference model."""

from mtattn.models.faramtn import FARAMTN
from mtattn.models.recompute import set_grad_checkpointing
from mtattn.models.runs import find_model

__all__ = ["FARAMTN", "find_model", "set_grad_checkpointing"]
