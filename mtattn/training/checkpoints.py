"""What a run leaves on disk while it goes on: a checkpoint of every epoch, and the best weights."""

import json
import shutil
from pathlib import Path
from typing import Any

from torch import nn

from mtattn._extras import needed_by

with needed_by("mtattn.training", extra="recipes"):
    from accelerate import Accelerator
    from safetensors.torch import save_model

BEST_FILE = "best.safetensors"
KEPT = 2  # the last, and the one before it should the last be damaged


def save_best(model: nn.Module, checkpoints: Path) -> None:
    """Save the weights of the best epoch so far."""
    checkpoints.mkdir(parents=True, exist_ok=True)
    unfinished = checkpoints / "best.partial"
    save_model(model, str(unfinished))
    unfinished.replace(checkpoints / BEST_FILE)


def complete_checkpoints(checkpoints: Path) -> list[Path]:
    """List the checkpoints that are whole, the oldest first."""
    return sorted(checkpoints.glob("epoch-????"))


def save_checkpoint(accelerator: Accelerator, checkpoints: Path, history: list[dict[str, Any]]) -> None:
    """Save everything that a run needs to go on after this epoch, and delete the checkpoints before the last two."""
    partial = checkpoints / "partial"
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()  # each process has written its own random state
    if accelerator.is_main_process:
        (partial / "history.json").write_text(json.dumps(history, indent=2), encoding="utf-8")
        checkpoint = checkpoints / f"epoch-{len(history):04d}"
        shutil.rmtree(checkpoint, ignore_errors=True)  # one that could not be read
        partial.rename(checkpoint)  # at once: a checkpoint is whole or not there
        for old in complete_checkpoints(checkpoints)[:-KEPT]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def load_checkpoint(accelerator: Accelerator, checkpoints: Path) -> list[dict[str, Any]]:
    """Go back to the last checkpoint that can be read and return the records of the epochs until then.

    Raises:
        ValueError: There are checkpoints, and none can be read.
    """
    complete = complete_checkpoints(checkpoints)
    if not complete:
        accelerator.print(f"fit: no checkpoint in {checkpoints}, starting with the first epoch.")
        return []
    if not (checkpoints / BEST_FILE).is_file():
        raise ValueError(f"fit: cannot go on without the best weights so far, got no {checkpoints / BEST_FILE}.")
    for checkpoint in reversed(complete):
        try:
            history: list[dict[str, Any]] = json.loads((checkpoint / "history.json").read_text(encoding="utf-8"))
            accelerator.load_state(str(checkpoint))
        except Exception as error:  # a damaged file makes Accelerate, torch and safetensors raise nearly anything
            accelerator.print(f"fit: {checkpoint} cannot be read: {error}")
        else:
            accelerator.print(f"fit: going on from {checkpoint}.")
            return history
    raise ValueError(f"fit: none of {', '.join(map(str, complete))} can be read; begin anew in another output.")
