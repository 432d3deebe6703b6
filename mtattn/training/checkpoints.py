"""What a run leaves on disk while it goes on: a checkpoint of every epoch, which holds the best weights too."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from mtattn._extras import needed_by
from mtattn._files import read_json
from mtattn.losses import DWSLoss
from mtattn.models.runs import checkpoint_of, complete_checkpoints, epoch_of, last_checkpoint
from mtattn.models.saving import BEST_FILE, CONFIG_FILE
from mtattn.training.begun import Settings, check_new, check_same_run
from mtattn.training.disk import one_line, to_disk, written_by_all

with needed_by("mtattn.training", extra="recipes"):
    from accelerate import Accelerator
    from accelerate.utils import broadcast_object_list
    from safetensors.torch import save_model

HISTORY_FILE = "history.json"
MANIFEST_FILE = "files.json"
KEPT = 2  # the last, and the one before it should the last be damaged


def save_checkpoint(
    accelerator: Accelerator,
    checkpoints: Path,
    history: list[dict[str, Any]],
    best: nn.Module | None,
    begun: Settings,
) -> None:
    """Save everything that a run needs to go on after this epoch, and delete the checkpoints before the last two.

    Args:
        accelerator: Knows everything but history and best weights.
        checkpoints: The folder of all checkpoints.
        history: The records of the epochs until now.
        best: The model, if it is the best so far; None: the last checkpoint has the best weights.
        begun: How the run was begun.

    Raises:
        OSError: The checkpoint cannot be written. Nothing of it is left, and those before it are untouched. Every
            process raises it.
    """
    partial = checkpoints / "partial"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)  # what a killed run left
    accelerator.wait_for_everyone()
    what = f"the checkpoint of epoch {len(history)} to {checkpoints}"
    last = last_checkpoint(checkpoints)
    afterwards = f"The last good checkpoint is {last}" if last else "There is no checkpoint yet"
    # each process writes its own random state, and the first then makes of it all a checkpoint
    written_by_all(lambda: accelerator.save_state(str(partial)), partial, what, afterwards)

    def finish() -> None:
        if accelerator.is_main_process:
            _finish(partial, checkpoints, history, best, begun)

    written_by_all(finish, partial, what, afterwards)


def _finish(
    partial: Path, checkpoints: Path, history: list[dict[str, Any]], best: nn.Module | None, begun: Settings
) -> None:
    if best is None:
        # copies, not links: what damages the one must not damage the other
        before = checkpoint_of(checkpoints, len(history) - 1)
        shutil.copyfile(before / BEST_FILE, partial / BEST_FILE)
        if (before / CONFIG_FILE).is_file():
            shutil.copyfile(before / CONFIG_FILE, partial / CONFIG_FILE)
    else:
        save_model(best, str(partial / BEST_FILE))
        if isinstance(config := getattr(best, "config", None), dict):  # with it, a stopped run has a model too
            (partial / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (partial / HISTORY_FILE).write_text(json.dumps(history, indent=2), encoding="utf-8")
    files = {file.name: _digest(file) for file in sorted(partial.iterdir())}
    (partial / MANIFEST_FILE).write_text(json.dumps({"begun": begun, "files": files}, indent=2), encoding="utf-8")
    for path in (*partial.iterdir(), partial):
        to_disk(path)
    checkpoint = checkpoint_of(checkpoints, len(history))
    shutil.rmtree(checkpoint, ignore_errors=True)  # one that could not be read
    partial.rename(checkpoint)  # at once: a checkpoint is whole or not there
    to_disk(checkpoints)
    _delete_before(checkpoint, checkpoints)


def _delete_before(checkpoint: Path, checkpoints: Path) -> None:
    earlier = [other for other in complete_checkpoints(checkpoints) if epoch_of(other) < epoch_of(checkpoint)]
    for old in earlier[: 1 - KEPT]:
        shutil.rmtree(old)


def check_begins(checkpoints: Path, loss: DWSLoss, optimizer: Optimizer, *, resume: bool) -> None:
    """Refuse to begin where another run was, or with what another run has left its traces in.

    Raises:
        ValueError: There are checkpoints and nobody asked for them, or loss or optimizer are not new.
    """
    there = complete_checkpoints(checkpoints)
    if there and not resume:
        raise ValueError(f"fit: {checkpoints} holds another run; take resume=True, another output, or delete it.")
    if not there:
        check_new(loss, optimizer)


def load_checkpoint(accelerator: Accelerator, checkpoints: Path, begun: Settings) -> list[dict[str, Any]]:
    """Go back to the last whole checkpoint and return the records of the epochs until then.

    Raises:
        ValueError: There are checkpoints and none is whole, or the last was written by a run begun in another way.
    """
    complete = complete_checkpoints(checkpoints)
    if not complete:
        accelerator.print(f"fit: no checkpoint in {checkpoints}, starting with the first epoch.")
        return []
    for checkpoint in reversed(complete):
        flaw = _flaw(checkpoint) if accelerator.is_main_process else None
        (flaw,) = broadcast_object_list([flaw])
        if flaw is None:
            check_same_run(str(checkpoint), _read_begun(checkpoint), begun)
            _load(accelerator, checkpoint)
            accelerator.print(f"fit: going on from {checkpoint}.")
            if accelerator.is_main_process:
                _delete_before(checkpoint, checkpoints)  # a run may have been killed before it did
            return read_history(checkpoint)
        accelerator.print(f"fit: {checkpoint} cannot be read: {flaw}")
    raise ValueError(f"fit: none of {', '.join(map(str, complete))} can be read; start again in another output.")


def _load(accelerator: Accelerator, checkpoint: Path) -> None:
    """Load a checkpoint whose files are known to be whole: what goes wrong now is no damage."""
    try:
        accelerator.load_state(str(checkpoint))
    except (torch.OutOfMemoryError, OSError, MemoryError):
        raise
    except (RuntimeError, ValueError, LookupError, AttributeError) as error:  # each library raises its own
        raise ValueError(
            f"fit: {checkpoint} is whole and fits neither this model nor this optimizer: {one_line(error)}; "
            f"a run resumes with what it was begun with."
        ) from error


def read_history(checkpoint: Path) -> list[dict[str, Any]]:
    """Read the records of the epochs until a checkpoint."""
    history = read_json("fit", checkpoint / HISTORY_FILE)
    if not isinstance(history, list) or not all(isinstance(epoch, dict) for epoch in history):
        raise ValueError(f"fit: {checkpoint / HISTORY_FILE} is damaged: it lists the epochs.")
    return history


def _flaw(checkpoint: Path) -> str | None:
    """Tell what is wrong with a checkpoint: Accelerate itself passes over a random state that it cannot read."""
    try:
        manifest = read_json("fit", checkpoint / MANIFEST_FILE)
        files = manifest["files"].items()
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return f"no list of its files in {MANIFEST_FILE}, so it is torn or somebody else's."
    for name, digest in files:
        if not (checkpoint / name).is_file():
            return f"{name} is missing."
        if _digest(checkpoint / name) != digest:
            return f"{name} is damaged or cut short."
    try:
        read_history(checkpoint)
    except (OSError, ValueError) as error:
        return str(error)
    return None


def _read_begun(checkpoint: Path) -> Settings:
    manifest = read_json("fit", checkpoint / MANIFEST_FILE)
    before = (
        {"num_processes": manifest["num_processes"]} if "num_processes" in manifest else {}
    )  # older ones say no more
    settings: Settings = manifest.get("begun", before)
    return settings


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
