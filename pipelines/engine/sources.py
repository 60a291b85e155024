"""What was handed in, on record in the corpus: publishing can name every item, even one that no step could read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mfhq.parquet import from_parquet, to_parquet
from mfhq.paths import SOURCES
from mfhq.store import Store


def first_of_each(table: pa.Table, key: str) -> pa.Table:
    """The first row of each key, in the order of the key."""
    first: dict[str, int] = {}
    for row, value in enumerate(table[key].to_pylist()):
        first.setdefault(value, row)
    return table.take(pa.array([first[value] for value in sorted(first)], pa.int64()))


def record_sources(store: Store, sources: pa.Table, key: str) -> None:
    """Put on record those rows that say something new: a key that is not there yet, or another URI, licence ... of one.

    Each call's file has the next number, by conditional create: of two that record at once, the later one compares
    its rows again with what the other put there.
    """
    while True:
        number = max((_number(path) for path in store.list(SOURCES)), default=0) + 1
        known = set(_rows(read_sources(store, sources.schema, key)))
        fresh = sources.filter(pa.array([row not in known for row in _rows(sources)], pa.bool_()))
        if not fresh.num_rows or store.create(f"{SOURCES}{number:08d}.parquet", to_parquet(fresh.sort_by(key))):
            return


def read_sources(store: Store, schema: pa.Schema, key: str) -> pa.Table:
    """The newest row of each key on record."""
    return first_of_each(recorded_sources(store, schema), key)


def recorded_sources(store: Store, schema: pa.Schema) -> pa.Table:
    """Every row ever recorded, the newest first, that has ``schema``'s columns (a corpus may hold other kinds too)."""
    tables = [schema.empty_table()]
    for path in sorted(store.list(SOURCES), key=lambda path: (_number(path), path), reverse=True):
        data = store.read(path)
        if set(schema.names) <= set(pq.read_schema(pa.BufferReader(data)).names):
            tables.append(from_parquet(data, schema))
    return pa.concat_tables(tables)


def _rows(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    return zip(*(column.to_pylist() for column in table.columns), strict=True)


def _number(path: str) -> int:
    """The place of a file in the order of recording; 0 where an earlier version named it by its content."""
    stem = path.removeprefix(SOURCES).removesuffix(".parquet")
    return int(stem) if len(stem) == 8 and stem.isdigit() else 0
