"""Read one image file as RGB, or say which file cannot be read and why."""

from pathlib import Path

import numpy as np

from mtattn._extras import needed_by

with needed_by("mtattn.data", extra="recipes"):
    from PIL import Image, ImageOps, UnidentifiedImageError


class UnreadableImage(OSError, ValueError):  # noqa: N818  reads as what it is: raise UnreadableImage
    """An image file is missing, cut short, damaged, or no image at all; the message names it.

    Example:
        >>> read_image("nowhere.jpg")
        Traceback (most recent call last):
        mtattn.data.images.UnreadableImage: read_image: cannot read nowhere.jpg: the file is missing. Replace the file.
    """


def read_image(path: str | Path) -> Image.Image:
    """Read an image as RGB, upright, whatever its own mode is: grey (8 or 16 bits), palette, CMYK, with alpha.

    An alpha channel is dropped, not blended.

    Raises:
        UnreadableImage: The file is missing, cut short, damaged or not an image.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("L", (178, 218)).save(f"{folder}/000001.jpg")
        ...     image = read_image(f"{folder}/000001.jpg")
        >>> image.mode, image.size
        ('RGB', (178, 218))
    """
    try:
        with Image.open(path) as image:
            return _as_rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # on damaged files PIL raises nearly anything: OSError, SyntaxError, struct.error
        raise UnreadableImage(f"read_image: cannot read {path}: {_what_is_wrong(error)}. Replace the file.") from error


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # convert() would clip 16-bit greys at 255: all white
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _what_is_wrong(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "the file is missing"
    if isinstance(error, UnidentifiedImageError):
        return "the file is not an image"
    if "truncated" in str(error).lower():
        return f"the file is truncated ({error})"
    return f"{type(error).__name__}: {error}"
