"""Write a file whole or not at all."""

import os
from pathlib import Path


def write_whole(file: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file so that it holds either what it held before or all of the content."""
    file = Path(file)
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
