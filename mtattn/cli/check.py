"""mtattn check."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from textwrap import wrap

from mtattn._arguments import HelpFormatter
from mtattn.cli.table import image_folder, in_lines, planned, table_options
from mtattn.data.table import Findings, check_table, write_plan
from mtattn.data.table.checking import LabelCounts
from mtattn.groups import Number
from mtattn.report.check import write_check


def parser(prog: str) -> ArgumentParser:
    """Make the parser of the subcommand."""
    parser = ArgumentParser(
        prog,
        description="Look at a table and its pictures before anybody trains: labels, pictures, persons, parts. "
        "It ends with 1 where something has to be fixed first.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    table_options(parser)
    parser.add_argument(
        "--write-config", type=Path, metavar="FILE.toml", help="write what each column is, to be changed and given back"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page too, with pictures of what is rare")
    return parser


def main(options: Namespace) -> None:
    """Check, and tell."""
    for file in (options.write_config, options.html):
        if file is not None and file.exists():
            raise FileExistsError(f"{file} exists already; move it away, or give another file.")
    table, plan = planned(options)
    print(in_lines(*table.notes, *plan.describe()))
    if options.write_config is not None:
        write_plan(options.write_config, plan)
        print(f"the columns: {options.write_config}; change it and give it to --config")
    findings = check_table(table, image_folder(options), plan)
    print()
    print_findings(findings)
    if options.html is not None:
        write_check(options.html, findings, title=options.labels.name)
        print(f"page: {options.html}")
    if findings.problems:
        sys.exit(1)


def print_findings(findings: Findings) -> None:
    """Print all that was found, in lines of 80 characters where names allow it."""
    parts = ", ".join(f"{count} {name}" for name, count in findings.parts.items())
    print(f"{findings.images} pictures" + (f": {parts}" if parts else ""))
    width = min(max(map(len, findings.attributes)), 32)
    for name, found in findings.attributes.items():
        print(*wrap(f"  {name:{width}}  {_summary(found)}", 80, subsequent_indent=" " * (width + 4)), sep="\n")
    for title, told in (("to be fixed", findings.problems), ("good to know", findings.warnings)):
        if told:
            print(f"\n{title}:")
        for text in told:
            print(in_lines(f"- {text}"))
    if findings.groups:
        print("\nlabels that go together, and may make groups:")
        for group in findings.groups:
            print(in_lines(f"- {', '.join(group)}"))
    print("\n" + verdict(findings))


def verdict(findings: Findings) -> str:
    """Say in one line whether to train."""
    if findings.problems:
        return f"{len(findings.problems)} to be fixed before training means anything."
    return "Nothing stands in the way of training."


def _summary(found: LabelCounts) -> str:
    missing = f", {found.missing} unknown" if found.missing else ""
    if isinstance(found.kind, Number):
        told = ", ".join(f"{name} {value:g}" for name, value in found.values.items())
    elif isinstance(found.kind, str):
        told = f"{found.values['yes']:.0f} yes ({found.values['yes'] / max(found.labels, 1):.1%})"
    else:
        told = ", ".join(f"{name} {count:.0f}" for name, count in found.values.items())
    by_part = ", ".join(f"{count} {name}" for name, count in found.parts.items()) if isinstance(found.kind, str) else ""
    return f"{told}{missing}" + (f" [{by_part}]" if by_part else "")
