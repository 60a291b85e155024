"""SQL views over a snapshot: names, types and comments from ``mfhq.schema``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


DERIVED: dict[str, tuple[tuple[str, ...], str]] = {
    "chosen": (
        ("identity_faces", "identities", "faces"),
        "(SELECT i.identity_id, i.rank, i.why, p.split, f.*, f.x1 - f.x0 AS width_px,"
        " sqrt((f.mesh468[40] - f.mesh468[43])**2 + (f.mesh468[41] - f.mesh468[44])**2)"
        " / nullif(sqrt((f.mesh468[235] - f.mesh468[925])**2 + (f.mesh468[236] - f.mesh468[926])**2), 0) AS mouth_open"
        " FROM {0}identity_faces i JOIN {0}identities p USING (identity_id) JOIN {0}faces f USING (face_id))",
    ),
    "costs": (
        ("attempts",),
        "(SELECT step, fingerprint, status, reason, count(*) FILTER (latest) AS items, count(*) AS attempts,"
        " coalesce(sum(seconds), 0) AS seconds, coalesce(sum(bytes), 0) AS bytes FROM (SELECT *, row_number()"
        " OVER (PARTITION BY step, fingerprint, item_id ORDER BY attempt DESC) = 1 AS latest FROM {0}attempts)"
        " GROUP BY ALL)",
    ),
}
"""Tables that earlier versions did not publish: the views that answer in their place, and a query over these.

Points 13 and 14 of the mesh are the lips' inner edges, 78 and 308 the corners of the mouth.
"""


class SnapshotViews:
    """Views of a snapshot in a DuckDB database; a view gets its files when it is first needed.

    So a connection opens no file and lists no folder at its start, whatever the size of the corpus.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        store: Store,
        manifest: Manifest,
        private: bool = True,
        prefix: str = "",
        commented: bool = True,
    ) -> None:
        """Create a view of each of ``TABLES`` with its columns and comments, and without rows.

        Args:
            connection: An open DuckDB connection.
            store: The corpus.
            manifest: Manifest of the snapshot.
            private: Create the views of ``PRIVATE_TABLES`` too.
            prefix: Beginning of the views' names.
            commented: Comment every view and column, which takes three times as long as the views themselves.
        """
        self._connection, self._store, self._manifest, self._prefix = connection, store, manifest, prefix
        self._commented = commented
        scheme = store.uri.partition("://")[0]
        self._root = "" if scheme == "file" else f"{scheme}://"
        self._denied = snapshot_deny_list(store, manifest.clean_of).tokens
        self._tables = [name for name in TABLES if private or name not in PRIVATE_TABLES]
        self._unfilled = set(self._tables)
        statements = [sql for name in self._tables for sql in self._definition(name, "", "")]
        connection.execute("; ".join(statements))

    @property
    def names(self) -> set[str]:
        """Names of the views."""
        return {self._prefix + name for name in self._tables}

    def readable(self) -> tuple[list[str], list[str]]:
        """Return the files and the folders that the views read.

        They are spelled as DuckDB compares them with its ``allowed_paths`` and ``allowed_directories``: each as it is,
        and as it is where wildcards are escaped.
        """
        files = [path for name in self._tables for path in self._locate(name)]
        ledger = self._root + self._store.url(LEDGER).rstrip("/") + "/"  # it may hold many thousands of files
        return _both_spellings(files), _both_spellings([ledger])

    def unfilled(self, words: Iterable[str]) -> set[str]:
        """Return the tables whose files a query needs that no query before it has needed.

        Args:
            words: Names in the query; those that are no views of these are ignored.
        """
        found, left = set[str](), [word.removeprefix(self._prefix) for word in words if word.startswith(self._prefix)]
        while left:
            name = left.pop()
            if name in self._unfilled - found:
                found.add(name)
                left += DERIVED[name][0] if self._is_derived(name) else ()
        return found

    def fill(self, tables: Iterable[str]) -> None:
        """Let views read their files.

        Args:
            tables: Result of ``unfilled``.

        Raises:
            duckdb.Error: A file is missing or damaged.
        """
        for name in sorted(tables, key=lambda name: name in DERIVED):
            denied = self._denied
            if name == "attempts":
                denied = DenyList(tuple(read_takedowns(self._store, unfinished=True))).tokens
            statements = self._definition(name, self._source(name), _exclusion(TABLES[name], denied))
            self._connection.execute("; ".join(statements))
            self._unfilled.discard(name)

    def _is_derived(self, name: str) -> bool:
        return name in DERIVED and name not in self._manifest.tables

    def _locate(self, name: str) -> list[str]:
        return [self._root + self._store.url(path) for path in published_files(self._store, self._manifest, name)]

    def _source(self, name: str) -> str:
        """Return what stands after FROM in a view; empty if it has no rows."""
        if self._is_derived(name):
            return DERIVED[name][1].format(self._prefix)
        if name == "runs":
            return _inline(corpus_tables.read_runs(self._store)) if next(self._store.list(RUNS), None) else ""
        files = self._locate(name)
        if name == "attempts":
            files = [self._root + self._store.url(path) for path in corpus_tables.ledger_files(self._store)]
        if not files:
            return ""
        if name == "faces" and self._manifest.meshes_apart:
            return _with_meshes(scan_sql(files), scan_sql(self._locate("meshes")))
        return scan_sql(files)

    def _definition(self, name: str, source: str, condition: str) -> list[str]:
        """Return the statements that define a view and any comments; it has no rows if the source is empty."""
        schema, view = TABLES[name], self._prefix + name
        entry = self._manifest.tables.get(name)
        lacking = entry.lacks(name) if entry else ()
        values = (_quote_name(f.name) if source and f.name not in lacking else "NULL" for f in schema)
        columns = [
            f"CAST({value} AS {sql_type(f.type)}) AS {_quote_name(f.name)}"
            for value, f in zip(values, schema, strict=True)
        ]
        rows = f"SELECT {', '.join(columns)} FROM {source or '(SELECT 1) WHERE false'}"
        created = f"CREATE OR REPLACE VIEW {view} AS SELECT * FROM ({rows}) WHERE {condition or 'true'}"
        if not self._commented:
            return [created]
        return [
            created,
            f"COMMENT ON VIEW {view} IS {_quote_text('one row is ' + _meta(schema, b'description'))}",
            *(f"COMMENT ON COLUMN {view}.{_quote_name(f.name)} IS {_quote_text(describe_column(f))}" for f in schema),
        ]


def create_dictionary(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the view ``DICTIONARY``, which describes the others.

    Args:
        connection: An open DuckDB connection.
    """
    connection.execute(f"CREATE VIEW {DICTIONARY} AS SELECT * FROM {_inline(dictionary_table())}")
    connection.execute(f"COMMENT ON VIEW {DICTIONARY} IS 'one row is a column of a view'")


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
