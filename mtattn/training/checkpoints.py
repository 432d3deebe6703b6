"""What a run leaves on disk while it goes on: a checkpoint of every epoch, which holds the best weights too."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from torch import nn

from mtattn._extras import needed_by

with needed_by("mtattn.training", extra="recipes"):
    from accelerate import Accelerator
    from accelerate.utils import broadcast_object_list
    from safetensors import SafetensorError
    from safetensors.torch import save_model

BEST_FILE = "best.safetensors"
HISTORY_FILE = "history.json"
MANIFEST_FILE = "files.json"
KEPT = 2  # the last, and the one before it should the last be damaged


def checkpoint_of(checkpoints: Path, epoch: int) -> Path:
    """Name the checkpoint that is written at the end of an epoch."""
    return checkpoints / f"epoch-{epoch:04d}"


def complete_checkpoints(checkpoints: Path) -> list[Path]:
    """List the checkpoints that were finished, the oldest first."""
    return sorted(checkpoints.glob("epoch-????"))


def save_checkpoint(
    accelerator: Accelerator, checkpoints: Path, history: list[dict[str, Any]], best: nn.Module | None
) -> None:
    """Save everything that a run needs to go on after this epoch, and delete the checkpoints before the last two.

    Args:
        accelerator: Knows everything but history and best weights.
        checkpoints: The folder of all checkpoints.
        history: The records of the epochs until now.
        best: The model, if it is the best so far; None: the last checkpoint has the best weights.

    Raises:
        OSError: The checkpoint cannot be written. Nothing of it is left, and those before it are untouched.
    """
    partial = checkpoints / "partial"
    try:
        if accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)  # what a killed run left
        accelerator.wait_for_everyone()
        accelerator.save_state(str(partial))
        accelerator.wait_for_everyone()  # each process has written its own random state
        if accelerator.is_main_process:
            _finish(partial, checkpoints, history, best, accelerator.num_processes)
    except (OSError, RuntimeError, SafetensorError) as error:  # on a full disk, each library raises its own
        place = next(path for path in (checkpoints, *checkpoints.absolute().parents) if path.exists())
        free = shutil.disk_usage(place).free / 1e6  # torch does not say that there was no room
        shutil.rmtree(partial, ignore_errors=True)
        before = max(complete_checkpoints(checkpoints), default=None)
        kept = f"The last good checkpoint is {before}" if before else "There is no checkpoint yet"
        raise OSError(
            f"fit: cannot write the checkpoint of epoch {len(history)} to {checkpoints}, {free:.0f} MB were free "
            f"({_one_line(error)}). {kept}; make room and resume."
        ) from error
    accelerator.wait_for_everyone()


def _finish(
    partial: Path, checkpoints: Path, history: list[dict[str, Any]], best: nn.Module | None, num_processes: int
) -> None:
    if best is None:
        # a copy, not a link: what damages the one must not damage the other
        shutil.copyfile(checkpoint_of(checkpoints, len(history) - 1) / BEST_FILE, partial / BEST_FILE)
    else:
        save_model(best, str(partial / BEST_FILE))
    (partial / HISTORY_FILE).write_text(json.dumps(history, indent=2), encoding="utf-8")
    files = {file.name: _digest(file) for file in sorted(partial.iterdir())}
    manifest = json.dumps({"num_processes": num_processes, "files": files}, indent=2)
    (partial / MANIFEST_FILE).write_text(manifest, encoding="utf-8")
    for path in (*partial.iterdir(), partial):
        _to_disk(path)
    checkpoint = checkpoint_of(checkpoints, len(history))
    shutil.rmtree(checkpoint, ignore_errors=True)  # one that could not be read
    partial.rename(checkpoint)  # at once: a checkpoint is whole or not there
    _to_disk(checkpoints)
    _delete_before(checkpoint, checkpoints)


def _delete_before(checkpoint: Path, checkpoints: Path) -> None:
    earlier = [other for other in complete_checkpoints(checkpoints) if other < checkpoint]
    for old in earlier[: 1 - KEPT]:
        shutil.rmtree(old)


def load_checkpoint(accelerator: Accelerator, checkpoints: Path) -> list[dict[str, Any]]:
    """Go back to the last checkpoint that can be read and return the records of the epochs until then.

    Raises:
        ValueError: There are checkpoints, and none can be read, or another number of processes wrote the last.
    """
    complete = complete_checkpoints(checkpoints)
    if not complete:
        accelerator.print(f"fit: no checkpoint in {checkpoints}, starting with the first epoch.")
        return []
    for checkpoint in reversed(complete):
        flaw = _flaw(checkpoint) if accelerator.is_main_process else None
        (flaw,) = broadcast_object_list([flaw])
        if flaw is None:
            _check_num_processes(checkpoint, accelerator.num_processes)
            try:
                accelerator.load_state(str(checkpoint))
            except Exception as error:  # of another model: Accelerate, torch and safetensors raise nearly anything
                flaw = _one_line(error)
        if flaw is None:
            accelerator.print(f"fit: going on from {checkpoint}.")
            if accelerator.is_main_process:
                _delete_before(checkpoint, checkpoints)  # a run may have been killed before it did
            return read_history(checkpoint)
        accelerator.print(f"fit: {checkpoint} cannot be read: {flaw}")
    raise ValueError(f"fit: none of {', '.join(map(str, complete))} can be read; begin anew in another output.")


def read_history(checkpoint: Path) -> list[dict[str, Any]]:
    """Read the records of the epochs until a checkpoint."""
    history: list[dict[str, Any]] = json.loads((checkpoint / HISTORY_FILE).read_text(encoding="utf-8"))
    return history


def _flaw(checkpoint: Path) -> str | None:
    """Tell what is wrong with a checkpoint: Accelerate itself passes over a random state that it cannot read."""
    try:
        manifest = json.loads((checkpoint / MANIFEST_FILE).read_text(encoding="utf-8"))
        files, _ = manifest["files"].items(), manifest["num_processes"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return f"no list of its files in {MANIFEST_FILE}, so it is torn or somebody else's."
    for name, digest in files:
        if not (checkpoint / name).is_file():
            return f"{name} is missing."
        if _digest(checkpoint / name) != digest:
            return f"{name} is damaged or cut short."
    return None


def _check_num_processes(checkpoint: Path, num_processes: int) -> None:
    before = json.loads((checkpoint / MANIFEST_FILE).read_text(encoding="utf-8"))["num_processes"]
    if before != num_processes:
        raise ValueError(
            f"fit: {checkpoint} was written by {before} processes, got {num_processes}; "
            f"a run resumes with as many as it was begun with."
        )


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
