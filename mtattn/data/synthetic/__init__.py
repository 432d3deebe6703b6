"""SyntheticFaces: labelled drawn faces for those who have no CelebA."""

from mtattn.data.synthetic.faces import SyntheticFaces

__all__ = ["SyntheticFaces"]
