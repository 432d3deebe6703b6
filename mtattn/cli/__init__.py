"""The command ``mtattn``: one file a subcommand, each of them thin over what Python can call.

A subcommand's file has ``parser()`` and ``main(options)``, and imports what is heavy only when that is used:
``mtattn --help`` answers at once.
"""

import platform
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

COMMANDS = {
    "check": "look at a table and its pictures before anybody trains",
    "train": "train on a table of your own; leaves a model, metrics and a report",
    "evaluate": "score a trained model on a table, in parts too, such as by gender",
    "predict": "the attributes of pictures and folders, as tables or as a csv",
    "export": "write a trained model as one ONNX file that runs without torch",
    "serve": "answer with a trained model over HTTP, with a page to try it on",
}
STANDS_ON = ("torch", "torchvision", "timm", "torchmetrics", "accelerate", "onnxruntime", "pillow", "numpy")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; an error of the user's ends in one line that says what to do, not in a traceback."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name not in COMMANDS:
        _overview(name)
        return
    command = import_module(f"mtattn.cli.{name}")
    parser: ArgumentParser = command.parser(f"mtattn {name}")
    options: Namespace = parser.parse_args(rest)
    try:
        command.main(options)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"{parser.prog}: {str(error).removeprefix(f'{parser.prog}: ')}")
    except KeyboardInterrupt:
        sys.exit(f"{parser.prog}: stopped.")


def _overview(argument: str) -> None:
    width = max(map(len, COMMANDS))
    told = "\n".join(f"  {name:{width}}  {does}" for name, does in COMMANDS.items())
    parser = ArgumentParser(
        prog="mtattn",
        usage="mtattn COMMAND ...",
        description=f"Attributes of pictures, from a table of your own to a served model.\n\ncommands:\n{told}",
        epilog="mtattn COMMAND --help explains a command.",
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=versions(), help="of mtattn and what it stands on")
    if not argument.startswith("-"):
        near = get_close_matches(argument, COMMANDS, n=1)
        parser.error(f"no command {argument!r}; " + (f"did you mean {near[0]!r}?" if near else "see mtattn --help."))
    parser.parse_args([argument])


def versions() -> str:
    """Tell the versions that a report of an error needs, without importing anything."""
    stands_on = [f"{package} {_version(package)}" for package in STANDS_ON]
    return f"mtattn {_version('mtattn')} (python {platform.python_version()}, {', '.join(stands_on)})"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
