"""Checks of a snapshot before it is published, by queries on its files; a check that fails prevents the commit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mfhq.manifest import TableEntry
from mfhq.schema import BLOB_REF, STATUSES, TABLES, key_of, schema_hash, stored_schema
from mfhq.store import Store
from pipelines.publishing.published_query import query_tables

if TYPE_CHECKING:
    import duckdb


class AuditError(ValueError):
    """Inconsistent snapshot; the message is one line that names the table, the column and an example."""


@dataclass(frozen=True)
class Reference:
    """Columns of one table whose values must occur in another table; an empty string refers to nothing."""

    table: str
    columns: tuple[str, ...]
    target: str


REFERENCES: tuple[Reference, ...] = (
    Reference("shots", ("video_id",), "videos"),
    Reference("tracks", ("video_id", "shot_index"), "shots"),
    Reference("duplicates", ("video_id", "shot_index"), "shots"),
    Reference("faces", ("video_id",), "videos"),
    Reference("faces", ("track_id",), "tracks"),
    Reference("meshes", ("face_id",), "faces"),
    Reference("embeddings", ("track_id",), "tracks"),
    Reference("embeddings", ("face_id",), "faces"),
    Reference("assignments", ("track_id",), "tracks"),
    Reference("assignments", ("identity_id",), "identities"),
    Reference("identity_faces", ("identity_id",), "identities"),
    Reference("identity_faces", ("face_id",), "faces"),
    Reference("diversity", ("identity_id",), "identities"),
    Reference("views", ("capture_id",), "captures"),
    Reference("views", ("capture_id", "camera_id"), "cameras"),
    Reference("cameras", ("capture_id",), "captures"),
)
"""Every reference between the tables of a snapshot."""

_SPLITS = """WITH people AS (SELECT identity_id, split FROM identities),
trained AS (SELECT identity_id FROM people GROUP BY identity_id HAVING min(split) = 'train' AND max(split) = 'train'),
every AS (FROM people UNION ALL SELECT identity_id, split FROM views WHERE identity_id NOT IN (FROM trained))
SELECT identity_id, list_sort(list(DISTINCT split)) FROM every GROUP BY identity_id
HAVING min(split) <> max(split) ORDER BY identity_id LIMIT 1"""
_SEGMENTS = """SELECT identity_id, capture_id, coalesce(segment, ''), list_sort(list(DISTINCT split)) FROM views
GROUP BY ALL HAVING min(split) <> max(split) ORDER BY ALL LIMIT 1"""


_PARTED = """WITH placed AS (SELECT t.video_id, t.shot_index, i.split FROM assignments a
JOIN tracks t USING (track_id) JOIN identities i USING (identity_id))
SELECT d.duplicate_of, d.original_shot, d.video_id, d.shot_index, list_sort(list(DISTINCT s.split)) FROM duplicates d
JOIN placed c ON c.video_id = d.video_id AND c.shot_index = d.shot_index
JOIN placed s ON (s.video_id = d.video_id AND s.shot_index = d.shot_index)
OR (s.video_id = d.duplicate_of AND s.shot_index = d.original_shot)
GROUP BY ALL HAVING count(DISTINCT s.split) > 1 ORDER BY ALL LIMIT 1"""


def audit_tables(store: Store, entries: Mapping[str, TableEntry], fresh: Iterable[str]) -> None:
    """Check nulls, keys, statuses, references, splits and packed images of a snapshot.

    Args:
        store: The corpus that holds the files and the packed images.
        entries: The snapshot's tables.
        fresh: Names of the tables that are published for the first time; the others alone have been checked before.

    Raises:
        AuditError: The first problem.
    """
    fresh = set(fresh)
    for name, entry in entries.items():
        if entry.schema_hash != schema_hash(entry.schema(name)):
            raise AuditError(f"table {name} of the snapshot before has an older schema; publish it again too")
    with query_tables(store, entries) as connection:
        for name in sorted(fresh & set(entries)):
            _audit_table(connection, name)
        for reference in REFERENCES:
            if {reference.table, reference.target} & fresh and reference.table in entries:
                _audit_reference(connection, reference)
        if {"identities", "views"} & fresh:
            _audit_splits(connection)
        if {"identities", "duplicates"} & fresh:
            _audit_duplicates(connection)
        for name in sorted(fresh & set(entries)):
            _audit_packed_files(connection, name, store)


def _audit_table(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Check nulls, uniqueness of the key and statuses."""
    schema = stored_schema(name)
    required = [f.name for f in schema if not f.nullable]
    counts = ", ".join(f'count(*) FILTER ("{column}" IS NULL)' for column in required)
    for column, nulls in zip(required, _row(connection, f"SELECT {counts} FROM {name}"), strict=True):
        if nulls:
            raise AuditError(f"table {name}: column {column} holds {nulls} nulls; it may hold none")
    keys = ", ".join(f'"{column}"' for column in key_of(schema))
    twice = f"SELECT {keys} FROM {name} GROUP BY {keys} HAVING count(*) > 1"
    if n := _row(connection, f"SELECT count(*) FROM ({twice})")[0]:
        example = dict(zip(key_of(schema), _row(connection, f"{twice} ORDER BY {keys} LIMIT 1"), strict=True))
        raise AuditError(f"table {name}: {n} keys are not unique, for example {example}")
    if "status" in schema.names:
        listed = ", ".join(f"'{status}'" for status in STATUSES)
        if unknown := _row(connection, f"SELECT min(status) FROM {name} WHERE status NOT IN ({listed})")[0]:
            raise AuditError(f"table {name}: status {unknown!r}; it must be one of {STATUSES}")


