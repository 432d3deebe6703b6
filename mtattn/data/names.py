"""Find the file that a name means where the name was written on another system."""

import unicodedata
from collections.abc import Callable, Collection, Sequence
from pathlib import Path, PurePosixPath

from mtattn.data.images import readable_suffixes


class FolderNames:
    r"""The names in a folder and those within it, as another system may have written them.

    A name means the file that it is; else the one that differs in Unicode's form (NFC or NFD) or in ``\`` for ``/``
    only; else in capital letters as well; else the image that has a suffix where the name has none.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> for name in ("a.jpg", "b.jpg", "b.png"):
        ...     Path(folder, name).touch()
        >>> names = FolderNames(folder)
        >>> names.meant_by(["A.JPG", "b", "c.jpg"], taken=[])
        {'A.JPG': 'a.jpg'}
        >>> names.nearest("b"), names.nearest("a.png")
        (['b.jpg', 'b.png'], ['a.jpg'])
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = folder
        self._listings: dict[str, list[str]] = {}
        self._indices: dict[tuple[str, int], dict[str, list[str]]] = {}

    def meant_by(self, names: Sequence[str], *, taken: Collection[str]) -> dict[str, str]:
        """Tell which file each name means, where exactly one fits that no other name has taken."""
        taken, meant = set(taken), {}
        for name in names:
            fitting = [file for file in self._fitting(name) if file not in taken]
            if len(fitting) == 1:
                meant[name] = fitting[0]
                taken.add(fitting[0])
        return meant

    def nearest(self, name: str) -> list[str]:
        """Tell which files a name may mean: all that fit, or else those with another suffix."""
        return sorted(self._fitting(name) or self._fitting(str(_path(name).with_suffix(""))))

    def _fitting(self, name: str) -> list[str]:
        places = [""]
        *folders, last = _path(name).parts or ("",)
        for part in folders:
            places = [f"{place}{found}/" for place in places for found in self._look_up(place, part, _FORMS[:2])]
        found = [f"{place}{there}" for place in places for there in self._look_up(place, last, _FORMS)]
        return [file for file in found if Path(self._folder, file).is_file()]

    def _look_up(self, place: str, name: str, forms: Sequence[Callable[[str], str]]) -> list[str]:
        for number, form in enumerate(forms):
            if (place, number) not in self._indices:
                index = self._indices[place, number] = {}
                for there in self._listed(place):
                    index.setdefault(form(there), []).append(there)
            wanted = _FORMS[min(number, 1)](name)  # the name as it is, also where suffixes are taken off the files
            if found := self._indices[place, number].get(wanted):
                return found
        return []

    def _listed(self, place: str) -> list[str]:
        if place not in self._listings:
            try:
                self._listings[place] = [there.name for there in Path(self._folder, place).iterdir()]
            except OSError:
                self._listings[place] = []
        return self._listings[place]


def _path(name: str) -> PurePosixPath:
    return PurePosixPath(name.replace("\\", "/"))


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _caseless(name: str) -> str:
    return _composed(name).casefold()


def _without_suffix(name: str) -> str:
    suffix = PurePosixPath(name).suffix
    return _caseless(name.removesuffix(suffix) if suffix.lower() in readable_suffixes() else name)


_FORMS = (_composed, _caseless, _without_suffix)  # from the nearest to the farthest
