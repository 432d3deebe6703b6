"""A table of your own, with a row an image, in whatever form it comes: read, looked at, and made a data set of."""

from mtattn.data.table.checking import Findings, check_table
from mtattn.data.table.images import TableImages
from mtattn.data.table.plan import Plan, propose, read_plan, write_plan
from mtattn.data.table.reading import Table, read_table
from mtattn.data.table.splitting import balanced_parts

__all__ = [
    "Findings",
    "Plan",
    "Table",
    "TableImages",
    "balanced_parts",
    "check_table",
    "propose",
    "read_plan",
    "read_table",
    "write_plan",
]