def _audit_reference(connection: duckdb.DuckDBPyConnection, reference: Reference) -> None:
    """Check that every row's reference occurs in the target table."""
    columns = ", ".join(f'"{column}"' for column in reference.columns)
    same = " AND ".join(f'a."{column}" = b."{column}"' for column in reference.columns)
    some = " OR ".join(f"CAST(\"{column}\" AS VARCHAR) <> ''" for column in reference.columns)
    rows = f"(SELECT {columns} FROM {reference.table} WHERE {some})"
    found = connection.execute(f"SELECT {columns} FROM {rows} a ANTI JOIN {reference.target} b ON {same} LIMIT 1")
    if row := found.fetchone():
        values = ", ".join(f"{c} {v!r}" for c, v in zip(reference.columns, row, strict=True))
        raise AuditError(f"table {reference.table}: {values} stands in no row of {reference.target}")


def _audit_splits(connection: duckdb.DuckDBPyConnection) -> None:
    """Check that each person is in one split; only complete segments of a person in train may be in val or test."""
    if row := connection.execute(_SPLITS).fetchone():
        raise AuditError(f"identity {row[0]!r} is in the splits {row[1]}; a person must be in one")
    if row := connection.execute(_SEGMENTS).fetchone():
        where = f"segment {row[2]!r} of capture {row[1]!r} (identity {row[0]!r})"
        raise AuditError(f"{where} is in the splits {row[3]}; hold out a whole segment")


def _audit_duplicates(connection: duckdb.DuckDBPyConnection) -> None:
    """Check that the people in a shot and in its copy are in one split."""
    if row := connection.execute(_PARTED).fetchone():
        shots = f"shot {row[1]} of video {row[0]!r} and its copy, shot {row[3]} of video {row[2]!r}"
        raise AuditError(f"{shots}, are in the splits {row[4]}; a shot and its copies must be in one")


def _audit_packed_files(connection: duckdb.DuckDBPyConnection, name: str, store: Store) -> None:
    """Check that every packed file exists and is long enough."""
    for f in stored_schema(name):
        if f.type != BLOB_REF:
            continue
        ref = f'"{f.name}"'
        ends = f"SELECT {ref}.uri, max({ref}.offset + {ref}.length) FROM {name} WHERE {ref} IS NOT NULL GROUP BY 1"
        with ThreadPoolExecutor(16) as pool:
            rows = connection.execute(f"{ends} ORDER BY 1").fetchall()
            sizes = list(pool.map(lambda row: _size(store, row[0]), rows))
        for (uri, end), size in zip(rows, sizes, strict=True):
            if size < end:
                problem = "is missing" if size < 0 else f"has {size} bytes, and an image ends at {end}"
                raise AuditError(f"table {name}: {store.uri}/{uri} {problem}; mine the corpus again")


def _size(store: Store, path: str) -> int:
    """Return the size of a file, bytes; -1 if it is missing."""
    try:
        return store.size(path)
    except FileNotFoundError:
        return -1


def _row(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    row = connection.execute(query).fetchone()
    assert row is not None, "an aggregate has one row"
    return row


def audit_schema(name: str, table: pa.Table) -> None:
    """Check that a table has exactly the columns of its view.

    Args:
        name: Name of the table.
        table: The rows.

    Raises:
        AuditError: There is no such table, or a column is missing or unknown.
    """
    if name not in TABLES:
        raise AuditError(f"no table {name!r} in mfhq.schema; there are {', '.join(TABLES)}")
    if differing := sorted(set(table.column_names) ^ set(TABLES[name].names)):
        raise AuditError(f"table {name}: columns {differing} are missing or not in mfhq.schema")
