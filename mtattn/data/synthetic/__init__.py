"""SyntheticFaces: labelled drawn faces for whoever has no CelebA at hand."""

from mtattn.data.synthetic.faces import SyntheticFaces

__all__ = ["SyntheticFaces"]
