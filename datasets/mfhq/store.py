"""Protocol of a store that holds a corpus; the adapters are in ``infra/storage.py``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol


class StoreError(Exception):
    """Error of a store that cannot be reached, read or written: one line with the URI and the way out."""


class StoreUriError(StoreError, ValueError):
    """Error of a URI that no corpus can have: the caller's mistake, not the store's."""


class Store(Protocol):
    """Bytes under paths relative to one root URI. It is picklable: workers get copies.

    Paths use ``/`` and never begin with it. Every method raises ``StoreError`` naming the full URI
    when the store cannot be reached; ``read`` and ``size`` raise ``FileNotFoundError`` for a missing path.
    """

    @property
    def uri(self) -> str:
        """Root, for example ``file:///data/corpus`` or ``s3://bucket/prefix``."""
        ...

    @property
    def filesystem(self) -> Any:
        """fsspec file system behind the store, for readers that take one (pyarrow, DuckDB)."""
        ...

    def url(self, path: str) -> str:
        """Return a path as ``filesystem`` spells it."""
        ...

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """Read a range of bytes; by default the complete file.

        Args:
            path: Path of the file.
            offset: First byte.
            length: Number of bytes; None for all up to the end.
        """
        ...

    def write(self, path: str, data: bytes) -> None:
        """Write or replace a file; no reader ever sees a part of it.

        Args:
            path: Path of the file.
            data: Its contents.
        """
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Write a file unless there is one (a conditional create).

        Args:
            path: Path of the file.
            data: Its contents.

        Returns:
            False if there is a file already.
        """
        ...

    def exists(self, path: str) -> bool:
        """Return True if there is a file."""
        ...

    def size(self, path: str) -> int:
        """Return the size of a file, bytes."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Yield every path below a folder, sorted; none if the folder does not exist."""
        ...

    def delete(self, path: str) -> None:
        """Remove a file, if there is one."""
        ...

    def purge(self) -> str:
        """Remove the unfinished files of writers that were killed, so that their bytes are deleted too.

        Returns:
            What still keeps deleted bytes (a bucket with versions), and the way out; empty for nothing.
        """
        ...
