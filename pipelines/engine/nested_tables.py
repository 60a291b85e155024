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


def has_column(schema: pa.Schema, name: str) -> bool:
    """Return True if a schema has a column; ``faces.score`` is the field ``score`` of structs in the list ``faces``.

    Args:
        schema: The schema.
        name: Name of the column or field.
    """
    top, _, below = name.partition(".")
    if top not in schema.names:
        return False
    return not below or has_column(pa.schema(list(schema.field(top).type.value_type)), below)


def conform_table(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the rows in another schema: what they lack is null, at any depth, and what it lacks is left out.

    Args:
        table: The rows.
        schema: Names and types of the result.
    """
    columns = {f.name: table[f.name].combine_chunks() for f in schema if f.name in table.column_names}
    arrays = [
        _conform_array(columns[f.name], f.type) if f.name in columns else pa.nulls(table.num_rows, f.type)
        for f in schema
    ]
    return pa.table(arrays, schema=schema)


def _conform_array(array: pa.Array | pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if array.type == kind:
        return array
    if pa.types.is_list(kind) and pa.types.is_list(array.type):
        lengths = array.value_lengths().fill_null(0).cast(pa.int32())
        offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths).cast(pa.int32())])
        values = _conform_array(array.flatten(), kind.value_type)
        return pa.ListArray.from_arrays(offsets, values, type=kind, mask=array.is_null())
    if pa.types.is_struct(kind) and pa.types.is_struct(array.type):
        known = {f.name: array.field(i) for i, f in enumerate(array.type)}
        children = [
            _conform_array(known[f.name], f.type) if f.name in known else pa.nulls(len(array), f.type) for f in kind
        ]
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=array.is_null())
    return array.cast(kind)
