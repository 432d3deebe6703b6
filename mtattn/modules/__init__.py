"""The modules that drop into anybody's attribute model: WSGSA, CGFF and GroupHeads."""

from mtattn.modules.cgff import CGFF
from mtattn.modules.heads import GroupHeads
from mtattn.modules.wsgsa import WSGSA

__all__ = ["CGFF", "WSGSA", "GroupHeads"]
