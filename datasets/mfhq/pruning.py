"""Removal of withdrawn rows and list elements from Arrow tables, at any depth of nesting."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mfhq.schema import BLOB_REF

POINTERS = frozenset({"duplicate_of"})
"""Names of string columns that become null if they name what is withdrawn, where they may; the row stays."""

IsWithdrawn = Callable[[pa.Array], npt.NDArray[np.bool_]]
"""Function from an array of N strings to (N,) bools: True for each withdrawn value, False for a null."""

FREE_TEXT = frozenset({"error", "reason", "status"})
"""Names of string columns without ids; their values never make a row withdrawn."""


def prune(table: pa.Table, is_withdrawn: IsWithdrawn) -> pa.Table:
    """Remove the rows that have a withdrawn value, and list elements (structs) that have a withdrawn value.

    The checked values are strings, in columns and in fields of structs.

    Args:
        table: Any table.
        is_withdrawn: Function that marks the withdrawn values.

    Returns:
        The pruned table; the same object if nothing is removed.
    """
    columns = [_as_array(column) for column in table.columns]
    keep = np.ones(table.num_rows, bool)
    for n, (f, column) in enumerate(zip(table.schema, columns, strict=True)):
        hit = _hit(f.name, column, is_withdrawn)
        if f.name in POINTERS and f.nullable:
            table = table.set_column(n, f, pc.if_else(pa.array(hit), None, column)) if hit.any() else table
            columns[n] = _as_array(table.column(n))
        else:
            keep &= ~hit
    if not keep.all():
        columns = [column.filter(pa.array(keep)) for column in columns]
    pruned = [_prune_array(column, is_withdrawn) for column in columns]
    if keep.all() and all(new is old for new, old in zip(pruned, columns, strict=True)):
        return table
    return pa.table(pruned, schema=table.schema)


def collect_references(table: pa.Table) -> set[tuple[str, int, int]]:
    """Return (path, offset, length) of every image that a table refers to, at any depth of nesting."""
    references: set[tuple[str, int, int]] = set()
    for column in table.columns:
        _collect(_as_array(column), references)
    return references


def _as_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _is_ref(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and {f.name for f in kind} == {f.name for f in BLOB_REF}


def _is_structs(kind: pa.DataType) -> bool:
    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return listed and pa.types.is_struct(kind.value_type) and not _is_ref(kind.value_type)


def _hit(name: str, array: pa.Array, is_withdrawn: IsWithdrawn) -> npt.NDArray[np.bool_]:
    """Return (N,) bools: True for each row with a withdrawn value in this column, outside of lists."""
    kind = array.type
    if (pa.types.is_string(kind) or pa.types.is_large_string(kind)) and name not in FREE_TEXT:
        return is_withdrawn(array)
    if pa.types.is_struct(kind) and not _is_ref(kind):
        found = np.zeros(len(array), bool)
        for f, child in zip(kind, array.flatten(), strict=True):
            found |= _hit(f.name, child, is_withdrawn)
        return found
    return np.zeros(len(array), bool)


def _prune_array(array: pa.Array, is_withdrawn: IsWithdrawn) -> pa.Array:
    """Remove list elements with a withdrawn value from an array; return the same object if there are none."""
    kind = array.type
    if _is_structs(kind):
        values = array.flatten()
        keep = ~_hit("", values, is_withdrawn)
        remaining = values if keep.all() else values.filter(pa.array(keep))
        inner = _prune_array(remaining, is_withdrawn)
        if inner is values:
            return array
        parents = array.value_parent_indices().to_numpy(zero_copy_only=False)
        counts = np.bincount(parents[keep], minlength=len(array))
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
        return pa.ListArray.from_arrays(offsets, inner, type=kind, mask=array.is_null())
    if pa.types.is_struct(kind) and not _is_ref(kind):
        # ``field`` instead of ``flatten``, which would put nulls into non-nullable children of null structs
        children = [array.field(i) for i in range(kind.num_fields)]
        pruned = [_prune_array(child, is_withdrawn) for child in children]
        if all(new is old for new, old in zip(pruned, children, strict=True)):
            return array
        return pa.StructArray.from_arrays(pruned, fields=list(kind), mask=array.is_null())
    return array


def _collect(array: pa.Array, references: set[tuple[str, int, int]]) -> None:
    kind = array.type
    if _is_ref(kind):
        references.update((r["uri"], r["offset"], r["length"]) for r in array.to_pylist() if r is not None and r["uri"])
    elif pa.types.is_struct(kind):
        for child in array.flatten():
            _collect(child, references)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        _collect(array.flatten(), references)
