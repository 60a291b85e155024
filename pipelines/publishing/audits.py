"""What is checked before a snapshot is published. One failed audit and nothing is."""

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
    """A snapshot that would not hold together: one line that names the table, the column and an example."""


@dataclass(frozen=True)
class Reference:
    """Columns of one table that must be found in another's."""

    table: str
    columns: tuple[str, ...]
    target: str
    target_columns: tuple[str, ...] = ()
    """Where they are named otherwise than ``columns``."""


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
"""An empty string refers to nothing."""


def audit(tables: Mapping[str, pa.Table], store: Store) -> None:
    """Schema, nulls, keys, references, statuses, splits and pictures.

    Raises:
        AuditError: the first thing found.
    """
    for name, table in tables.items():
        _audit_table(name, table)
    for reference in REFERENCES:
        if reference.table in tables:
            _audit_reference(reference, tables)
    _audit_splits(tables)
    for name, table in tables.items():
        _audit_pictures(name, table, store)


def _audit_table(name: str, table: pa.Table) -> None:
    wanted = TABLES[name]
    if schema_hash(table.schema) != schema_hash(wanted):
        differing = [f.name for f in wanted if f.name not in table.schema.names or table.schema.field(f.name) != f]
        raise AuditError(f"table {name}: schema differs from mfhq.schema at {differing or table.schema.names}")
    for f in wanted:
        if not f.nullable and table[f.name].null_count:
            raise AuditError(f"table {name}: column {f.name} holds {table[f.name].null_count} nulls; it may hold none")
    keys = table.select(key_of(wanted))
    counts = keys.append_column("_n", pa.array([1] * table.num_rows, pa.int64()))
    counts = counts.group_by(list(key_of(wanted))).aggregate([("_n", "sum")])
    twice = counts.filter(pc.greater(counts["_n_sum"], 1))
    if twice.num_rows:
        example = {column: twice[column][0].as_py() for column in key_of(wanted)}
        raise AuditError(f"table {name}: {twice.num_rows} keys are not unique, for example {example}")
    if "status" in wanted.names:
        odd = sorted(set(table["status"].unique().to_pylist()) - set(STATUSES))
        if odd:
            raise AuditError(f"table {name}: status {odd[0]!r}; it must be one of {STATUSES}")


def _audit_reference(reference: Reference, tables: Mapping[str, pa.Table]) -> None:
    here = tables[reference.table]
    there = tables.get(reference.target, TABLES[reference.target].empty_table())
    known = set(_rows(there, reference.target_columns or reference.columns))
    for row in _rows(here, reference.columns):
        if row not in known and row != ("",):
            what = ", ".join(f"{c} {v!r}" for c, v in zip(reference.columns, row, strict=True))
            raise AuditError(f"table {reference.table}: {what} stands in no row of {reference.target}")


def _audit_splits(tables: Mapping[str, pa.Table]) -> None:
    """A person is in one split. Of a person in train, whole segments of a capture may be held out, as val or test."""
    splits: defaultdict[str, set[str]] = defaultdict(set)
    segments: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    if "identities" in tables:
        for identity, split in _rows(tables["identities"], ("identity_id", "split")):
            splits[identity].add(split)
    trained = {identity for identity, found in splits.items() if found == {"train"}}
    columns = ("identity_id", "capture_id", "segment", "split")
    for identity, capture, segment, split in _rows(tables["views"], columns) if "views" in tables else ():
        segments[identity, capture, segment or ""].add(split)
        if identity not in trained:
            splits[identity].add(split)
    for identity, found in splits.items():
        if len(found) > 1:
            raise AuditError(f"identity {identity!r} is in the splits {sorted(found)}; a person must be in one")
    for (identity, capture, segment), found in segments.items():
        if len(found) > 1:
            where = f"segment {segment!r} of capture {capture!r} (identity {identity!r})"
            raise AuditError(f"{where} is in the splits {sorted(found)}; hold out a whole segment")


def _audit_pictures(name: str, table: pa.Table, store: Store) -> None:
    """Every packed file is there, and long enough."""
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
            problem = "is missing" if size < 0 else f"has {size} bytes, and a picture ends at {end}"
            raise AuditError(f"table {name}: {store.uri}/{uri} {problem}; mine the corpus again")


def _rows(table: pa.Table, columns: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    return zip(*(table[column].to_pylist() for column in columns), strict=True)
