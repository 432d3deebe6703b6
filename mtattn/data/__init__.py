"""Data: CelebA, LFWA, FairFace, PETA and PA-100K from disk, drawn faces without any download, and presets."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mtattn.data.presets import (
    CELEBA_ATTRIBUTES,
    CELEBA_CROP,
    CELEBA_GROUPS,
    CELEBA_GROUPS_MCNN,
    CELEBA_GROUPS_PSMCNN,
    CELEBA_MEAN,
    CELEBA_STD,
    LFWA_CROP,
)

if TYPE_CHECKING:
    from mtattn.data.celeba import CelebA
    from mtattn.data.dataset import AttributeImages, skip_unreadable
    from mtattn.data.fairface import FAIRFACE_GROUPS, FAIRFACE_GROUPS_YEARS, FairFace
    from mtattn.data.images import UnreadableImage, find_images, read_image
    from mtattn.data.joint import JointDataset
    from mtattn.data.lfw_pairs import LFWPairs
    from mtattn.data.lfwa import LFWA
    from mtattn.data.own import read_csv_labels
    from mtattn.data.pa100k import PA100K, PA100K_GROUPS
    from mtattn.data.peta import PETA, PETA_GROUPS
    from mtattn.data.rows import AttributeRows, read_row
    from mtattn.data.synthetic import PlantedRelations, SyntheticFaces, SyntheticKinds
    from mtattn.data.table import TableImages
    from mtattn.data.transforms import image_transform

__all__ = [
    "CELEBA_ATTRIBUTES",
    "CELEBA_CROP",
    "CELEBA_GROUPS",
    "CELEBA_GROUPS_MCNN",
    "CELEBA_GROUPS_PSMCNN",
    "CELEBA_MEAN",
    "CELEBA_STD",
    "FAIRFACE_GROUPS",
    "FAIRFACE_GROUPS_YEARS",
    "LFWA",
    "LFWA_CROP",
    "PA100K",
    "PA100K_GROUPS",
    "PETA",
    "PETA_GROUPS",
    "AttributeImages",
    "AttributeRows",
    "CelebA",
    "FairFace",
    "JointDataset",
    "LFWPairs",
    "PlantedRelations",
    "SyntheticFaces",
    "SyntheticKinds",
    "TableImages",
    "UnreadableImage",
    "find_images",
    "image_transform",
    "read_csv_labels",
    "read_image",
    "read_row",
    "skip_unreadable",
]

# Loaded on first use, so that the presets need neither PIL nor h5py nor the packages that draw faces.
_MODULE_OF = {
    "AttributeImages": "dataset",
    "AttributeRows": "rows",
    "CelebA": "celeba",
    "FAIRFACE_GROUPS": "fairface",
    "FAIRFACE_GROUPS_YEARS": "fairface",
    "FairFace": "fairface",
    "LFWA": "lfwa",
    "PA100K": "pa100k",
    "PA100K_GROUPS": "pa100k",
    "PETA": "peta",
    "PETA_GROUPS": "peta",
    "JointDataset": "joint",
    "LFWPairs": "lfw_pairs",
    "PlantedRelations": "synthetic",
    "SyntheticFaces": "synthetic",
    "SyntheticKinds": "synthetic",
    "TableImages": "table",
    "UnreadableImage": "images",
    "find_images": "images",
    "image_transform": "transforms",
    "read_csv_labels": "own",
    "read_image": "images",
    "read_row": "rows",
    "skip_unreadable": "dataset",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
