"""Differences between two snapshots: added, removed and changed rows, and rows whose outcome changed."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

from mfhq.catalog import Snapshot
from mfhq.schema import BLOB_REF, NOT_DIGESTED, TABLES, key_of


@dataclass(frozen=True)
class TableDiff:
    """Differences between two states of a table, as numbers of rows."""

    table: str
    """Name of the table."""
    before: int
    """Number of rows in the first state."""
    after: int
    """Number of rows in the second state."""
    added: int = 0
    """Number of rows whose key is only in the second state."""
    removed: int = 0
    """Number of rows whose key is only in the first state."""
    changed: int = 0
    """Number of keys whose other columns differ; the location of an image is not compared."""
    columns: dict[str, int] = field(default_factory=dict)
    """Number of changed rows by the name of the column that differs."""
    outcomes: dict[tuple[str, str], int] = field(default_factory=dict)
    """Number of rows whose outcome changed, by (outcome before, outcome after); an outcome is ``ok`` or a reason."""

    @property
    def same(self) -> bool:
        """True if nothing differs."""
        return not (self.added or self.removed or self.changed)


def diff_snapshots(a: Snapshot, b: Snapshot) -> list[TableDiff]:
    """Compare every table in which one of the snapshots has rows, except the tables in ``NOT_DIGESTED``.

    Args:
        a: The first snapshot.
        b: The second snapshot.
    """
    diffs: list[TableDiff] = []
    for name in TABLES:
        if name in NOT_DIGESTED:
            continue
        entries = [snapshot.manifest.tables.get(name) for snapshot in (a, b)]
        rows = [entry.rows if entry else 0 for entry in entries]
        if not any(rows):
            continue
        if all(entries) and entries[0].digest == entries[1].digest:  # type: ignore[union-attr]
            diffs.append(TableDiff(name, rows[0], rows[1]))
        else:
            diffs.append(diff_tables(name, a.table(name), b.table(name)))
    return diffs


def diff_tables(name: str, before: pa.Table, after: pa.Table) -> TableDiff:
    """Compare two states of a table.

    Args:
        name: A key of ``mfhq.schema.TABLES``.
        before: The first state.
        after: The second state.
    """
    import duckdb

    schema = TABLES[name]
    keys = key_of(schema)
    values = [f for f in schema if f.name not in keys]
    on = " AND ".join(f'a."{key}" = b."{key}"' for key in keys)
    differs = {f.name: f"{_compared_value('a', f)} IS DISTINCT FROM {_compared_value('b', f)}" for f in values}
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
            moved = connection.execute(f"{query} ORDER BY 3 DESC, 1, 2").fetchall()
            outcomes = {(old, new): count for old, new, count in moved}
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


def _compared_value(table: str, column: pa.Field) -> str:
    """Return the SQL for the value of a column that is compared: for an image, its digest and length."""
    name = f'{table}."{column.name}"'
    return f"({name}.sha256, {name}.length)" if column.type == BLOB_REF else name
