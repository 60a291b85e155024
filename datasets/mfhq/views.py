"""SQL views over a snapshot: names, types and comments from ``mfhq.schema``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from mfhq import corpus_tables
from mfhq.manifest import Manifest
from mfhq.paths import LEDGER, PRIVATE_TABLES, RUNS
from mfhq.schema import TABLES
from mfhq.store import Store
from mfhq.takedowns import DenyList, read_takedowns, snapshot_deny_list, token_sql

if TYPE_CHECKING:
    import duckdb

_SCALARS = {
    pa.string(): "VARCHAR",
    pa.large_binary(): "BLOB",
    pa.bool_(): "BOOLEAN",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.timestamp("us", tz="UTC"): "TIMESTAMPTZ",
}

ID_COLUMNS = frozenset(
    {
        *("video_id", "track_id", "face_id", "identity_id", "other_id", "now", "capture_id", "view_id", "item_id"),
        "uri",
    }
)
"""Columns by which rows that a take-down names are found."""

DICTIONARY = "dictionary"
"""Name of the view that describes the others."""


def sql_type(kind: pa.DataType) -> str:
    """Return DuckDB's name of an Arrow type; a list of fixed size becomes a list."""
    if pa.types.is_struct(kind):
        return "STRUCT(" + ", ".join(f"{_quote_name(f.name)} {sql_type(f.type)}" for f in kind) + ")"
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return f"{sql_type(kind.value_type)}[]"
    return _SCALARS[kind]


def published_files(store: Store, manifest: Manifest, name: str) -> list[str]:
    """List the files of a table; none if it is private and its prefix was deleted.

    Args:
        store: The corpus.
        manifest: Manifest of the snapshot.
        name: A key of ``mfhq.schema.TABLES``.
    """
    stored = "faces" if name == "meshes" and not manifest.meshes_apart else name
    files = [file.path for file in manifest.tables[stored].files] if stored in manifest.tables else []
    deleted = name in PRIVATE_TABLES and not any(map(store.exists, files))
    return [] if deleted else files


def create_views(
    connection: duckdb.DuckDBPyConnection,
    store: Store,
    manifest: Manifest,
    private: bool = True,
    damaged: Mapping[str, str] | None = None,
) -> tuple[list[str], list[str]]:
    """Create every view of ``TABLES`` with its column types, also those without rows, and ``DICTIONARY``.

    Args:
        connection: An open DuckDB connection.
        store: The corpus.
        manifest: Manifest of the snapshot.
        private: Create the views of ``PRIVATE_TABLES`` too.
        damaged: Table name to the error that its view raises when it is read. So does a view that DuckDB cannot make.

    Returns:
        The files and the folders that the views read, as DuckDB compares them with its ``allowed_paths`` and
        ``allowed_directories``: each as it is, and as it is spelled where wildcards are escaped.
    """
    import duckdb

    scheme = store.uri.partition("://")[0]
    root = "" if scheme == "file" else f"{scheme}://"
    if scheme != "file":  # DuckDB's own S3 reader is an extension to download; this one reads through fsspec
        connection.register_filesystem(store.filesystem)
    read: list[str] = []
    denied = snapshot_deny_list(store, manifest.clean_of).tokens
    unfinished = DenyList(tuple(read_takedowns(store, unfinished=True))).tokens
    for name, schema in TABLES.items():
        if name in PRIVATE_TABLES and not private:
            continue
        files = [root + store.url(path) for path in published_files(store, manifest, name)]
        read += files
        if name == "attempts":
            files = [root + store.url(path) for path in corpus_tables.ledger_files(store)]
        columns = [f"CAST({_quote_name(f.name)} AS {sql_type(f.type)}) AS {_quote_name(f.name)}" for f in schema]
        if name in (damaged or {}):
            source = f"({_raising_sql(schema, (damaged or {})[name])})"
        elif files:
            source = scan_sql(files)
            meshes = [root + store.url(path) for path in published_files(store, manifest, "meshes")]
            if name == "faces" and manifest.meshes_apart:
                source = _with_meshes(source, scan_sql(meshes))
        elif name == "runs" and next(store.list(RUNS), None):
            source = _inline(corpus_tables.read_runs(store))
        else:
            columns = [f"CAST(NULL AS {sql_type(f.type)}) AS {_quote_name(f.name)}" for f in schema]
            source = "(SELECT 1) WHERE false"
        condition = _exclusion(schema, unfinished if name == "attempts" else denied)
        rows = f"SELECT {', '.join(columns)} FROM {source}"
        try:
            connection.execute(f"CREATE VIEW {name} AS SELECT * FROM ({rows}) WHERE {condition or 'true'}")
        except duckdb.Error as error:
            text = (
                f"{name}: a file of it is missing or damaged ({' '.join(str(error).split())[:300]}); `ffavatar verify`"
            )
            connection.execute(f"CREATE VIEW {name} AS {_raising_sql(schema, text)}")
        connection.execute(f"COMMENT ON VIEW {name} IS {_quote_text('one row is ' + _meta(schema, b'description'))}")
        for f in schema:
            connection.execute(f"COMMENT ON COLUMN {name}.{_quote_name(f.name)} IS {_quote_text(describe_column(f))}")
    connection.execute(f"CREATE VIEW {DICTIONARY} AS SELECT * FROM {_inline(dictionary_table())}")
    connection.execute(f"COMMENT ON VIEW {DICTIONARY} IS 'one row is a column of a view'")
    ledger = root + store.url(LEDGER).rstrip("/") + "/"  # as a folder: it may hold many thousands of files
    return _both_spellings(read), _both_spellings([ledger])


