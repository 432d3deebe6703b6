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
        partial.rename(checkpoints / f"epoch-{len(history):04d}")  # at once: a checkpoint is whole or not there
        for old in complete_checkpoints(checkpoints)[:-KEPT]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def load_checkpoint(accelerator: Accelerator, checkpoints: Path) -> list[dict[str, Any]]:
    """Go back to the last checkpoint and return the records of the epochs until then; none if there is none."""
    last = max(complete_checkpoints(checkpoints), default=None)
    if last is None:
        accelerator.print(f"fit: no checkpoint in {checkpoints}, starting with the first epoch.")
        return []
    accelerator.load_state(str(last))
    accelerator.print(f"fit: going on from {last}.")
    history: list[dict[str, Any]] = json.loads((last / "history.json").read_text(encoding="utf-8"))
    return history
