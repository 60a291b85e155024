"""Sources recorded in the corpus, so that publishing can name every item, even one that no step could read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mfhq.parquet import explain_damage, from_parquet, to_parquet
from mfhq.paths import SOURCES
from mfhq.seals import check_parquet
from mfhq.store import Store

_REMEDY = "delete it and run `ffavatar mine` with the same source again, which records its rows anew"


def first_of_each(table: pa.Table, key: str) -> pa.Table:
    """Return the first row of each key, sorted by key.

    Args:
        table: Rows in any order.
        key: The name of the key column, without nulls.
    """
    first: dict[str, int] = {}
    for row, value in enumerate(table[key].to_pylist()):
        first.setdefault(value, row)
    return table.take(pa.array([first[value] for value in sorted(first)], pa.int64()))


def record_sources(store: Store, sources: pa.Table, key: str) -> None:
    """Record the new rows: those with an unknown key, or with a changed URI, licence or consent.

    A null keeps what is recorded of its item: mined again without a list, a video keeps its licence and consent.

    Each call writes one file, whose number follows that of the newest file. If two calls run at once, the second finds
    its number taken, and compares its rows again with the recorded ones.

    Args:
        store: The corpus.
        sources: The rows.
        key: The name of the key column.
    """
    while True:
        number = max((_number(path) for path in store.list(SOURCES)), default=0) + 1
        recorded = read_sources(store, sources.schema, key)
        known = set(_rows(recorded))
        sources = fill_from_recorded(sources, recorded, key)
        fresh = sources.filter(pa.array([row not in known for row in _rows(sources)], pa.bool_()))
        if not fresh.num_rows or store.create(f"{SOURCES}{number:08d}.parquet", to_parquet(fresh.sort_by(key))):
            return


def fill_from_recorded(sources: pa.Table, recorded: pa.Table, key: str) -> pa.Table:
    """Replace nulls by what is recorded of the same item.

    Args:
        sources: The rows.
        recorded: Rows of the same schema, one a key.
        key: The name of the key column.
    """
    place = pc.index_in(sources[key], value_set=recorded[key].combine_chunks())
    columns = [
        pc.coalesce(sources[field.name], recorded[field.name].take(place)) if field.nullable else sources[field.name]
        for field in sources.schema
    ]
    return pa.table(columns, schema=sources.schema)


def read_sources(store: Store, schema: pa.Schema, key: str) -> pa.Table:
    """Read the newest recorded row of each key.

    Args:
        store: The corpus.
        schema: The columns to return.
        key: The name of the key column.
    """
    return first_of_each(recorded_sources(store, schema), key)


def recorded_sources(store: Store, schema: pa.Schema) -> pa.Table:
    """Read every row that was ever recorded, the newest first.

    Args:
        store: The corpus.
        schema: The columns to return; files that lack one of them hold another kind of source and are skipped.
    """
    tables = [schema.empty_table()]
    for path in sorted(store.list(SOURCES), key=lambda path: (_number(path), path), reverse=True):
        data, where = store.read(path), f"{store.uri}/{path}"
        with explain_damage(where, _REMEDY):
            names = set(pq.read_schema(pa.BufferReader(check_parquet(data, where, _REMEDY))).names)
            if set(schema.names) <= names:
                tables.append(from_parquet(data, schema))
    return pa.concat_tables(tables)


def _rows(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    return zip(*(column.to_pylist() for column in table.columns), strict=True)


def _number(path: str) -> int:
    """Return a file's number in the order of recording; 0 if an earlier version named the file by its content."""
    stem = path.removeprefix(SOURCES).removesuffix(".parquet")
    return int(stem) if len(stem) == 8 and stem.isdigit() else 0
