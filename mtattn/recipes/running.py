"""How a recipe ends: well, or in one line that says what to do."""

import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from mtattn.models.runs import last_checkpoint
from mtattn.recipes.output import REPLACED
from mtattn.training import TrainingDiverged, processes
from mtattn.training.lock import unlock_folder


def run_recipe(main: Callable[[Namespace], None], options: Namespace, *, prog: str | None = None) -> None:
    """Run a recipe so that an error of the user's ends in one line that says what to do, not in a traceback.

    SIGTERM, which schedulers send, ends it like Ctrl-C. Of several processes each tells its own errors. ``prog`` names
    the program; its file does if None.

    Example:
        >>> run_recipe(lambda options: print(f"training with seed {options.seed}"), Namespace(seed=0))
        training with seed 0
    """
    on_sigterm = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main(options)
    except KeyboardInterrupt:
        text = _where_it_stopped(options)
    except (ValueError, OSError, ImportError, TrainingDiverged, SafetensorError) as error:
        text = str(error)
        if "in DataLoader worker" in text:  # torch puts the worker's traceback around our one line
            text = text.strip().splitlines()[-1].partition(": ")[2]
    else:
        processes().destroy_process_group()
        return
    finally:
        signal.signal(signal.SIGTERM, on_sigterm)
        if "output" in options:
            unlock_folder(options.output)
    if (replaced := options.output / REPLACED).is_dir():
        text += f" The run that was to be replaced is in {replaced}."
    sys.exit(f"{prog or Path(sys.argv[0]).name}: {text}")


def _where_it_stopped(options: Namespace) -> str:
    """Tell from where a run can go on; if there are several processes, the first tells."""
    if os.environ.get("RANK", "0") != "0":  # not processes(): it may wait for others that have stopped
        sys.exit(1)
    last = last_checkpoint(options.output / "checkpoints")
    if last is None or "resume" not in options:
        return "stopped."
    return f"stopped. The last whole checkpoint is {last}; go on from there with --resume."
