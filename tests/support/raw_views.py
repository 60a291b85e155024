"""DuckDB's own connection behind a snapshot's views: the second half of the fence without the first."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import duckdb

from mfhq.catalog import Snapshot


@contextlib.contextmanager
def raw_views(snapshot: Snapshot, **options: Any) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a connection as ``Snapshot.connect`` does, give every view its files, and yield what it wraps."""
    with snapshot.connect(**options) as fenced:
        fenced._fill(fenced.names)
        yield fenced._connection
