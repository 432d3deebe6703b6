"""From a PIL image to the tensor that a model takes."""

from collections.abc import Sequence
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from mtattn._extras import needed_by
from mtattn.data.images import as_rgb
from mtattn.groups import check_known

with needed_by("mtattn.data", extra="recipes"):
    from PIL import Image

if TYPE_CHECKING:
    from torchvision.transforms.v2 import Compose, Transform

Augmentation = Literal["none", "light", "strong"]
AUGMENTATIONS = get_args(Augmentation)
MODES = {1: "L", 3: "RGB"}  # of a picture, by how many numbers its mean has


def image_transform(
    size: Sequence[int],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    crop: float | Sequence[float] = 1.0,
    augment: bool | Augmentation = "none",
) -> "Compose":
    """Build the transform of the recipes: the middle of the image at one size, as normalised floats.

    What is kept is squeezed to the size; a pixel is the mean of those that it replaces (antialiasing).

    Args:
        size: Height and width in pixels.
        mean: What to subtract from each colour, which are in [0, 1]: three numbers for RGB, one for grey.
        std: What to divide each colour by.
        crop: Which share of the height and of the width to keep, in the middle, in (0, 1]; one number is for both.
        augment: For training. ``"light"``, or True, flips left and right at random and shifts by up to a sixteenth of
            the size. ``"strong"`` does so too, then two random changes of form or colour (torchvision's RandAugment),
            and fills a random rectangle of every fourth image with the mean.

    Raises:
        ValueError: The size is not two whole numbers above zero, ``mean`` and ``std`` differ in length, there is more
            to keep than the image has, or there is no such augmentation.

    Example:
        >>> from PIL import Image
        >>> transform = image_transform((128, 64), mean=[0.5] * 3, std=[0.5] * 3, crop=0.7)
        >>> transform(Image.new("RGB", (178, 218))).shape
        torch.Size([3, 128, 64])
    """
    with needed_by("mtattn.data.image_transform", extra="recipes"):
        from torchvision.transforms import v2  # noqa: PLC0415
    height, width = _checked_size(size)
    if len(mean) != len(std) or not mean:
        raise ValueError(f"image_transform: mean and std have a number for each colour, got {mean} and {std}.")
    name = ("light" if augment else "none") if isinstance(augment, bool) else augment
    check_known("image_transform", "augmentation", [name], AUGMENTATIONS)
    before, after = _augmentation(name, height, width, mean)
    return v2.Compose(
        [
            partial(_as_picture, num_colors=len(mean)),
            partial(_middle, size=(height, width), crop=_checked_crop(crop)),
            *before,
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(mean), list(std)),
            *after,
        ]
    )


def _augmentation(
    name: str, height: int, width: int, mean: Sequence[float]
) -> "tuple[list[Transform], list[Transform]]":
    """Give what is done to the picture, and what to the tensor."""
    from torchvision.transforms import v2  # noqa: PLC0415

    light: list[Transform] = [
        v2.RandomHorizontalFlip(),
        v2.RandomCrop((height, width), padding=[width // 16, height // 16], padding_mode="edge"),
    ]
    if name == "strong":
        return [*light, v2.RandAugment(fill=[round(255 * color) for color in mean])], [v2.RandomErasing(p=0.25)]
    return (light if name == "light" else []), []


def _as_picture(image: Any, *, num_colors: int) -> Image.Image:
    if not isinstance(image, Image.Image):
        raise TypeError(
            f"image_transform: takes an image of PIL, got {type(image).__name__}; "
            "read a file with mtattn.data.read_image, and an array with PIL.Image.fromarray."
        )
    if num_colors in MODES:
        return as_rgb(image).convert(MODES[num_colors])
    if len(image.getbands()) != num_colors:
        raise ValueError(
            f"image_transform: the image has a channel for each of the {num_colors} numbers in mean, "
            f"got one of mode {image.mode}; give it the channels that the model was trained on."
        )
    return image


def _middle(image: Image.Image, *, size: tuple[int, int], crop: tuple[float, float]) -> Image.Image:
    (height, width), (kept_height, kept_width) = size, crop
    left, top = image.width * (1 - kept_width) / 2, image.height * (1 - kept_height) / 2
    box = (left, top, image.width - left, image.height - top)
    return image.resize((width, height), Image.Resampling.BILINEAR, box=box)


def _checked_size(size: Any) -> tuple[int, int]:
    if isinstance(size, Sequence) and len(size) == 2 and all(isinstance(side, int) and side > 0 for side in size):
        return size[0], size[1]
    raise ValueError(f"image_transform: size is a height and a width in pixels, such as (64, 64), got {size}.")


def _checked_crop(crop: Any) -> tuple[float, float]:
    shares = [crop, crop] if isinstance(crop, Real) else crop
    if not isinstance(shares, list | tuple) or len(shares) != 2 or not all(isinstance(s, Real) for s in shares):
        raise ValueError(f"image_transform: crop is one share, or that of a height and a width, got {crop!r}.")
    if not all(0 < s <= 1 for s in shares):
        raise ValueError(
            f"image_transform: crop is the share of the image to keep, above 0 and at most 1 (all of it), got {crop}."
        )
    return shares[0], shares[1]
