"""Find a data set's files on disk, or say what is missing, where it was looked for, and where a user gets it."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path


def existing_root(owner: str, root: str | Path, source: str) -> Path:
    """Return the root folder as an absolute path.

    Raises:
        FileNotFoundError: There is no such folder.
    """
    return existing_folder(owner, "root", root, source)


def existing_folder(owner: str, what: str, folder: str | Path, source: str) -> Path:
    """Return a folder as an absolute path.

    Raises:
        FileNotFoundError: There is no such folder.
    """
    folder = Path(folder).expanduser().absolute()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise NotADirectoryError(f"{owner}: {what} is a folder, got the file {folder}; give the folder that holds it.")
    siblings = [path.name for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
    nearest = get_close_matches(folder.name, siblings, n=1)
    hint = f"did you mean {folder.parent / nearest[0]}?" if nearest else source
    raise FileNotFoundError(f"{owner}: no folder {folder}; {hint}")


def first_file(owner: str, places: Sequence[Path], names: Sequence[str], source: str) -> Path:
    """Return the first file that is there: any place for the first name, then any place for the next.

    Raises:
        FileNotFoundError: None of them is there.
    """
    for name in names:
        for place in places:
            if (place / name).is_file():
                return place / name
    raise FileNotFoundError(f"{owner}: needs {' or '.join(names)}, found none in {_joined(places)}. {source}")


def image_folder(owner: str, places: Sequence[Path], name: str, source: str) -> Path:
    """Return the folder that holds the images; a folder of the same name inside it goes before it, as Kaggle packs it.

    Raises:
        FileNotFoundError: There is no such folder.
    """
    for place in places:
        for folder in (place / name / name, place / name):
            if folder.is_dir():
                return folder
    raise FileNotFoundError(f"{owner}: needs the image folder {name}, found none in {_joined(places)}. {source}")


def _joined(places: Sequence[Path]) -> str:
    root, *inside = places
    return f"{root}" + (f" nor in its {', '.join(place.name for place in inside)}" if inside else "")
