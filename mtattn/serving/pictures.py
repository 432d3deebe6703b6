"""An uploaded picture, whatever it is, as the array that the model takes; or the reason why it cannot be."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_BYTES = 10 * 2**20  # of a picture
MAX_PIXELS = 40_000_000  # reading one takes up to half a gigabyte, and the server reads one a core at a time
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # Pillow knows more, some of which start other programs


class RefusedPicture(ValueError):  # noqa: N818  reads as what it is
    """A picture that cannot be read, with the HTTP status that says whose fault that is."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def read_picture(data: bytes) -> Image.Image:
    """Decode a picture as RGB, upright, like ``mtattn.data.read_image``, but refuse what an upload should not be.

    Raises:
        RefusedPicture: It is empty, too large, damaged, animated, or no picture.
    """
    if not data:
        raise RefusedPicture(400, "The body is empty; send the bytes of a picture.")
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as picture:
            _check(picture)
            return _as_rgb(ImageOps.exif_transpose(picture))
    except RefusedPicture:
        raise
    except Image.DecompressionBombError as error:
        raise _too_many_pixels() from error
    except UnidentifiedImageError as error:
        raise RefusedPicture(415, f"The body is not a picture; send one of {', '.join(FORMATS)}.") from error
    except Exception as error:  # on damaged files Pillow raises nearly anything
        raise RefusedPicture(422, f"The picture is damaged or cut short ({error}).") from error


def as_input(
    picture: Image.Image,
    *,
    size: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    crop: float | Sequence[float] = 1.0,
) -> np.ndarray:
    """Squeeze a picture's middle to the model's size and normalise it, exactly as ``image_transform`` does."""
    (height, width), (kept_height, kept_width) = size, (crop, crop) if isinstance(crop, float | int) else crop
    left, top = picture.width * (1 - kept_width) / 2, picture.height * (1 - kept_height) / 2
    seen = picture.convert("L" if len(mean) == 1 else "RGB").resize(
        (width, height), Image.Resampling.BILINEAR, box=(left, top, picture.width - left, picture.height - top)
    )
    pixels = np.asarray(seen, dtype=np.float32).reshape(height, width, len(mean)) / 255
    normalised = (pixels - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1))


def _check(picture: Image.Image) -> None:
    if picture.width * picture.height > MAX_PIXELS:  # known before anything is decoded
        raise _too_many_pixels()
    if getattr(picture, "is_animated", False) and picture.format != "MPO":  # a phone's picture with a second view
        raise RefusedPicture(422, "The file holds several pictures; send one.")
    if picture.mode in ("I", "F"):
        raise RefusedPicture(422, "The picture has 32 bits a pixel, whose black and white are unknown; send 8 or 16.")


def _too_many_pixels() -> RefusedPicture:
    return RefusedPicture(
        413, f"The picture has more than {MAX_PIXELS // 1_000_000} million pixels; send a smaller one."
    )


def _as_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):  # convert() would clip 16-bit greys at 255: all white
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")
    return picture.convert("RGB")
