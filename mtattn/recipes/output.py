"""The folder of a run: whose it is, and what the run was begun with."""

import json
import os
import shutil
import tempfile
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtattn._files import write_whole
from mtattn.training import processes
from mtattn.training.lock import LOCK_FILE, lock_folder

SETTINGS_FILE = "settings.json"
RUN_FILES = ("metrics.json", "metrics.csv", "report.html", "split.csv")
RUN_FOLDERS = ("checkpoints", "model")
MAY_CHANGE_ON_RESUME = {"output", "resume", "overwrite", "workers", "skip_unreadable", "mirror"}
REPLACED = "replaced"  # where a run waits that --overwrite replaces, until the new one is finished


def check_output(options: Namespace) -> Path:
    """Find out whether the output folder may be used, and change nothing.

    Raises:
        ValueError: The folder holds a run and neither ``resume`` nor ``overwrite`` was asked for, the settings differ
            from those of the run to resume, or the folder holds something else or cannot be written to.
    """
    output: Path = options.output
    there = next(place for place in (output, *output.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        why = "may not be written to" if there.is_dir() else "is no folder"
        raise ValueError(f"{output} cannot hold a run, {there} {why}; give another --output.")
    before = output / SETTINGS_FILE
    was_ours = before.is_file()
    kept = [name for name in (*RUN_FILES, *RUN_FOLDERS) if (output / name).exists()]
    if was_ours and kept not in ([], ["split.csv"]):  # the split alone: what began there was refused before it trained
        if options.resume:
            _check_same_settings(before, _settings(options))
        elif not options.overwrite:
            raise ValueError(
                f"{output} already holds a run; go on with --resume, replace it with --overwrite, "
                f"or give another --output."
            )
    elif not was_ours and output.exists() and any(file.name != LOCK_FILE for file in output.iterdir()):
        raise ValueError(f"{output} is not empty and holds no run, so it is left alone; give another --output.")
    return output


def open_output(options: Namespace) -> None:
    """Make the output folder, set a run aside that is to be replaced, and note the settings; call it last.

    Of several processes the first does this, when all have found the folder to be free. No other run can then begin
    there until :func:`~mtattn.recipes.run_recipe` ends or the process does.

    Raises:
        ValueError: Another run is at work there, or was meanwhile.

    Example:
        >>> options = Namespace(output=Path(tempfile.mkdtemp(), "run"), resume=False, overwrite=False, seed=0)
        >>> check_output(options) == options.output
        True
        >>> open_output(options)
        >>> sorted(file.name for file in options.output.iterdir())
        ['.lock', 'settings.json']
    """
    lock_folder(options.output)
    check_output(options)  # once more: nobody else can change it now
    processes().wait_for_everyone()
    if processes().is_main_process:
        if options.overwrite:
            _set_aside(options.output)
        write_whole(options.output / SETTINGS_FILE, json.dumps(_settings(options), indent=2) + "\n")
    processes().wait_for_everyone()


def _settings(options: Namespace) -> dict[str, Any]:
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    return settings | {"num_processes": processes().num_processes}


def _check_same_settings(file: Path, now: Mapping[str, Any]) -> None:
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(before, dict):
            raise ValueError("it holds no settings")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged or cut short ({error}); start again with --overwrite.") from error
    for name in sorted((before.keys() | now.keys()) - MAY_CHANGE_ON_RESUME):
        if before.get(name) != now.get(name):
            raise ValueError(
                f"{file.parent} was begun with {name}={before.get(name)}, got {now.get(name)}; "
                f"a run resumes with the settings it was begun with."
            )


def _set_aside(output: Path) -> None:
    """Move a run away, or delete it if a run that it was to replace is already waiting: then it never got far."""
    waiting = output / REPLACED
    place = Path(tempfile.mkdtemp(dir=output, prefix=".")) if waiting.is_dir() else waiting
    place.mkdir(parents=True, exist_ok=True)
    for name in (*RUN_FILES, *RUN_FOLDERS, SETTINGS_FILE):
        if (output / name).exists():
            (output / name).rename(place / name)
    if place != waiting or not any(place.iterdir()):
        shutil.rmtree(place)
