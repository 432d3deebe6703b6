"""The modules that drop into anybody's attribute model: WSGSA, CGFF, GroupHeads, and what other systems need."""

from mtattn.modules.centers import AttributeCenterLoss
from mtattn.modules.cgff import CGFF
from mtattn.modules.fusion import AttentionalFusion, MultiLevelFusion
from mtattn.modules.heads import GroupHeads
from mtattn.modules.masks import BatchRandomMask, MaskHead
from mtattn.modules.mlp import EmbeddingHead, GroupMLP
from mtattn.modules.wsgsa import WSGSA

__all__ = [
    "CGFF",
    "WSGSA",
    "AttentionalFusion",
    "AttributeCenterLoss",
    "BatchRandomMask",
    "EmbeddingHead",
    "GroupHeads",
    "GroupMLP",
    "MaskHead",
    "MultiLevelFusion",
]
