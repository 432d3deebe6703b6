"""Read CelebA's tables, as text or as csv: one image name a row, then small whole numbers.

The whole file is parsed at once with numpy: 202,599 rows of 40 labels take about a second, line by line a dozen.
"""

import re
from codecs import BOM_UTF8
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, Int8, Shaped, UInt8

_SEPARATORS = {".txt": b" \t\r\n", ".csv": b',"\r\n'}
_NO_INTEGER = 127
_LONGEST_NAME = 1024


@dataclass(frozen=True)
class Table:
    """The rows of a file: image names as bytes, and a value for each column."""

    path: Path
    columns: tuple[str, ...]
    names: Shaped[np.ndarray, " image"]
    values: Int8[np.ndarray, "image column"]


def read_annotations(owner: str, path: Path) -> Table:
    """Read ``list_attr_celeba.txt`` (number of images, attribute names, rows) or its csv form (names, rows).

    Raises:
        ValueError: The file is no text, or breaks the form; the message names the line.
    """
    first, _, rest = _text(owner, path).partition(b"\n")
    if path.suffix == ".csv":
        table = _table(owner, path, _header(owner, path, first, line=1), rest, first_line=2, allowed=(-1, 0, 1))
    else:
        second, _, rows = rest.partition(b"\n")
        num_rows = _count(owner, path, first)
        table = _table(owner, path, _header(owner, path, second, line=2), rows, first_line=3, allowed=(-1, 0, 1))
        _check_count(owner, table, num_rows)
    ambiguous = (table.values == 0).any(0) & ~(table.values == -1).any(0)
    for column in np.flatnonzero(ambiguous)[:1]:
        more = f" and {ambiguous.sum() - 1} more" if ambiguous.sum() > 1 else ""
        raise ValueError(
            f"{owner}: -1 says that an image lacks an attribute and 0 that nobody knows, got 0 and no -1 for "
            f"{table.columns[column]!r}{more} in {path}; write -1 for 0, or delete a column that nobody has labelled."
        )
    return table


def read_partition(owner: str, path: Path) -> Table:
    """Read ``list_eval_partition.txt`` (rows) or its csv form (header, rows): 0 train, 1 valid, 2 test.

    Raises:
        ValueError: The file is no text, or breaks the form; the message names the line.
    """
    text = _text(owner, path)
    if path.suffix == ".csv":
        return _table(owner, path, ("partition",), text.partition(b"\n")[2], first_line=2, allowed=(0, 1, 2))
    return _table(owner, path, ("partition",), text, first_line=1, allowed=(0, 1, 2))


def _text(owner: str, path: Path) -> bytes:
    text = path.read_bytes().removeprefix(BOM_UTF8)
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{owner}: {path} must be UTF-8 text, got {error}; get the file again.") from error
    if b"\0" in text:
        raise ValueError(f"{owner}: {path} must be UTF-8 text, got a binary file; get the file again.")
    return text


def _count(owner: str, path: Path, line_text: bytes) -> int:
    if not line_text.strip().isdigit() or len(line_text.strip()) > 18:
        raise ValueError(
            f"{owner}: line 1 of {path} is the number of images, got {_excerpt(line_text.strip())}; "
            f"put the number of rows there and the attribute names into line 2."
        )
    return int(line_text)


def _check_count(owner: str, table: Table, num_rows: int) -> None:
    if num_rows != len(table.names):
        raise ValueError(
            f"{owner}: line 1 of {table.path} says how many rows follow, got {num_rows} and {len(table.names)} rows; "
            f"if the file is complete write {len(table.names)} there, else get the file again."
        )


def _header(owner: str, path: Path, line_text: bytes, *, line: int) -> tuple[str, ...]:
    if path.suffix == ".csv":
        names = [name.strip().strip('"') for name in line_text.decode().split(",")][1:]
    else:
        names = line_text.decode().split()
    if not all(names):
        raise ValueError(f"{owner}: an attribute has a name, got an empty one in line {line} of {path}; name it.")
    if not names:
        raise ValueError(f"{owner}: line {line} of {path} holds the attribute names, got none; get the file again.")
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise ValueError(
            f"{owner}: attribute names are unique, got {name!r} {count} times in line {line} of {path}; rename one."
        )
    return tuple(names)


