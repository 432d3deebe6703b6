"""Labelled drawn faces for those who have no CelebA, and some in which it is known who has to listen to whom."""

from mtattn.data.synthetic.faces import SyntheticFaces
from mtattn.data.synthetic.kinds import SyntheticKinds
from mtattn.data.synthetic.planted import PlantedRelations

__all__ = ["PlantedRelations", "SyntheticFaces", "SyntheticKinds"]
