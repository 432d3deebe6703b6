"""One clear error for every optional package that is missing or broken."""

from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def needed_by(owner: str, *, extra: str) -> Generator[None]:
    """Turn any failure of the imports inside the block into an ``ImportError`` that names the extra to install.

    Example:
        >>> with needed_by("mtattn.report", extra="recipes"):
        ...     import no_such_package
        Traceback (most recent call last):
        ImportError: mtattn.report: No module named 'no_such_package'. Install what it needs: pip install ...
    """
    try:
        yield
    except Exception as error:  # a broken package may raise anything: torchvision beside another torch, a RuntimeError
        message = f'{owner}: {error}. Install what it needs: pip install "mtattn[{extra}]"'
        raise ImportError(message) from error
