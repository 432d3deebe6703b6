"""Write a file whole or not at all; read one, or say which is damaged."""

import json
import os
from pathlib import Path
from typing import Any


def write_whole(file: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file so that it holds either what it held before or all of the content."""
    file = Path(file)
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


def read_text(owner: str, file: Path) -> str:
    """Read a text.

    Raises:
        ValueError: It is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{owner}: {file} is UTF-8 text, got something else ({error}); save it as UTF-8.") from error


def read_json(owner: str, file: Path) -> Any:
    """Read JSON.

    Raises:
        ValueError: It is none.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{owner}: {file} is damaged or cut short ({error}).") from error