def scan_sql(files: Sequence[str], options: str = "") -> str:
    """Return DuckDB's call that reads Parquet files.

    Args:
        files: The files, as the connection's file system names them.
        options: Further arguments of the call, as SQL.
    """
    names = ", ".join(_quote_text(_escape_wildcards(file)) for file in files)
    return f"read_parquet([{names}]{', ' + options if options else ''})"


def _with_meshes(faces: str, meshes: str) -> str:
    """Join the meshes to the faces; DuckDB leaves the join out of a query that does not read them.

    It can do so because the grouping shows that a face has one mesh.
    """
    grouped = f"SELECT face_id, first(mesh468) AS mesh468 FROM {meshes} GROUP BY face_id"
    return f"(SELECT f.*, m.mesh468 FROM {faces} f LEFT JOIN ({grouped}) m ON f.face_id = m.face_id)"


def _raising_sql(schema: pa.Schema, error: str) -> str:
    """Return a query that has the columns of a table, and raises an error when it is run."""
    columns = ", ".join(f"CAST(NULL AS {sql_type(f.type)}) AS {_quote_name(f.name)}" for f in schema)
    return (
        f"SELECT {columns} FROM range(1) AS r(i) WHERE error({_quote_text(error)} || CAST(i AS VARCHAR)[1:0]) IS NULL"
    )


def _exclusion(schema: pa.Schema, tokens: Iterable[str]) -> str:
    """Return a condition that leaves out rows that take-downs name and files still hold; empty for none."""
    listed = ", ".join(_quote_text(t) for t in sorted(tokens))
    names = [f.name for f in schema if f.name in ID_COLUMNS]
    if not listed or not names:
        return ""
    return " AND ".join(f"coalesce({token_sql(_quote_name(n))} NOT IN ({listed}), true)" for n in names)


def describe_column(column: pa.Field) -> str:
    """Return the description of a column, with its unit."""
    unit = _meta(column, b"unit")
    return _meta(column, b"description") + (f" [{unit}]" if unit else "")


def dictionary_table() -> pa.Table:
    """Return one row for each column of each view: table_name, column_name, type, unit, description."""
    rows = [
        {
            "table_name": name,
            "column_name": f.name,
            "type": sql_type(f.type),
            "unit": _meta(f, b"unit"),
            "description": _meta(f, b"description"),
        }
        for name, schema in TABLES.items()
        for f in schema
    ]
    return pa.Table.from_pylist(rows)


def _inline(table: pa.Table) -> str:
    """Write a small table of texts as part of a query, so that the view needs no helper view."""
    rows = (
        "(" + ", ".join("NULL" if value is None else _quote_text(value) for value in row.values()) + ")"
        for row in table.to_pylist()
    )
    return f"(VALUES {', '.join(rows)}) AS rows({', '.join(map(_quote_name, table.column_names))})"


def _meta(described: pa.Schema | pa.Field, key: bytes) -> str:
    return (described.metadata or {}).get(key, b"").decode()


def _quote_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _quote_text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _both_spellings(paths: list[str]) -> list[str]:
    return list(dict.fromkeys([*paths, *map(_escape_wildcards, paths)]))


def _escape_wildcards(path: str) -> str:
    """Escape wildcards in a path for DuckDB: the corpus's folder may have brackets or stars in its name."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in path)
