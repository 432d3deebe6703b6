"""FARAMTN, the reference model."""

from mtattn.models.cells import map_centres
from mtattn.models.faramtn import FARAMTN
from mtattn.models.recompute import set_grad_checkpointing
from mtattn.models.runs import find_model

__all__ = ["FARAMTN", "find_model", "map_centres", "set_grad_checkpointing"]
