"""What the subcommands that take a table share: its options, its plan, and the data set that it makes."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

from mtattn.data import TableImages, skip_unreadable
from mtattn.data.table import Plan, Table, propose, read_plan, read_table
from mtattn.groups import check_known


def table_options(parser: ArgumentParser, *, attributes: bool = True) -> None:
    """Add the options that say which table, which pictures, and what the columns are; without ``attributes`` given."""
    parser.add_argument(
        "labels", type=Path, metavar="TABLE", help="a csv of any delimiter and encoding, or parquet; a row an image"
    )
    table = parser.add_argument_group("the table")
    table.add_argument(
        "--images",
        dest="folder",
        type=Path,
        metavar="FOLDER",
        help="the folder that image names are relative to; the folder of the table if left out",
    )
    table.add_argument("--config", type=Path, metavar="FILE.toml", help="what mtattn check --write-config wrote")
    for role, what in {
        "image": "of image names",
        "split": "that says train, valid or test",
        "person": "of what must not be in two parts: a person, a scene, a patient",
    }.items():
        table.add_argument(
            f"--{role}-column", metavar="NAME", help=f"the column {what}; found by its usual names if left out"
        )
    if not attributes:
        parser.set_defaults(attributes=None)
        return
    table.add_argument(
        "--attributes", nargs="+", metavar="NAME", help="the columns that are attributes; all that can be if left out"
    )


def planned(options: Namespace) -> tuple[Table, Plan]:
    """Read the table and the plan of its columns, or propose one."""
    table = read_table(options.labels)
    columns = {role: getattr(options, f"{role}_column") for role in ("image", "split", "person")}
    if options.config is None:
        return table, propose(table, **columns, attributes=options.attributes)
    if any(columns.values()) or options.attributes:
        raise ValueError("--config says what the columns are; leave the other options of the table out, or --config.")
    return table, read_plan(options.config)


def in_lines(*texts: str) -> str:
    """Break texts into lines of 80 characters where names allow it."""
    return "\n".join(fill(text, 80, subsequent_indent="  ", break_long_words=False) for text in texts)


def image_folder(options: Namespace) -> Path:
    """Give the folder of the images."""
    folder: Path = options.labels.absolute().parent if options.folder is None else options.folder
    return folder


def open_images(options: Namespace, table: Table, plan: Plan) -> TableImages:
    """Make the data set, without what is missing or unreadable if that is asked for."""
    missing = "skip" if options.skip_unreadable else "error"
    data = TableImages(table, image_folder(options), plan, missing=missing)
    return skip_unreadable(data) if options.skip_unreadable else data


def slice_option(parser: ArgumentParser) -> None:
    """Add the option that names columns by which scores are told apart."""
    parser.add_argument(
        "--slices",
        type=lambda text: [name.strip() for name in text.split(",")],
        default=[],
        metavar="COLUMN,COLUMN",
        help="tell the scores apart by the values of these columns of the table, such as gender,age",
    )


def slices_of(columns: Sequence[str], table: Table) -> dict[str, list[str]]:
    """Read the columns by which scores are told apart, before any picture is."""
    from mtattn.metrics.slices import check_slices  # noqa: PLC0415  needs the extra recipes, mtattn check does not

    check_known("--slices", f"column in {table.source}", columns, table.columns)
    found = {column: table.cells[column] for column in columns}
    check_slices("--slices", found)
    return found


def recorded_split(owner: str, run: str | Path) -> dict[str, str] | None:
    """Read from the split.csv of a run which image is in which part; None where there is no such file."""
    file = Path(run) / "split.csv"
    if not file.is_file():
        return None
    table = read_table(file)
    check_known(owner, f"column in {file}", ("image", "split"), table.columns)
    return dict(zip(table.cells["image"], table.cells["split"], strict=True))
