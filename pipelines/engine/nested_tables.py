"""Nested tables of the steps: one row is one item, and its shots, tracks or views are lists of structs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc


def explode(table: pa.Table, column: str, keep: Sequence[str]) -> pa.Table:
    """Return one row for each struct in a list column.

    Args:
        table: The nested table.
        column: A column of lists of structs.
        keep: Columns of the table whose values are repeated next to the struct's fields.

    Returns:
        The ``keep`` columns, then a column for each field of the struct.
    """
    lists = table[column].combine_chunks()
    lists = pa.concat_arrays(lists.chunks) if isinstance(lists, pa.ChunkedArray) else lists
    parents, structs = pc.list_parent_indices(lists), lists.flatten()
    names = [f.name for f in structs.type]
    return pa.table(
        {**{name: table[name].take(parents) for name in keep}, **dict(zip(names, structs.flatten(), strict=True))}
    )


def lookup_rows(left: pa.Table, right: pa.Table, key: str) -> pa.Table:
    """Return, for each row of ``left``, the row of ``right`` with the same key; a row of nulls if there is none.

    Args:
        left: N rows with the column ``key``.
        right: The rows to find, with the column ``key``, whose values are unique.
        key: The name of the column.

    Returns:
        N rows with the columns of ``right``, in the order of ``left``.
    """
    return right.take(pc.index_in(left[key], value_set=right[key].combine_chunks()))


def conform_to_schema(columns: Mapping[str, pa.Array | pa.ChunkedArray], schema: pa.Schema) -> pa.Table:
    """Return a table of exactly the schema's columns.

    Args:
        columns: One or more arrays by name, all of the same length; those that the schema lacks are left out.
        schema: Names and types of the result; a column without an array is filled with nulls.

    Returns:
        The rows in their order, each column cast to its type.
    """
    n = len(next(iter(columns.values())))
    arrays = [columns[f.name].cast(f.type) if f.name in columns else pa.nulls(n, f.type) for f in schema]
    return pa.table(arrays, schema=schema)
