"""The tables of published data sets: from cells of text to labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Shaped

from mtattn.data.table.images import check_names
from mtattn.data.table.reading import Table, read_table, refuse
from mtattn.data.table.values import meaning, target_of
from mtattn.groups import Attribute, check_known
from mtattn.groups.kinds import name_of

_YES_AND_NO = {"1": 1, "0": 0, "": None}


def read_published(owner: str, file: Path, columns: Sequence[str], source: str, *, kinds: Sequence[Attribute]) -> Table:
    """Read the csv of a data set and check its columns, the first of which names the images, and the cells of labels.

    Raises:
        FileNotFoundError: There is no such file; the message says where to get it.
        ValueError: It is no table, a column is missing, a cell says something else, or an image stands in it twice.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{owner}: needs {file.name}, found none in {file.parent}. {source}")
    table = read_table(file)
    check_known(f"{owner}: {file}", "column", columns, table.columns)
    check_names(table, columns[0], owner=owner)  # of all parts: an image of the training part is none to test on
    for kind in kinds:
        name = name_of(kind)
        cells = table.cells.get(name, ())
        wrong = {cell for cell in set(cells) if not _is_label(kind, cell)}
        refuse(
            table.source,
            f"{name!r} is {'1, 0 or empty' if isinstance(kind, str) else meaning(kind) + ', or empty'}",
            (f"{cell!r} in {table.where(row)}" for row, cell in enumerate(cells) if cell in wrong),
            "get the file again",
            owner=owner,
        )
    return table


def _is_label(kind: Attribute, cell: str) -> bool:
    return cell in _YES_AND_NO if isinstance(kind, str) else target_of(kind, cell) is not None


def labels_of(
    cells: Mapping[str, Sequence[Any]], kinds: Sequence[Attribute], rows: Int[np.ndarray, " row"]
) -> Shaped[np.ndarray, "row attribute"]:
    """Turn cells into the labels that ``AttributeImages`` takes; an empty cell is unknown.

    Example:
        >>> labels_of({"Hat": ["1", "0", ""]}, ["Hat"], np.array([2, 0])).tolist()
        [[None], [1]]
    """
    labels = np.empty((len(rows), len(kinds)), object)
    for place, kind in enumerate(kinds):
        column = cells[name_of(kind)]
        if isinstance(kind, str):
            labels[:, place] = [_YES_AND_NO.get(column[row], column[row]) for row in rows]
        else:
            labels[:, place] = [column[row] if column[row] != "" else None for row in rows]
    return labels


def one_of(labels: Mapping[str, Bool[np.ndarray, " image"]]) -> list[str]:
    """Give for each image the name of which alone it has the label; an empty cell where it has none or several.

    Example:
        >>> one_of({"front": np.array([True, True, False]), "back": np.array([False, True, False])})
        ['front', '', '']
    """
    of_image = np.stack(list(labels.values()), 1)
    chosen = np.array(list(labels))[of_image.argmax(1)]
    cells: list[str] = np.where(of_image.sum(1) == 1, chosen, "").tolist()
    return cells