def _table(
    owner: str, path: Path, columns: tuple[str, ...], rows: bytes, *, first_line: int, allowed: tuple[int, ...]
) -> Table:
    if path.suffix == ".csv" and (hole := re.search(rb",[ \t]*(?=,|\r?\n|$)", rows)):
        line = first_line + rows.count(b"\n", 0, hole.start())
        raise ValueError(f"{owner}: a row has no empty cell, got one in line {line} of {path}; write 0 for unlabelled.")
    chars = np.frombuffer(rows + b"\n", np.uint8)
    is_gap = np.isin(np.arange(256), list(_SEPARATORS[path.suffix]))[chars]
    edges = np.flatnonzero(np.diff(is_gap, prepend=True))
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    if not len(starts):
        raise ValueError(f"{owner}: {path} holds a row for each image, got none; get the file again.")
    lines = _lines(owner, path, np.searchsorted(starts, np.flatnonzero(chars == ord("\n"))), len(columns), first_line)

    starts, lengths = starts.reshape(-1, len(columns) + 1), lengths.reshape(-1, len(columns) + 1)
    names = _names(owner, path, rows, starts[:, 0], lengths[:, 0], lines)
    values = _integers(chars, starts[:, 1:], lengths[:, 1:])
    for row, column in np.argwhere(~np.isin(values, allowed))[:1]:
        start, length = starts[row, column + 1], lengths[row, column + 1]
        raise ValueError(
            f"{owner}: a value is {', '.join(map(str, allowed[:-1]))} or {allowed[-1]}, "
            f"got {_excerpt(chars[start : start + length].tobytes())} for {columns[column]!r} "
            f"in line {lines[row]} of {path}; correct or delete the row."
        )
    _check_unique(owner, path, names, lines)
    return Table(path, columns, names, values)


def _lines(
    owner: str, path: Path, cells_until: Int[np.ndarray, " line"], num_values: int, first_line: int
) -> Int[np.ndarray, " image"]:
    """Give the line number of each row, blank lines passed over, after a look at how many cells it has."""
    cells = np.diff(cells_until, prepend=0)
    rows = np.flatnonzero(cells)
    for row in rows[cells[rows] != num_values + 1][:1]:
        raise ValueError(
            f"{owner}: a row holds an image name and {num_values} value{'s' * (num_values > 1)}, "
            f"got {cells[row] - 1} in line {row + first_line} of {path}; correct or delete the row."
        )
    return rows + first_line


def _names(
    owner: str,
    path: Path,
    rows: bytes,
    starts: Int[np.ndarray, " image"],
    lengths: Int[np.ndarray, " image"],
    lines: Int[np.ndarray, " image"],
) -> Shaped[np.ndarray, " image"]:
    for row in np.flatnonzero(lengths > _LONGEST_NAME)[:1]:  # the array has the width of the longest name in each row
        raise ValueError(
            f"{owner}: an image name has at most {_LONGEST_NAME} bytes, got {lengths[row]} in line {lines[row]} of "
            f"{path}; correct or delete the row."
        )
    return np.array(
        [rows[start : start + length] for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)],
        np.bytes_,
    )


def _integers(
    chars: UInt8[np.ndarray, " char"], starts: Int[np.ndarray, "image column"], lengths: Int[np.ndarray, "image column"]
) -> Int8[np.ndarray, "image column"]:
    digits = chars[starts + lengths - 1].view(np.int8) - np.int8(ord("0"))
    is_negative = (lengths == 2) & (chars[starts] == ord("-"))
    is_integer = (digits >= 0) & (digits <= 9) & ((lengths == 1) | is_negative)
    values: Int8[np.ndarray, "image column"] = np.where(is_negative, -digits, digits)
    values[~is_integer] = _NO_INTEGER
    return values


def _check_unique(
    owner: str, path: Path, names: Shaped[np.ndarray, " image"], lines: Int[np.ndarray, " image"]
) -> None:
    order = np.argsort(names, kind="stable")
    same = np.flatnonzero(names[order][1:] == names[order][:-1])
    if same.size:
        first, second = order[same[0]], order[same[0] + 1]
        raise ValueError(
            f"{owner}: image names are unique, got {names[first].decode()!r} in lines {lines[first]} and "
            f"{lines[second]} of {path}; delete one of the rows."
        )


def _excerpt(text: bytes) -> str:
    shown = text.decode(errors="replace")
    return repr(shown if len(shown) <= 40 else f"{shown[:40]}...")
