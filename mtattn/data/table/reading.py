"""From a file of any form, or a DataFrame, to cells of text under the names of their columns.

A csv is read by the standard library: of all readers it alone says in which line a cell stands, and guesses nothing.
"""

import csv
import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mtattn._extras import needed_by

DELIMITERS = ",;\t|"
MOST_CELLS = 2**26  # 1.6 million rows of 40 attributes
UNKNOWN = frozenset({"", "na", "n/a", "nan", "null", "none", "<na>", "#n/a", "nat"})
_SHOWN = 5
T = TypeVar("T")


@dataclass(frozen=True)
class Table:
    """The cells of a table, as text without spaces at their ends; an empty one is unknown.

    Args:
        source: The file's path, or "the DataFrame".
        cells: The cells of each column.
        lines: Where each row stands in the file, counted from 1; of a DataFrame the row, counted from 0.
        notes: What was not as expected, and how it was read.
    """

    source: str
    cells: dict[str, list[str]]
    lines: list[int]
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(self.cells)

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.lines)

    def where(self, row: int) -> str:
        """Say where a row stands."""
        return f"{'line' if self.source != 'the DataFrame' else 'row'} {self.lines[row]}"


def read_table(source: "str | os.PathLike[str] | Any") -> Table:
    r"""Read a csv of any delimiter and encoding, a parquet file, or a pandas DataFrame.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no table; the message names lines and columns.
        ImportError: A parquet file needs the extra ``tables``.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "labels.csv")
        >>> _ = file.write_text("image;Smiling;Age\nann.jpg;yes;30\nbob.jpg;NA;41\n")
        >>> read_table(file).cells
        {'image': ['ann.jpg', 'bob.jpg'], 'Smiling': ['yes', ''], 'Age': ['30', '41']}
    """
    if not isinstance(source, str | os.PathLike):
        return _of_frame("the DataFrame", source, range(len(source)))
    file = Path(source).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"read_table: no file {file.absolute()}.")
    if file.suffix.lower() in (".parquet", ".pq"):
        with needed_by("read_table", extra="tables"):
            import pandas  # noqa: F401, PLC0415
            import pyarrow  # noqa: F401, PLC0415
        try:
            frame = _of_parquet(file)
            return _of_frame(str(file), frame, range(1, len(frame) + 1))
        except Exception as error:  # pyarrow's own
            if str(error).startswith("read_table: "):
                raise
            raise ValueError(f"read_table: {file} is no parquet file that can be read ({error}).") from error
    if file.suffix.lower() in (".xls", ".xlsx", ".ods"):
        raise ValueError(f"read_table: takes a csv or parquet, got the spreadsheet {file}; save the sheet as csv.")
    return _of_text(file)


def refuse(source: str, rule: str, faults: Iterable[str], way_out: str, *, owner: str = "read_table") -> None:
    """Tell all faults of one kind at once, the first few of them in words.

    Raises:
        ValueError: There is one.
    """
    found = list(faults)
    if found:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise ValueError(f"{owner}: {rule}, got {', '.join(found[:_SHOWN])}{more} in {source}; {way_out}.")


def _of_parquet(file: Path) -> Any:
    """Unpack a parquet file piece by piece, because room is made for as many rows as it says it has.

    Raises:
        ValueError: It unpacks to more than anybody's table: a small one can hold billions of rows.
    """
    import pyarrow.parquet  # noqa: PLC0415

    with pyarrow.parquet.ParquetFile(file) as opened:
        num_columns, pieces = len(opened.schema_arrow), []
        _check_size(file, opened.metadata.num_rows, num_columns)
        for piece in opened.iter_batches():
            pieces.append(piece)
            _check_size(file, sum(map(len, pieces)), num_columns)  # what a damaged file says need not be what it holds
        return pyarrow.Table.from_batches(pieces, opened.schema_arrow).to_pandas()


def _check_size(file: Path, num_rows: int, num_columns: int) -> None:
    if num_rows * num_columns > MOST_CELLS:
        raise ValueError(
            f"read_table: a table has at most {MOST_CELLS:,} cells, got {num_rows:,} rows of {num_columns:,} in "
            f"{file}; part it."
        )


