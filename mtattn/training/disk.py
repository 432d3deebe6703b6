"""Writing that all processes do or none, and bringing it to disk as far as the system can."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from mtattn._extras import needed_by

with needed_by("mtattn.training", extra="recipes"):
    from accelerate.utils import gather_object
    from safetensors import SafetensorError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM, errno.EROFS)


def written_by_all(write: Callable[[], None], folder: Path, what: str, afterwards: str) -> None:
    """Write in every process; if one cannot, all stop, so that none waits for it, and the folder goes.

    Args:
        write: Writes into the folder.
        folder: What is written.
        what: What the folder is to become, for the message.
        afterwards: What is still there, for the message.

    Raises:
        OSError: A process cannot write.
        Exception: What ``write`` raises for another reason.
    """
    error = None
    try:
        write()
    except Exception as raised:  # the other processes have to know of it first
        error = raised
    reasons = [reason for reason in gather_object([error and one_line(error)]) if reason]
    if not reasons:
        return
    shutil.rmtree(folder, ignore_errors=True)
    if error is not None and not _is_of_the_disk(error):
        raise error
    advice, free = "find out why, then resume", ""
    if any(map(_tells_of_no_room, reasons)):
        place = next(parent for parent in folder.absolute().parents if parent.exists())
        advice, free = "make room and resume", f", {shutil.disk_usage(place).free / 1e6:.0f} MB were free"
    raise OSError(f"fit: cannot write {what}{free} ({reasons[0]}). {afterwards}; {advice}.") from error


def to_disk(path: Path) -> None:
    """Bring a file or a folder to disk; what the system cannot sync it syncs when it likes.

    Windows opens no folders, and many mounted drives sync none.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # Windows syncs what can be written
    except OSError:
        if path.is_dir():
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise
    finally:
        os.close(descriptor)


def one_line(error: BaseException) -> str:
    """Tell an error in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _is_of_the_disk(error: Exception) -> bool:
    """Tell a disk's errors from others; torch raises a bare RuntimeError where its writer cannot go on."""
    of_torch = isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("inline_container", "iostream error", "Parent directory")
    )
    return of_torch or isinstance(error, OSError | SafetensorError)


def _tells_of_no_room(reason: str) -> bool:
    numbers = [f"{words}{number}" for number in NO_ROOM for words in ("os error ", "Errno ")]
    return "inline_container" in reason or any(number in reason for number in numbers)
