"""One run in a folder at a time: a lock of the operating system, which ends with its process, however that ends."""

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from mtattn._extras import needed_by
from mtattn.training.distributed import processes

with needed_by("mtattn.training", extra="recipes"):
    from accelerate.utils import broadcast_object_list
    from filelock import FileLock, Timeout

LOCK_FILE = ".lock"
_held: dict[Path, FileLock] = {}


def lock_folder(folder: Path) -> bool:
    """Keep all other runs out of a folder, which is made if it is not there; of several processes the first does it.

    Returns:
        Whether the lock is new; False if this run has it already.

    Raises:
        ValueError: Another run has the folder; every process of this one raises it.
    """
    error, is_new = None, folder.resolve() not in _held
    if processes().is_main_process and is_new:
        error = _take(folder)
    (error,) = broadcast_object_list([error])
    if error is not None:
        raise ValueError(error)
    return is_new


def unlock_folder(folder: Path) -> None:
    """Let other runs into the folder; nothing happens if it is not locked."""
    lock = _held.pop(folder.resolve(), None)
    if lock is not None:
        lock.release(force=True)


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """Lock a folder for a while, unless this run has locked it for longer."""
    is_new = lock_folder(folder)
    try:
        yield
    finally:
        if is_new:
            unlock_folder(folder)


def _take(folder: Path) -> str | None:
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return f"fit: another run is at work in {folder}; wait for its end, or give another output."
    except (OSError, NotImplementedError) as error:  # not every mounted drive has locks
        warnings.warn(f"fit: cannot lock {folder} ({error}); see that no other run writes there.", stacklevel=2)
    _held[folder.resolve()] = lock
    return None
