"""Names and local paths of source files, for decoders that can read only local files."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

NOT_A_FILE = "not_a_file"
"""Reason: the name is that of a pipe, a socket, a device, a folder or a file of the kernel; it is never opened."""
SPARSE_FILE = "sparse_file"
"""Reason: the file says that it is large, and nearly nothing of it is stored."""

_KERNEL = frozenset(
    ("proc", "sysfs", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "configfs", "pstore", "bpf", "efivarfs")
)
"""Types of the file systems that the kernel makes up: a file's size there says nothing of its bytes."""
_MOUNTS = Path("/proc/self/mountinfo")
_SPARSE_BYTES, _SPARSE_RATIO = 1 << 30, 100


def is_remote(uri: str) -> bool:
    """Return True if a URI does not name a file on this machine's file system."""
    return "://" in uri and not uri.startswith("file://")


def local_path(uri: str) -> Path:
    """Return the path of a ``file://`` URI, or of a plain path."""
    if not uri.startswith("file://"):
        return Path(uri)
    return Path(unquote(uri.removeprefix("file://").removeprefix("localhost"), errors="surrogateescape"))


def canonical_uri(uri: str, folder: str | Path = "") -> str:
    """Return the one spelling under which a corpus records a source.

    Args:
        uri: A path, a ``file://`` URI or a remote URI.
        folder: Folder, or remote prefix, where a relative path starts; empty for the working directory.

    Returns:
        A remote URI as it is. A local file's absolute path without ``.`` and ``..`` (symbolic links are kept), or its
        ``file://`` URI if the name is not UTF-8, which no table can hold otherwise.
    """
    if is_remote(uri):
        return uri
    if isinstance(folder, str) and is_remote(folder):
        return f"{folder.rstrip('/')}/{uri}"
    path = os.path.normpath(Path(folder).expanduser().absolute() / local_path(uri).expanduser())
    try:
        path.encode()
    except UnicodeEncodeError:
        return "file://" + quote(os.fsencode(path))
    return path


def file_fault(path: Path) -> str:
    """Return the reason why a file must not be opened: ``NOT_A_FILE``, ``SPARSE_FILE``, or empty if it may be.

    Args:
        path: A local file, which is only looked up.

    Raises:
        OSError: It is not there, or may not be looked up.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or (not status.st_blocks and _is_of_kernel(status.st_dev)):
        return NOT_A_FILE
    stored = status.st_blocks * 512
    is_sparse = status.st_size >= _SPARSE_BYTES and stored * _SPARSE_RATIO < status.st_size
    return SPARSE_FILE if is_sparse else ""


@lru_cache
def _is_of_kernel(device: int) -> bool:
    """Return True if a device number is that of a mounted file system of ``_KERNEL``."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    lines = _MOUNTS.read_text(errors="replace").splitlines() if _MOUNTS.exists() else []
    mounted = (line.split(" - ", 1) for line in lines if line.split()[2] == wanted)
    return any(after.split()[0] in _KERNEL for _, after in mounted)


@contextmanager
def local_file(uri: str, filesystem: Any = None) -> Iterator[Path]:
    """Yield a local path of a file: the path of a local file, or that of a temporary copy of a remote one.

    The copy is removed afterwards.

    Args:
        uri: A plain path, a ``file://`` URI or a remote URI.
        filesystem: fsspec filesystem from which a remote file is fetched.

    Raises:
        ValueError: The URI is remote, and ``filesystem`` is None.
        FileNotFoundError: The file does not exist.
    """
    if not is_remote(uri):
        path = local_path(uri)
        if not path.is_file():
            raise FileNotFoundError(f"{uri} is not there")
        yield path
        return
    if filesystem is None:
        raise ValueError(f"{uri}: no file system was passed in to read it with")
    with tempfile.TemporaryDirectory(prefix="ffavatar-") as folder:
        copy = Path(folder) / ("source" + Path(uri).suffix)
        filesystem.get_file(uri, str(copy))
        yield copy