def _of_text(file: Path) -> Table:
    text, notes = _decoded(file)
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(DELIMITERS, key=first.count)
    rows: list[tuple[int, list[str]]] = []
    reader, line = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True), 1
    try:
        for cells in reader:
            rows.append((line, [cell.strip() for cell in cells]))
            line = reader.line_num + 1  # of a row with a line break in quotes the first
    except csv.Error as error:
        raise ValueError(f"read_table: {file} is no csv, got {error} in line {line}; correct the line.") from error
    rows = [(line, cells) for line, cells in rows if any(cells)]  # blank lines are passed over
    if len(rows) < 2:
        raise ValueError(
            f"read_table: a table has a header and rows, got {len(rows)} lines that are not empty in {file}."
        )
    (_, header), *body = rows
    width = len(header)
    while (
        width > 1 and not header[width - 1] and not any(cell for _, cells in body for cell in cells[width - 1 : width])
    ):
        width -= 1  # a delimiter at every line's end makes a column of nothing
    refuse(
        str(file),
        f"a row has as many cells as the header, {width}",
        (f"{len(cells)} in line {line}" for line, cells in body if len(cells) < width or any(cells[width:])),
        "correct these lines; a cell that holds the delimiter stands in quotes",
    )
    columns = [list(column) for column in zip(*(cells[:width] for _, cells in body), strict=True)]
    words = {
        f"{cell!r} in {name!r}": column.count(cell)
        for name, column in zip(header, columns, strict=False)
        for cell in dict.fromkeys(column)
        if cell.lower() in ("none", "null")
    }
    if words:  # in some tables a value, such as no glasses
        told = ", ".join(f"{what} ({count})" for what, count in words.items())
        notes = (*notes, f"cells read as unknown: {told}; if that is a value, write another word there")
    columns = [each_once(_known, column) for column in columns]
    if not header[0] and columns[0] == [str(index) for index in range(len(body))]:
        header, columns = header[1:], columns[1:]
        width, notes = width - 1, (*notes, f"column 1 of {file} counts the rows, as pandas writes it, and was left out")
    names = _checked_names(str(file), [" ".join(name.split()) for name in header[:width]])
    return Table(str(file), dict(zip(names, columns, strict=True)), [line for line, _ in body], notes)


def _of_frame(source: str, frame: Any, lines: Sequence[int]) -> Table:
    if not hasattr(frame, "columns") or not len(frame):
        raise ValueError(f"read_table: takes a file or a DataFrame with rows, got {type(frame).__name__} {source}.")
    names = _checked_names(source, [str(name) for name in frame.columns])
    cells = {name: [_as_text(value) for value in frame.iloc[:, index]] for index, name in enumerate(names)}
    return Table(source, cells, list(lines))


def _decoded(file: Path) -> tuple[str, tuple[str, ...]]:
    data = file.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):  # what a spreadsheet calls Unicode text
        try:
            return data.decode("utf-16"), ()
        except UnicodeDecodeError as error:
            raise ValueError(f"read_table: {file} begins as UTF-16 and is none ({error}); save it as UTF-8.") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        note = (
            f"{file} is no UTF-8 (line {line}), so it was read as Windows-1252; if names look wrong, save it as UTF-8"
        )
        return data.decode("cp1252", errors="replace"), (note,)
    if "\0" in text:
        raise ValueError(f"read_table: {file} is text or parquet, got a binary file; save the table as csv.")
    return text, ()


def _checked_names(source: str, header: Sequence[str]) -> list[str]:
    refuse(
        source,
        "a column has a name",
        (f"none for column {place}" for place, name in enumerate(header, start=1) if not name),
        "name or delete these columns",
    )
    counts = Counter(header)
    refuse(
        source,
        "column names are unique",
        (f"{name!r} {count} times" for name, count in counts.items() if count > 1),
        "rename or delete columns",
    )
    return list(header)


def each_once(read: Callable[[str], T], cells: Sequence[str]) -> list[T]:
    """Read the cells of a column, each different text once: a column has many rows and few texts.

    Example:
        >>> each_once(str.upper, ["yes", "no", "yes"])
        ['YES', 'NO', 'YES']
    """
    meanings = {cell: read(cell) for cell in set(cells)}
    return [meanings[cell] for cell in cells]


def _known(cell: str) -> str:
    return "" if cell.lower() in UNKNOWN else cell


def _as_text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return _known(str(value).strip())
