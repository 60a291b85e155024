"""Selection of a table's rows by an SQL condition that the user writes."""

from __future__ import annotations

import pyarrow as pa

from mfhq.catalog import CatalogError


def rows_where(table: pa.Table, condition: str, what: str) -> pa.Array:
    """Evaluate an SQL condition on the columns of a table; it can read nothing else.

    Args:
        table: The table.
        condition: The condition.
        what: Name of the condition in errors, for example ``--where``.

    Returns:
        (N,) bool, True for each row that meets the condition; False where it is null.

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
            matching = [row for (row,) in connection.execute(query).fetchall()]
    except duckdb.Error as error:
        message = " ".join(line.strip() for line in str(error).splitlines() if line.strip() and "LINE" not in line)
        raise CatalogError(f"{what} {condition!r}: {message[:300]}; the columns are {columns}") from error
    mask = [False] * table.num_rows
    for row in matching:
        mask[row] = True
    return pa.array(mask, pa.bool_())
