"""Files out of packages of the npm registry, checked against a pinned sum: no node, nothing kept in the tree."""

import base64
import hashlib
import io
import os
import tarfile
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

CACHE = Path(__file__).parents[1] / "_cache/npm"
SECONDS = 30


class Package(NamedTuple):
    """A package of the registry, pinned.

    Attributes:
        name: As the registry knows it.
        version: Its version.
        integrity: The SHA-512 sum of its tarball, as the registry and every lock file write it.
    """

    name: str
    version: str
    integrity: str

    @property
    def tarball(self) -> str:
        """The name of its file."""
        return f"{self.name}-{self.version}.tgz"


RUNTIME = Package(
    "onnxruntime-web",
    "1.30.0",
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
)
AXE = Package(
    "axe-core",
    "4.14.1",
    "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
)


def fetch(package: Package, member: str, *, cache: Path = CACHE) -> bytes:
    """Read one file of a package, from the cache, from a tarball that lies there, or from the registry.

    The registry is ``https://registry.npmjs.org``, or what ``NPM_CONFIG_REGISTRY`` names.

    Args:
        package: The package.
        member: The file inside it, such as ``dist/ort.min.js``.
        cache: The folder that keeps what was asked for once.

    Raises:
        OSError: The registry cannot be reached.
        ValueError: The tarball is not the pinned one.
    """
    kept = cache / f"{package.name}-{package.version}" / member
    if not kept.exists():
        tarball = cache / package.tarball
        content = _member(package, tarball.read_bytes() if tarball.exists() else _download(package), member)
        kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished = kept.with_name(f".{kept.name}.{os.getpid()}")
        unfinished.write_bytes(content)
        unfinished.replace(kept)
    return kept.read_bytes()


def _download(package: Package) -> bytes:
    registry = os.environ.get("NPM_CONFIG_REGISTRY", "https://registry.npmjs.org").rstrip("/")
    with urlopen(f"{registry}/{package.name}/-/{package.tarball}", timeout=SECONDS) as answer:
        content: bytes = answer.read()
    return content


def _member(package: Package, tarball: bytes, member: str) -> bytes:
    found = "sha512-" + base64.b64encode(hashlib.sha512(tarball).digest()).decode()
    if found != package.integrity:
        raise ValueError(f"fetch: {package.tarball} must have the sum {package.integrity}, got {found}.")
    with tarfile.open(fileobj=io.BytesIO(tarball)) as archive:
        file = archive.extractfile(f"package/{member}")
        assert file is not None
        return file.read()
