"""A csv of your own: image names and attributes."""

import csv
from pathlib import Path
from typing import NamedTuple

_VALUES = {"1": 1, "0": -1, "": 0}


class CsvLabels(NamedTuple):
    """What a csv says, in the form that ``AttributeImages`` takes.

    Attributes:
        names: The image names.
        labels: 1 where an image has the attribute, -1 where it has not, 0 where nobody knows; a row an image.
        attributes: The names of the label columns.
    """

    names: list[str]
    labels: list[list[int]]
    attributes: list[str]


def read_csv_labels(file: str | Path) -> CsvLabels:
    r"""Read a csv: a header, a column of image names, then a column for each attribute, 1, 0, or empty for unknown.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no such csv; the message names the line.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "labels.csv")
        >>> _ = file.write_text("image,Smiling,Young\nann.jpg,1,\nbob.jpg,0,1\n")
        >>> read_csv_labels(file)
        CsvLabels(names=['ann.jpg', 'bob.jpg'], labels=[[1, 0], [-1, 1]], attributes=['Smiling', 'Young'])
    """
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"read_csv_labels: {file} must be UTF-8 text, got {error}; save it as UTF-8.") from error
    lines = list(enumerate(csv.reader(text.splitlines()), start=1))
    header = lines[0][1] if lines else []
    rows = [(number, row) for number, row in lines[1:] if any(row)]  # blank lines are passed over
    attributes = [name.strip() for name in header[1:]]
    if not attributes or not all(attributes):
        raise ValueError(
            f"read_csv_labels: line 1 of {file} names the image column and at least one attribute, "
            f"separated by commas, got {','.join(header)!r}."
        )
    return CsvLabels(
        [row[0].strip() for _, row in rows],
        [_labels(file, number, row, len(attributes)) for number, row in rows],
        attributes,
    )


def _labels(file: str | Path, number: int, row: list[str], num_attributes: int) -> list[int]:
    if len(row) != num_attributes + 1:
        raise ValueError(
            f"read_csv_labels: a row has an image name and {num_attributes} values, "
            f"got {len(row) - 1} values in line {number} of {file}."
        )
    values = [value.strip() for value in row[1:]]
    for value in values:
        if value not in _VALUES:
            raise ValueError(
                f"read_csv_labels: a value is 1, 0 or empty (unknown), got {value!r} in line {number} of {file}."
            )
    return [_VALUES[value] for value in values]
