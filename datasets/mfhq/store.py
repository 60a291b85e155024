"""What the project asks of a place where a corpus lies. Adapters are in ``infra/storage.py``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol


class StoreError(Exception):
    """A place cannot be reached, read or written: one line that names the URI and the way out."""


class StoreUriError(StoreError, ValueError):
    """A URI that names no place for a corpus: the caller's mistake, and not the place's."""


class Store(Protocol):
    """Bytes under paths relative to one root URI. Picklable: it travels to workers.

    Paths use ``/`` and never begin with it. Every method raises ``StoreError`` naming the full URI
    when the place cannot be reached; ``read`` and ``size`` raise ``FileNotFoundError`` for a missing path.
    """

    @property
    def uri(self) -> str:
        """The root, for example ``file:///data/corpus`` or ``s3://bucket/prefix``."""
        ...

    @property
    def filesystem(self) -> Any:
        """The fsspec filesystem behind it, for readers that take one (pyarrow, DuckDB)."""
        ...

    def url(self, path: str) -> str:
        """The path as ``filesystem`` spells it."""
        ...

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """The bytes of a range; the whole file by default."""
        ...

    def write(self, path: str, data: bytes) -> None:
        """Write or replace; no reader ever sees a part of it."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Write only where nothing is (a conditional create); False when something is there already."""
        ...

    def exists(self, path: str) -> bool:
        """Whether a file is there."""
        ...

    def size(self, path: str) -> int:
        """Bytes of the file."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Every path below a folder, sorted; none when the folder does not exist."""
        ...

    def delete(self, path: str) -> None:
        """Remove a file; nothing happens when it is not there."""
        ...

    def purge(self) -> str:
        """Remove what writers that were killed left unfinished: their bytes, too, are to be gone.

        Returns:
            What keeps deleted bytes all the same (a bucket with versions), and the way out; empty for nothing.
        """
        ...
