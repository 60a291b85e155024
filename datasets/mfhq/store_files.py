"""File system of fsspec through which DuckDB reads a corpus that is not on a disk: each read is one range of a file.

DuckDB's own S3 reader is an extension that has to be downloaded (for 2.0.0 there is none among the Python packages).
s3fs reads ahead by whole blocks for every column, and all threads wait for its one event loop.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Any

from fsspec import AbstractFileSystem

from mfhq.parquet import StoredFile
from mfhq.store import Store

_UNCHANGED = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
"""Time of change of every file: their names are digests of their content, so none changes."""


class StoreFileSystem(AbstractFileSystem):
    """Files of a store for reading, under the names that ``Store.url`` gives them."""

    cachable = False

    def __init__(self, store: Store, sizes: Mapping[str, int]) -> None:
        """Wrap a store.

        Args:
            store: The corpus.
            sizes: Path to size (bytes) of files whose size need not be asked for.
        """
        super().__init__()
        self.protocol = store.uri.partition("://")[0]
        self._store, self._sizes, self._base = store, dict(sizes), store.url("")

    def open(self, path: str, mode: str = "rb", **_: Any) -> StoredFile:
        """Open a file for reading."""
        if "w" in mode or "a" in mode or "+" in mode:
            raise PermissionError(f"{path}: a corpus is not written by queries")
        relative = self._relative(path)
        return StoredFile(self._store, relative, self._sizes.get(relative))

    def size(self, path: str) -> int:
        """Return the size of a file, bytes."""
        relative = self._relative(path)
        if relative not in self._sizes:
            self._sizes[relative] = self._store.size(relative)
        return self._sizes[relative]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return name, size and type of a file."""
        return {"name": path, "size": self.size(path), "type": "file"}

    def exists(self, path: str, **_: Any) -> bool:
        """Return True if a file exists."""
        relative = self._relative(path)
        return relative in self._sizes or self._store.exists(relative)

    def glob(self, path: str, **_: Any) -> list[str]:
        """Return the one file that a name with escaped wildcards stands for."""
        name = re.sub(r"\[([*?\[])\]", r"\1", path)
        return [name] if self.exists(name) else []

    def modified(self, path: str) -> datetime.datetime:
        """Return the time of change of a file."""
        return _UNCHANGED

    def _relative(self, path: str) -> str:
        name = str(path).removeprefix(f"{self.protocol}://")
        if not name.startswith(f"{self._base}/"):
            raise FileNotFoundError(f"{path}: is not in {self._store.uri}")
        return name[len(self._base) + 1 :]
