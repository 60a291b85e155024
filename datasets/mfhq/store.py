"""Protocol of a store that contains a corpus; ``infra/storage.py`` has the implementations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol


class StoreError(Exception):
    """Error of a store that cannot be reached, read or written; the message has the URI and tells what to do."""


class StoreUriError(StoreError, ValueError):
    """Error of a URI that no corpus can have, which is a mistake of the caller."""


class Store(Protocol):
    """Files under paths that are relative to one root URI. A store can be pickled, so workers get copies of it.

    Paths use ``/`` and never begin with it. Every method raises ``StoreError`` with the full URI if the store cannot be
    reached; ``read`` and ``size`` raise ``FileNotFoundError`` if the path does not exist.
    """

    @property
    def uri(self) -> str:
        """URI of the root, for example ``file:///data/corpus`` or ``s3://bucket/prefix``."""
        ...

    @property
    def filesystem(self) -> Any:
        """File system of fsspec behind the store, for libraries that take one (pyarrow, DuckDB)."""
        ...

    def url(self, path: str) -> str:
        """Return a path in the form that ``filesystem`` takes."""
        ...

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """Read a range of bytes; by default the complete file.

        Args:
            path: Path of the file.
            offset: Position of the first byte.
            length: Number of bytes; None for all bytes up to the end.
        """
        ...

    def write(self, path: str, data: bytes) -> None:
        """Write or replace a file atomically: no reader sees an incomplete file.

        Args:
            path: Path of the file.
            data: Contents of the file.
        """
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Write a file only if none exists under this path (a conditional create).

        Args:
            path: Path of the file.
            data: Contents of the file.

        Returns:
            True if the file was written; False if one exists already.
        """
        ...

    def exists(self, path: str) -> bool:
        """Return True if a file with this path exists."""
        ...

    def size(self, path: str) -> int:
        """Return the size of a file, bytes."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the path of every file below a folder, sorted; nothing if the folder does not exist."""
        ...

    def delete(self, path: str) -> None:
        """Delete a file if it exists."""
        ...

    def purge(self) -> str:
        """Delete the unfinished files of killed writers.

        Returns:
            A message about deleted bytes that still exist (in a bucket with versioning) and what to do; empty if there
            are none.
        """
        ...
