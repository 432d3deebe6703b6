"""From a PIL image to the tensor that a model takes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from mtattn._extras import needed_by

if TYPE_CHECKING:
    from torchvision.transforms.v2 import Compose


def image_transform(
    size: Sequence[int], *, mean: Sequence[float], std: Sequence[float], augment: bool = False
) -> "Compose":
    """Build the transform of the recipes: the whole image at one size, as normalised floats.

    The image is squeezed to the size, not cut: hair and neck lie at the edges of a face image.

    Args:
        size: Height and width in pixels.
        mean: What to subtract from each colour, which are in [0, 1].
        std: What to divide each colour by.
        augment: Whether to flip left and right at random and to shift by up to a sixteenth of the size, for training.

    Example:
        >>> from PIL import Image
        >>> transform = image_transform((64, 64), mean=[0.5] * 3, std=[0.5] * 3)
        >>> transform(Image.new("RGB", (178, 218))).shape
        torch.Size([3, 64, 64])
    """
    with needed_by("mtattn.data.image_transform", extra="recipes"):
        from torchvision.transforms import v2  # noqa: PLC0415
    height, width = size
    shifted = [
        v2.RandomHorizontalFlip(),
        v2.RandomCrop((height, width), padding=[width // 16, height // 16], padding_mode="edge"),
    ]
    return v2.Compose(
        [
            v2.Resize((height, width)),
            *(shifted if augment else []),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(mean), list(std)),
        ]
    )
