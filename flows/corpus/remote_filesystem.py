"""Choice of the fsspec file system for a source that may be remote."""

from __future__ import annotations

from typing import Any

from infra.storage import open_store


def remote_filesystem(uri: str) -> Any:
    """Return the fsspec file system that reads an ``s3://`` URI; None for a local path."""
    return open_store(uri).filesystem if uri.startswith("s3://") else None
