"""A csv of your own: image names and attributes."""

import csv
import math
from collections import Counter
from collections.abc import Iterable
from io import StringIO
from pathlib import Path
from typing import NamedTuple

_ZERO, _MINUS = ("0", "0.0"), ("-1", "-1.0")
_VALUES = {
    **dict.fromkeys(("1", "1.0", "true", "yes"), 1),
    **dict.fromkeys((*_ZERO, *_MINUS, "false", "no"), -1),
    **dict.fromkeys(("", "na", "n/a", "<na>", "nan", "null", "none"), math.nan),
}
_SHOWN = 5


class CsvLabels(NamedTuple):
    """What a csv says, in the form that ``AttributeImages`` takes.

    Attributes:
        names: The image names.
        labels: 1 where an image has the attribute, -1 where it has not, NaN where nobody knows; a row an image.
        attributes: The names of the label columns.
    """

    names: list[str]
    labels: list[list[float]]
    attributes: list[str]


class _Row(NamedTuple):
    line: int
    cells: list[str]


def read_csv_labels(file: str | Path) -> CsvLabels:
    r"""Read a csv: a header, a column of image names, then a column for each attribute.

    A value is 1, true or yes; 0, false, no, or -1; or empty, NA, NaN, null or none where nobody knows, in capital
    letters or not. Columns are separated by commas, semicolons or tabs. What pandas and spreadsheets write is read as
    it is: 1.0 for 1, a byte order mark, a nameless column without values at the end.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no such csv; the message names lines and columns, of all faults of one kind.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "labels.csv")
        >>> _ = file.write_text("image,Smiling,Young\nann.jpg,1,\nbob.jpg,0,1\n")
        >>> read_csv_labels(file)
        CsvLabels(names=['ann.jpg', 'bob.jpg'], labels=[[1, nan], [-1, 1]], attributes=['Smiling', 'Young'])
    """
    header, rows = _read_rows(file)
    width = len(header)
    while (
        width > 2 and not header[width - 1] and not any(cell for row in rows for cell in row.cells[width - 1 : width])
    ):
        width -= 1  # a separator at every line's end makes a column of nothing
    header, rows = header[:width], [_without_empty_end(row, width) for row in rows]
    _check_header(file, header)
    _check_rows(file, header, rows)
    labels = [[_VALUES[cell.lower()] for cell in row.cells[1:]] for row in rows]
    return CsvLabels([row.cells[0] for row in rows], labels, header[1:])


def _without_empty_end(row: _Row, width: int) -> _Row:
    return row if any(row.cells[width:]) else _Row(row.line, row.cells[:width])


def _read_rows(file: str | Path) -> tuple[list[str], list[_Row]]:
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"read_csv_labels: {file} must be UTF-8 text, got {error}; save it as UTF-8.") from error
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator)
    rows, line = [], 1
    try:
        for cells in reader:
            rows.append(_Row(line, [cell.strip() for cell in cells]))
            line = reader.line_num + 1  # of a row with a line break in quotes the first
    except csv.Error as error:
        raise ValueError(f"read_csv_labels: {file} is no csv, got {error} in line {line}; correct the line.") from error
    rows = [row for row in rows if any(row.cells)]  # blank lines are passed over
    if not rows or len(rows[0].cells) < 2:
        raise ValueError(
            f"read_csv_labels: line 1 of {file} names the image column and at least one attribute, "
            f"separated by commas, semicolons or tabs, got {first[:80]!r}."
        )
    return rows[0].cells, rows[1:]


def _check_header(file: str | Path, header: list[str]) -> None:
    _refuse(
        file,
        "an attribute has a name",
        (f"none for column {place}" for place, name in enumerate(header[1:], start=2) if not name),
        "name or delete these columns",
    )
    counts = Counter(header[1:])
    _refuse(
        file,
        "attribute names are unique",
        (f"{name!r} {count} times" for name, count in counts.items() if count > 1),
        "rename or delete columns",
    )


def _check_rows(file: str | Path, header: list[str], rows: list[_Row]) -> None:
    width, names = len(header), f"the first column ({header[0]!r})"
    _refuse(
        file,
        f"a row has an image name and {width - 1} value{'s' * (width > 2)}",
        (f"{len(row.cells) - 1} in line {row.line}" for row in rows if len(row.cells) != width),
        "correct or delete the rows",
    )
    _refuse(
        file,
        f"an image has a name, in {names}",
        (f"none in line {row.line}" for row in rows if not row.cells[0]),
        "name the files or delete the rows",
    )
    lines: dict[str, list[str]] = {}
    for row in rows:
        lines.setdefault(row.cells[0], []).append(str(row.line))
    _refuse(
        file,
        f"image names, in {names}, are unique",
        (f"{name!r} in lines {' and '.join(at)}" for name, at in lines.items() if len(at) > 1),
        "delete rows",
    )
    cells = [(row.line, name, cell) for row in rows for name, cell in zip(header[1:], row.cells[1:], strict=True)]
    _refuse(
        file,
        "a value is 1, 0 or empty (unknown)",
        (f"{cell!r} for {name!r} in line {line}" for line, name, cell in cells if cell.lower() not in _VALUES),
        "correct the values, or delete columns that are no attributes",
    )
    both = {name for _, name, cell in cells if cell in _MINUS} & {name for _, name, cell in cells if cell in _ZERO}
    _refuse(
        file,
        "a column says no by 0 or by -1",
        (f"both for {name!r}" for name in header if name in both),
        "leave the cell empty where nobody knows",
    )


def _refuse(file: str | Path, rule: str, faults: Iterable[str], way_out: str) -> None:
    """Tell all faults of one kind at once, the first few of them in words."""
    found = list(faults)
    if found:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise ValueError(f"read_csv_labels: {rule}, got {', '.join(found[:_SHOWN])}{more} in {file}; {way_out}.")
