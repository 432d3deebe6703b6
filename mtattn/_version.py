"""Which mtattn this is."""

from importlib.metadata import PackageNotFoundError, version


def installed_version(package: str = "mtattn") -> str:
    """Return the version of an installed package; that of a copy on ``sys.path`` without metadata is "unknown"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
