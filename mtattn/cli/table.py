"""What the subcommands that take a table share: its options, its plan, and the data set that it makes."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from mtattn.data import TableImages, skip_unreadable
from mtattn.data.table import Plan, Table, propose, read_plan, read_table


def table_options(parser: ArgumentParser) -> None:
    """Add the options that say which table, which pictures, and what the columns are."""
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


def image_folder(options: Namespace) -> Path:
    """Give the folder of the images."""
    folder: Path = options.labels.absolute().parent if options.folder is None else options.folder
    return folder


def open_images(options: Namespace, table: Table, plan: Plan) -> TableImages:
    """Make the data set, without what is missing or unreadable if that is asked for."""
    missing = "skip" if options.skip_unreadable else "error"
    data = TableImages(table, image_folder(options), plan, missing=missing)
    return skip_unreadable(data) if options.skip_unreadable else data
