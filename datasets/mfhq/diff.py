"""What changed from one snapshot to another: rows by key, and outcomes by reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from mfhq.catalog import Snapshot
from mfhq.schema import BLOB_REF, NOT_DIGESTED, TABLES, key_of


@dataclass(frozen=True)
class TableDiff:
    """One table's rows in two snapshots."""

    table: str
    before: int
    after: int
    added: int = 0
    """Rows whose key is new."""
    removed: int = 0
    changed: int = 0
    """Rows of one key with other values (where a picture lies does not count)."""
    columns: dict[str, int] = field(default_factory=dict)
    """Column to changed rows in which it differs."""
    outcomes: dict[tuple[str, str], int] = field(default_factory=dict)
    """(reason or ok before, reason or ok after) to rows, where they differ."""

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not (self.added or self.removed or self.changed)


def diff_snapshots(a: Snapshot, b: Snapshot) -> list[TableDiff]:
    """Every table that either snapshot has rows in, ``a`` before and ``b`` after."""
    return list(_diffs(a, b))


def _diffs(a: Snapshot, b: Snapshot) -> Iterator[TableDiff]:
    for name in TABLES:
        if name in NOT_DIGESTED:
            continue
        entries = [snapshot.manifest.tables.get(name) for snapshot in (a, b)]
        rows = [entry.rows if entry else 0 for entry in entries]
        if not any(rows):
            continue
        if all(entries) and entries[0].digest == entries[1].digest:  # type: ignore[union-attr]
            yield TableDiff(name, rows[0], rows[1])
        else:
            yield diff_tables(name, a.table(name), b.table(name))


def diff_tables(name: str, before: pa.Table, after: pa.Table) -> TableDiff:
    """Two states of one table of ``mfhq.schema``."""
    import duckdb

    schema = TABLES[name]
    keys = key_of(schema)
    values = [f for f in schema if f.name not in keys]
    on = " AND ".join(f'a."{key}" = b."{key}"' for key in keys)
    differs = {f.name: f"{_value('a', f)} IS DISTINCT FROM {_value('b', f)}" for f in values}
    any_differs = " OR ".join(differs.values()) or "false"
    sums = ", ".join(f"count(*) FILTER ({test}) AS c{i}" for i, test in enumerate(differs.values()))
    with duckdb.connect() as connection:
        connection.register("a", before)
        connection.register("b", after)
        added, removed = (
            connection.execute(f"SELECT count(*) FROM {x} {x} ANTI JOIN {y} {y} ON {on}").fetchall()[0][0]
            for x, y in (("b", "a"), ("a", "b"))
        )
        joined = f"FROM a JOIN b ON {on} WHERE {any_differs}"
        row = connection.execute(f"SELECT count(*) AS n{', ' + sums if sums else ''} {joined}").fetchall()[0]
        outcomes = {}
        if {"status", "reason"} <= set(schema.names):
            was, now = (f"CASE WHEN {t}.status = 'ok' THEN 'ok' ELSE {t}.reason END" for t in ("a", "b"))
            query = f"SELECT {was}, {now}, count(*) FROM a JOIN b ON {on} WHERE {was} <> {now} GROUP BY 1, 2"
            found = connection.execute(f"{query} ORDER BY 3 DESC, 1, 2").fetchall()
            outcomes = {(old, new): count for old, new, count in found}
    changed = dict(zip(differs, row[1:], strict=True))
    return TableDiff(
        name,
        before.num_rows,
        after.num_rows,
        added,
        removed,
        row[0],
        {column: count for column, count in changed.items() if count},
        outcomes,
    )


def _value(table: str, column: pa.Field) -> str:
    """A column as it is compared: of a picture its digest and length, not its place."""
    name = f'{table}."{column.name}"'
    return f"({name}.sha256, {name}.length)" if column.type == BLOB_REF else name
