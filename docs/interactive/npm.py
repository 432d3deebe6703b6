"""Files out of npm packages, fetched by the npm client and checked against a pinned sum; nothing kept in the tree."""

import base64
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

CACHE = Path(__file__).parents[1] / "_cache/npm"
SECONDS = 60


class Package(NamedTuple):
    """A package, pinned.

    Attributes:
        name: As npm knows it.
        version: Its version.
        integrity: The SHA-512 sum of its tarball, as npm and every lock file write it.
    """

    name: str
    version: str
    integrity: str

    @property
    def tarball(self) -> str:
        """The name of its file, as ``npm pack`` writes it."""
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
    """Read one file of a package, from the cache, from a tarball that lies there, or through ``npm pack``.

    npm takes its registry, mirror and proxy from its own settings, such as ``.npmrc``.

    Args:
        package: The package.
        member: The file inside it, such as ``dist/ort.min.js``.
        cache: The folder that keeps what was asked for once.

    Raises:
        OSError: There is no npm, or it could not fetch the package.
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
    npm = shutil.which("npm")
    if npm is None:
        raise OSError("there is no npm")
    with tempfile.TemporaryDirectory() as folder:
        # one try, because a machine without network should not wait for npm's three
        command = [npm, "pack", f"{package.name}@{package.version}", "--ignore-scripts", "--fetch-retries=0"]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise OSError(f"npm pack had no answer in {SECONDS} seconds") from error
        tarball = Path(folder, package.tarball)
        if done.returncode or not tarball.is_file():
            raise OSError(f"npm pack failed: {' '.join(done.stderr.split())[:200]}")
        return tarball.read_bytes()


def _member(package: Package, tarball: bytes, member: str) -> bytes:
    found = "sha512-" + base64.b64encode(hashlib.sha512(tarball).digest()).decode()
    if found != package.integrity:
        raise ValueError(f"fetch: {package.tarball} must have the sum {package.integrity}, got {found}.")
    with tarfile.open(fileobj=io.BytesIO(tarball)) as archive:
        file = archive.extractfile(f"package/{member}")
        assert file is not None
        return file.read()
