"""The tables of published data sets: from cells of text to labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from mtattn.data.table.reading import Table, read_table
from mtattn.groups import Attribute, check_known
from mtattn.groups.kinds import name_of

_YES_AND_NO = {"1": 1, "0": 0, "": None}


def read_published(owner: str, file: Path, columns: Sequence[str], source: str) -> Table:
    """Read the csv of a data set and check its columns.

    Raises:
        FileNotFoundError: There is no such file; the message says where to get it.
        ValueError: It is no table, or a column is missing.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{owner}: needs {file.name}, found none in {file.parent}. {source}")
    table = read_table(file)
    check_known(f"{owner}: {file}", "column", columns, table.columns)
    return table


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
