"""Rows of a table by a condition that a user writes in SQL."""

from __future__ import annotations

import pyarrow as pa

from mfhq.catalog import CatalogError


def rows_where(table: pa.Table, condition: str, what: str) -> pa.Array:
    """(N,) bool: whether each row meets an SQL condition on the table's columns; null counts as no.

    ``what`` names the condition in errors, for example ``--where``. Nothing but the table is within its reach.

    Raises:
        CatalogError: DuckDB refuses the condition, or it is more than a condition.
    """
    import duckdb

    numbered = table.append_column("_row", pa.array(range(table.num_rows), pa.int64()))
    query = f"SELECT _row FROM rows WHERE (\n{condition}\n)"
    columns = ", ".join(table.column_names)
    try:
        if len(duckdb.extract_statements(query)) != 1:
            raise CatalogError(f"{what} {condition!r}: one SQL condition is needed, on the columns {columns}")
        with duckdb.connect(
            config={"autoinstall_known_extensions": False, "enable_external_access": False}
        ) as connection:
            connection.register("rows", numbered)
            met = [row for (row,) in connection.execute(query).fetchall()]
    except duckdb.Error as error:
        said = " ".join(line.strip() for line in str(error).splitlines() if line.strip() and "LINE" not in line)
        raise CatalogError(f"{what} {condition!r}: {said[:300]}; the columns are {columns}") from error
    mask = [False] * table.num_rows
    for row in met:
        mask[row] = True
    return pa.array(mask, pa.bool_())
