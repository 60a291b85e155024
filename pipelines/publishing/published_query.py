"""SQL over the files of published tables, with a limit on the memory; what does not fit is spilled to a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from mfhq.manifest import TableEntry
from mfhq.schema import TABLES, stored_schema
from mfhq.sql_fence import open_database
from mfhq.store import Store
from mfhq.views import scan_sql, sql_type

if TYPE_CHECKING:
    import duckdb

MEMORY = "1500MB"
"""Memory of a query, beyond which it spills."""


@contextlib.contextmanager
def query_tables(store: Store, entries: Mapping[str, TableEntry]) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a DuckDB connection with a view of each table, as its files hold it, and close it after the block.

    Args:
        store: The corpus.
        entries: The tables; every other table of ``mfhq.schema`` has a view without rows.
    """
    with open_database() as connection:
        connection.execute(f"SET memory_limit = '{MEMORY}'")
        connection.execute("SET preserve_insertion_order = false")
        if not store.uri.startswith("file:"):  # DuckDB's own S3 reader is an extension to download
            connection.register_filesystem(store.filesystem)
        for name in TABLES:
            paths = [file.path for file in entries[name].files] if name in entries else []
            connection.execute(f"CREATE VIEW {name} AS {_select(store, name, paths)}")
        yield connection


def scan(store: Store, paths: list[str], options: str = "") -> str:
    """Return DuckDB's call that reads files of a corpus.

    Args:
        store: The corpus.
        paths: Paths of the files, at least one.
        options: Further arguments of the call, as SQL.
    """
    return scan_sql([root_of(store) + store.url(path) for path in paths], options)


def root_of(store: Store) -> str:
    """Return what precedes a store's paths in DuckDB: nothing for a folder, else the scheme."""
    scheme = store.uri.partition("://")[0]
    return "" if scheme == "file" else f"{scheme}://"


def _select(store: Store, name: str, paths: list[str]) -> str:
    if paths:
        return f"SELECT * FROM {scan(store, paths)}"
    columns = ", ".join(f'CAST(NULL AS {sql_type(f.type)}) AS "{f.name}"' for f in stored_schema(name))
    return f"SELECT {columns} FROM (SELECT 1) WHERE false"
