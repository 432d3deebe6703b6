"""A csv of your own: image names and attributes."""

import warnings
from pathlib import Path
from typing import NamedTuple

from mtattn.data.table.images import check_names, targets
from mtattn.data.table.plan import Plan
from mtattn.data.table.reading import read_table
from mtattn.groups import AttributeGroups


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


def read_csv_labels(file: str | Path) -> CsvLabels:
    r"""Read a csv: a header, a column of image names, then a column for each attribute.

    A value is 1, true or yes; 0, false, no, or -1; or empty, NA, NaN, null or none where nobody knows, in capital
    letters or not. The file is read as :func:`mtattn.data.table.read_table` reads
    it; what it had to guess is a warning. :class:`mtattn.data.TableImages` takes other kinds of columns too.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no such csv; the message names lines and columns, of all faults of one kind.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "labels.csv")
        >>> _ = file.write_text("image,Smiling,Young\nann.jpg,1,\nbob.jpg,0,1\n")
        >>> read_csv_labels(file)
        CsvLabels(names=['ann.jpg', 'bob.jpg'], labels=[[1.0, nan], [-1.0, 1.0]], attributes=['Smiling', 'Young'])
    """
    table = read_table(file)
    for note in table.notes:
        warnings.warn(f"read_csv_labels: {note}.", stacklevel=2)
    image, *attributes = table.columns
    if not attributes:
        raise ValueError(f"read_csv_labels: line 1 of {file} names the image column and an attribute, got {image!r}.")
    check_names(table, image, owner="read_csv_labels")
    found = targets(table, Plan(image, AttributeGroups({name: [name] for name in attributes})), owner="read_csv_labels")
    return CsvLabels(table.cells[image], found.where(found != 0, -1).tolist(), attributes)
