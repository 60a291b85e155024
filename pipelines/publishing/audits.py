"""Checks of a snapshot before it is published; a check that fails prevents the commit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mfhq.schema import BLOB_REF, STATUSES, TABLES, key_of, schema_hash
from mfhq.store import Store


class AuditError(ValueError):
    """Inconsistent snapshot; the message is one line that names the table, the column and an example."""


@dataclass(frozen=True)
class Reference:
    """Columns of one table whose values must occur in another table; an empty string refers to nothing."""

    table: str
    columns: tuple[str, ...]
    target: str
    target_columns: tuple[str, ...] = ()
    """Names of these columns in the target table; empty if they are the same as ``columns``."""


REFERENCES: tuple[Reference, ...] = (
    Reference("shots", ("video_id",), "videos"),
    Reference("tracks", ("video_id", "shot_index"), "shots"),
    Reference("faces", ("video_id",), "videos"),
    Reference("faces", ("track_id",), "tracks"),
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


def audit_tables(tables: Mapping[str, pa.Table], store: Store) -> None:
    """Check schemas, nulls, keys, statuses, references, splits and packed images of a snapshot.

    Args:
        tables: Table name to rows.
        store: The corpus that holds the packed images.

    Raises:
        AuditError: The first problem.
    """
    for name, table in tables.items():
        _audit_table(name, table)
    for reference in REFERENCES:
        if reference.table in tables:
            _audit_reference(reference, tables)
    _audit_splits(tables)
    for name, table in tables.items():
        _audit_packed_files(name, table, store)


def _audit_table(name: str, table: pa.Table) -> None:
    """Check schema, nulls, uniqueness of the key and statuses."""
    schema = TABLES[name]
    if schema_hash(table.schema) != schema_hash(schema):
        differing = [f.name for f in schema if f.name not in table.schema.names or table.schema.field(f.name) != f]
        raise AuditError(f"table {name}: schema differs from mfhq.schema at {differing or table.schema.names}")
    for f in schema:
        if not f.nullable and table[f.name].null_count:
            raise AuditError(f"table {name}: column {f.name} holds {table[f.name].null_count} nulls; it may hold none")
    keys = table.select(key_of(schema))
    counts = keys.append_column("_n", pa.array([1] * table.num_rows, pa.int64()))
    counts = counts.group_by(list(key_of(schema))).aggregate([("_n", "sum")])
    duplicates = counts.filter(pc.greater(counts["_n_sum"], 1))
    if duplicates.num_rows:
        example = {column: duplicates[column][0].as_py() for column in key_of(schema)}
        raise AuditError(f"table {name}: {duplicates.num_rows} keys are not unique, for example {example}")
    if "status" in schema.names:
        unknown = sorted(set(table["status"].unique().to_pylist()) - set(STATUSES))
        if unknown:
            raise AuditError(f"table {name}: status {unknown[0]!r}; it must be one of {STATUSES}")


def _audit_reference(reference: Reference, tables: Mapping[str, pa.Table]) -> None:
    """Check that every row's reference occurs in the target table."""
    table = tables[reference.table]
    target = tables.get(reference.target, TABLES[reference.target].empty_table())
    known = set(_rows(target, reference.target_columns or reference.columns))
    for row in _rows(table, reference.columns):
        if row not in known and row != ("",):
            values = ", ".join(f"{c} {v!r}" for c, v in zip(reference.columns, row, strict=True))
            raise AuditError(f"table {reference.table}: {values} stands in no row of {reference.target}")


def _audit_splits(tables: Mapping[str, pa.Table]) -> None:
    """Check that each person is in one split; only complete segments of a person in train may be in val or test."""
    splits: defaultdict[str, set[str]] = defaultdict(set)
    segments: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    if "identities" in tables:
        for identity, split in _rows(tables["identities"], ("identity_id", "split")):
            splits[identity].add(split)
    trained = {identity for identity, names in splits.items() if names == {"train"}}
    columns = ("identity_id", "capture_id", "segment", "split")
    for identity, capture, segment, split in _rows(tables["views"], columns) if "views" in tables else ():
        segments[identity, capture, segment or ""].add(split)
        if identity not in trained:
            splits[identity].add(split)
    for identity, names in splits.items():
        if len(names) > 1:
            raise AuditError(f"identity {identity!r} is in the splits {sorted(names)}; a person must be in one")
    for (identity, capture, segment), names in segments.items():
        if len(names) > 1:
            where = f"segment {segment!r} of capture {capture!r} (identity {identity!r})"
            raise AuditError(f"{where} is in the splits {sorted(names)}; hold out a whole segment")


def _audit_packed_files(name: str, table: pa.Table, store: Store) -> None:
    """Check that every packed file exists and is long enough."""
    ends: dict[str, int] = {}
    for f in TABLES[name]:
        if f.type == BLOB_REF:
            refs = table[f.name].combine_chunks().drop_null()
            for ref in refs.to_pylist():
                ends[ref["uri"]] = max(ends.get(ref["uri"], 0), ref["offset"] + ref["length"])
    for uri, end in ends.items():
        try:
            size = store.size(uri)
        except FileNotFoundError:
            size = -1
        if size < end:
            problem = "is missing" if size < 0 else f"has {size} bytes, and an image ends at {end}"
            raise AuditError(f"table {name}: {store.uri}/{uri} {problem}; mine the corpus again")


def _rows(table: pa.Table, columns: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    return zip(*(table[column].to_pylist() for column in columns), strict=True)
