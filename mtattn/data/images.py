"""Read one image file as RGB, or say which file cannot be read and why; find the images in a folder."""

import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mtattn._extras import needed_by

with needed_by("mtattn.data", extra="recipes"):
    from PIL import Image, ImageOps, UnidentifiedImageError

_NO_PICTURES = {"EPS", "BUFR", "GRIB", "HDF5", "MPEG", "WMF"}  # Pillow starts Ghostscript for the first, reads no other


class UnreadableImage(OSError, ValueError):  # noqa: N818  reads as what it is: raise UnreadableImage
    """An image file is missing, cut short, damaged, or no image at all; the message names it.

    Example:
        >>> read_image("nowhere.jpg")
        Traceback (most recent call last):
        mtattn.data.images.UnreadableImage: read_image: cannot read nowhere.jpg: the file is missing. Replace the file.
    """


def read_image(path: str | Path) -> Image.Image:
    """Read an image as RGB, upright, whatever its own mode is: grey (8 or 16 bits), palette, CMYK, with alpha.

    An alpha channel is dropped, not blended. Of several pictures in one file the first is read.

    Raises:
        UnreadableImage: The file is missing, cut short, damaged or not an image, or its pixels have 32 bits a colour,
            of which nobody knows which is black and which is white.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("L", (178, 218)).save(f"{folder}/000001.jpg")
        ...     image = read_image(f"{folder}/000001.jpg")
        >>> image.mode, image.size
        ('RGB', (178, 218))
    """
    try:
        with Image.open(path, formats=_formats()) as image:
            return as_rgb(image)
    except Exception as error:  # on damaged files PIL raises nearly anything: OSError, SyntaxError, struct.error
        raise UnreadableImage(f"read_image: cannot read {path}: {_what_is_wrong(error)}. Replace the file.") from error


def as_rgb(image: Image.Image) -> Image.Image:
    """Turn an open picture into RGB, upright: the one rule for files, rows and uploads.

    Raises:
        ValueError: The picture has 32 bits a colour, or a mode that PIL cannot turn into RGB.

    Example:
        >>> as_rgb(Image.fromarray(np.full((1, 1), 0x8000, np.uint16))).getpixel((0, 0))
        (128, 128, 128)
    """
    from_png = image.format == "PNG"  # known only before the picture is turned
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") and not (image.mode == "I" and from_png):  # older Pillows open 16-bit PNGs as I
        raise ValueError("it has 32 bits a colour, whose black and white are unknown; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # convert() would clip 16-bit greys at 255: all white
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


class FoundImages(NamedTuple):
    """The images in a folder.

    Attributes:
        files: The files that :func:`~mtattn.data.read_image` can read, sorted.
        passed_over: The other files, sorted.
    """

    files: list[Path]
    passed_over: list[Path]

    def note(self) -> str:
        """Count what was passed over, by suffix; empty if there is none.

        Example:
            >>> FoundImages([], [Path("a.txt"), Path("b.txt"), Path("LICENSE")]).note()
            'passed over 3 files that are no images by suffix: .txt (2), none (1)'
        """
        suffixes = Counter(file.suffix.lower() or "none" for file in self.passed_over).most_common()
        shown = ", ".join(f"{suffix} ({count})" for suffix, count in suffixes[:5]) + (", ..." if suffixes[5:] else "")
        files = f"{len(self.passed_over)} file{'s that are no images' if self.passed_over[1:] else ' that is no image'}"
        return f"passed over {files} by suffix: {shown}" if self.passed_over else ""


def find_images(folder: str | Path) -> FoundImages:
    """Find all images in a folder and in those within it, linked ones too.

    What can be read is decided by the suffix, so a new format of Pillow, or of a plugin that is registered with it,
    counts at once. Hidden files and folders, whose names begin with a dot, are left alone; a folder that several links
    lead to is looked into once.

    Raises:
        FileNotFoundError: There is no such folder, or no image in it.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("b.tif", "a.JFIF", "labels.csv"):
        ...     (folder / name).touch()
        >>> found = find_images(folder)
        >>> [file.name for file in found.files], found.note()
        (['a.JFIF', 'b.tif'], 'passed over 1 file that is no image by suffix: .csv (1)')
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"find_images: no folder {folder.absolute()}.")
    readable, files = readable_suffixes(), sorted(_files(folder))
    found = FoundImages(
        [file for file in files if file.suffix.lower() in readable],
        [file for file in files if file.suffix.lower() not in readable],
    )
    if not found.files:
        what_else = found.note() or "it is empty"
        raise FileNotFoundError(f"find_images: no images in {folder.absolute()}; {what_else}.")
    return found


def readable_suffixes() -> set[str]:
    """Tell the suffixes of the files that :func:`read_image` can read, in small letters.

    Example:
        >>> {".jpg", ".jfif", ".tif", ".webp"} <= readable_suffixes(), ".csv" in readable_suffixes()
        (True, False)
    """
    formats = set(_formats())
    return {suffix for suffix, form in Image.registered_extensions().items() if form in formats}


def _files(folder: Path) -> list[Path]:
    files, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        here = os.path.realpath(place)
        if here in seen:
            folders.clear()  # a link that leads back
            continue
        seen.add(here)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [Path(place, name) for name in names if not name.startswith(".")]
    return files


def _formats() -> list[str]:
    Image.init()
    return [form for form in Image.ID if form not in _NO_PICTURES]


def _what_is_wrong(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "the file is missing"
    if isinstance(error, UnidentifiedImageError):
        return "the file is not an image"
    if "truncated" in str(error).lower():
        return f"the file is truncated ({error})"
    return str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
