"""Selection of a table's rows by an SQL condition that the user writes."""

from __future__ import annotations

import pyarrow as pa

from mfhq.catalog import CatalogError
from mfhq.sql_fence import RefusedSql, check_condition, lock_database, open_database


def rows_where(table: pa.Table, condition: str, what: str) -> pa.Array:
    """Evaluate an SQL condition on the columns of a table; it can read nothing else.

    Args:
        table: The table.
        condition: One expression that is true or false, without comments and subqueries.
        what: Name of the condition in errors, for example ``--where``.

    Returns:
        (N,) bool, True for each row that meets the condition; False where it is null.

    Raises:
        CatalogError: DuckDB refuses the condition, or it is more than a condition.
    """
    import duckdb

    numbered = table.append_column("_row", pa.array(range(table.num_rows), pa.int64()))
    hint = f"the columns are {', '.join(table.column_names)}"
    try:
        with open_database() as connection:
            check_condition(connection, condition)
            connection.register("rows", numbered)
            lock_database(connection)
            (kind,) = connection.sql(f"SELECT (\n{condition}\n) FROM rows LIMIT 0").types
            if kind != "BOOLEAN":
                raise RefusedSql(f"a {kind}, and not true or false; compare it with something")
            query = f"SELECT _row FROM rows WHERE (\n{condition}\n)"
            matching = [row for (row,) in connection.execute(query).fetchall()]
    except RefusedSql as error:
        raise CatalogError(f"{what} {condition!r}: {error}; {hint}") from error
    except (duckdb.Error, UnicodeError) as error:
        message = " ".join(line.strip() for line in str(error).splitlines() if line.strip() and "LINE" not in line)
        raise CatalogError(f"{what} {condition!r}: {message[:300]}; {hint}") from error
    mask = [False] * table.num_rows
    for row in matching:
        mask[row] = True
    return pa.array(mask, pa.bool_())
