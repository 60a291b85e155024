"""Local paths of source files, for decoders that can read only local files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote


def is_remote(uri: str) -> bool:
    """Return True if a URI does not name a file on this machine's file system."""
    return "://" in uri and not uri.startswith("file://")


def local_path(uri: str) -> Path:
    """Return the path of a ``file://`` URI, or of a plain path."""
    if not uri.startswith("file://"):
        return Path(uri)
    return Path(unquote(uri.removeprefix("file://").removeprefix("localhost")))


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
