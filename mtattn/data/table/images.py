"""TableImages: the images and targets that a table tells of."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from mtattn.data.dataset import AttributeImages
from mtattn.data.table.plan import Plan, propose
from mtattn.data.table.reading import Table, each_once, read_table, refuse
from mtattn.data.table.values import MINUS, NO, PART_OF, PARTS, meaning, target_of
from mtattn.groups import check_known


class TableImages(AttributeImages):
    r"""Images and targets from a table of your own; everything is read by name, never by position.

    Args:
        table: A csv of any delimiter and encoding, a parquet file, a DataFrame, or a :class:`~mtattn.data.table.Table`.
        folder: The folder that the image names are relative to.
        plan: What each column is; proposed from names and values if None.
        transform: Turns the PIL image into what a model takes.
        missing: What to do about images that are not there: "error" stops, "skip" warns and leaves them out.

    Attributes:
        plan: What each column is.
        rows: Which row of the table each image is.
        parts: "train", "valid" or "test" for each image, where the table says it; else None.
        persons: Who each image shows, where the table says it; else None. Nobody knows whom "" shows.

    Raises:
        ValueError: The table has faults; the message names line, column and the way out, for all of one kind.
        FileNotFoundError: The table, the folder or an image is missing.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("ann.png", "bob.png"):
        ...     Image.new("RGB", (8, 8)).save(folder / name)
        >>> _ = (folder / "labels.csv").write_text("image;Smiling;age\nann.png;yes;31\nbob.png;;54\n")
        >>> data = TableImages(folder / "labels.csv", folder)
        >>> data.targets
        tensor([[ 1., 31.],
                [nan, 54.]])
    """

    def __init__(
        self,
        table: "Table | str | os.PathLike[str] | Any",
        folder: str | Path,
        plan: Plan | None = None,
        *,
        transform: Callable[[Any], Any] | None = None,
        missing: str = "error",
    ) -> None:
        table = table if isinstance(table, Table) else read_table(table)
        self.plan = plan = propose(table) if plan is None else plan
        check_known("TableImages", f"column in {table.source}", _needed(plan), table.columns)
        self.rows = np.arange(len(table))
        self.parts = None if plan.split is None else np.array(_parts(table, plan.split))
        self.persons = None if plan.person is None else np.array(table.cells[plan.person])
        super().__init__(
            folder,
            _names(table, plan.image, Path(folder)),
            targets(table, plan).numpy(),
            plan.groups.kinds,
            transform=transform,
            missing=missing,
        )

    def part(self, name: str) -> AttributeImages:
        """Return the images of a part that the table names.

        Raises:
            ValueError: The table names no parts, or none of this name.
        """
        check_known("TableImages", "part", [name], tuple(PARTS))
        indices = [] if self.parts is None else np.flatnonzero(self.parts == name).tolist()
        if not indices:
            raise ValueError(f"TableImages: the split column names an image of part {name!r}, got none.")
        return self.subset(indices)

    def _read_targets(self, labels: Any, attributes: Any, zero: Any) -> Float[Tensor, "image attribute"]:  # noqa: ARG002
        return torch.as_tensor(labels)  # read already, each by its kind

    def _select(self, indices: Shaped[np.ndarray, " image"]) -> None:
        super()._select(indices)
        self.rows = self.rows[indices]
        self.parts = None if self.parts is None else self.parts[indices]
        self.persons = None if self.persons is None else self.persons[indices]


def targets(table: Table, plan: Plan, *, owner: str = "TableImages") -> Float[Tensor, "image attribute"]:
    """Read the targets of all attributes.

    Raises:
        ValueError: A cell says something else; all of them are told at once.
    """
    columns, faults, rules = [], [], []
    for kind, name in zip(plan.groups.kinds, plan.groups.attributes, strict=True):
        read = each_once(partial(target_of, kind), table.cells[name])
        wrong = [row for row, value in enumerate(read) if value is None]
        faults += [f"{table.cells[name][row]!r} for {name!r} in {table.where(row)}" for row in wrong]
        rules += [f"{name!r} is {meaning(kind)}"] * bool(wrong)
        columns.append([0.0 if value is None else value for value in read])
    refuse(
        table.source,
        f"a cell is empty where nobody knows, and else what its column is ({'; '.join(rules)})",
        faults,
        "correct the cells, or change what the column is in a file of mtattn check --write-config",
        owner=owner,
    )
    refuse(
        table.source,
        "a column says no by 0 or by -1",
        (f"both for {name!r}" for name in _binary(plan) if _says_no_twice(table.cells[name])),
        "leave the cell empty where nobody knows",
        owner=owner,
    )
    return torch.tensor(columns, dtype=torch.float32).T.contiguous()


def _binary(plan: Plan) -> list[str]:
    return [kind for kind in plan.groups.kinds if isinstance(kind, str)]


def _says_no_twice(cells: list[str]) -> bool:
    values = {cell.lower() for cell in set(cells)}
    return bool(values & NO) and bool(values & MINUS)


def _needed(plan: Plan) -> list[str]:
    roles = [column for column in (plan.image, plan.split, plan.person) if column is not None]
    return [*roles, *plan.groups.attributes]


def check_names(table: Table, column: str, *, owner: str = "TableImages") -> None:
    """Refuse rows without an image name, and names that stand twice."""
    cells = table.cells[column]
    rows: dict[str, list[int]] = {}
    for row, cell in enumerate(cells):
        rows.setdefault(cell, []).append(row)
    refuse(
        table.source,
        f"every row names an image in column {column!r}",
        (f"none in {table.where(row)}" for row in rows.pop("", [])),
        "name the image or delete the row",
        owner=owner,
    )
    refuse(
        table.source,
        f"image names, in column {column!r}, are unique",
        (f"{name!r} in {' and '.join(map(table.where, at))}" for name, at in rows.items() if len(at) > 1),
        "delete or join the rows",
        owner=owner,
    )


def _names(table: Table, column: str, folder: Path) -> list[str]:
    check_names(table, column)
    cells = table.cells[column]
    whole = folder.expanduser().absolute()
    names = [_relative(cell, whole) for cell in cells]
    refuse(
        table.source,
        f"an image lies in the folder, {whole}",
        (f"{cells[row]!r} in {table.where(row)}" for row, name in enumerate(names) if name is None),
        "give the folder that holds all images",
        owner="TableImages",
    )
    return [name for name in names if name is not None]


def _relative(name: str, folder: Path) -> str | None:
    """Write a name relative to the folder; None if it leads out of it."""
    path = Path(name)
    if path.is_absolute():
        return str(path.relative_to(folder)) if path.is_relative_to(folder) else None
    anywhere = PureWindowsPath(name)  # reads both kinds of slashes
    if anywhere.is_absolute() or ".." in anywhere.parts:
        return None
    return name


def _parts(table: Table, column: str) -> list[str]:
    cells = table.cells[column]
    refuse(
        table.source,
        f"column {column!r} says train, valid or test",
        (f"{cell!r} in {table.where(row)}" for row, cell in enumerate(cells) if cell.lower() not in PART_OF),
        "correct the cells, or name another column with split=, on the command line --split-column",
        owner="TableImages",
    )
    return [PART_OF[cell.lower()] for cell in cells]
