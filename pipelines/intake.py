"""What was handed in, on record in the corpus: publishing can name every item, even one that no step could read."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mfhq.layout import SOURCES
from mfhq.parquet import from_parquet, to_parquet
from mfhq.store import Store


def first_of_each(table: pa.Table, key: str) -> pa.Table:
    """The first row of each key, in the order of the key."""
    first: dict[str, int] = {}
    for row, value in enumerate(table[key].to_pylist()):
        first.setdefault(value, row)
    return table.take(pa.array([first[value] for value in sorted(first)], pa.int64()))


def record_sources(store: Store, sources: pa.Table, key: str) -> None:
    """Put on record those rows whose key is not there yet."""
    known = read_sources(store, sources.schema, key)[key]
    fresh = sources.filter(pc.invert(pc.is_in(sources[key], value_set=known.combine_chunks())))
    if fresh.num_rows:
        data = to_parquet(fresh.sort_by(key))
        store.create(f"{SOURCES}{hashlib.sha256(data).hexdigest()[:16]}.parquet", data)


def read_sources(store: Store, schema: pa.Schema, key: str) -> pa.Table:
    """One row for each key on record that has the columns of ``schema`` (a corpus may hold other kinds too)."""
    tables = [schema.empty_table()]
    for path in store.list(SOURCES):
        data = store.read(path)
        if set(schema.names) <= set(pq.read_schema(pa.BufferReader(data)).names):
            tables.append(from_parquet(data, schema))
    return first_of_each(pa.concat_tables(tables), key)
