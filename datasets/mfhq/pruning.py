"""Rows out of Arrow tables, at any depth: what holds a value that is to go, goes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mfhq.schema import BLOB_REF

Gone = Callable[[pa.Array], npt.NDArray[np.bool_]]
"""(N,) whether each value of an array of texts is to go; null is not."""

FREE_TEXT = frozenset({"error", "reason", "status"})
"""Columns whose text is no id: they never decide on a row."""


def prune(table: pa.Table, gone: Gone) -> pa.Table:
    """The table without the rows that hold a value to go, and without such elements of its lists of structs.

    Looked at are texts, alone or as fields of structs; the same table object comes back where nothing goes.
    """
    columns = [_whole(column) for column in table.columns]
    keep = np.ones(table.num_rows, bool)
    for f, column in zip(table.schema, columns, strict=True):
        keep &= ~_hit(f.name, column, gone)
    if not keep.all():
        columns = [column.filter(pa.array(keep)) for column in columns]
    pruned = [_pruned(column, gone) for column in columns]
    if keep.all() and all(new is old for new, old in zip(pruned, columns, strict=True)):
        return table
    return pa.table(pruned, schema=table.schema)


def references(table: pa.Table) -> set[tuple[str, int, int]]:
    """(path, offset, length) of every picture that the table refers to, at any depth."""
    found: set[tuple[str, int, int]] = set()
    for column in table.columns:
        _collect(_whole(column), found)
    return found


def _whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _is_ref(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and {f.name for f in kind} == {f.name for f in BLOB_REF}


def _is_structs(kind: pa.DataType) -> bool:
    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return listed and pa.types.is_struct(kind.value_type) and not _is_ref(kind.value_type)


def _hit(name: str, array: pa.Array, gone: Gone) -> npt.NDArray[np.bool_]:
    """(N,) whether a row holds a value to go in this column itself (lists of structs are pruned instead)."""
    kind = array.type
    if (pa.types.is_string(kind) or pa.types.is_large_string(kind)) and name not in FREE_TEXT:
        return gone(array)
    if pa.types.is_struct(kind) and not _is_ref(kind):
        found = np.zeros(len(array), bool)
        for f, child in zip(kind, array.flatten(), strict=True):
            found |= _hit(f.name, child, gone)
        return found
    return np.zeros(len(array), bool)


def _pruned(array: pa.Array, gone: Gone) -> pa.Array:
    """The array without list elements to go; the same object where there are none."""
    kind = array.type
    if _is_structs(kind):
        values = array.flatten()
        keep = ~_hit("", values, gone)
        kept = values if keep.all() else values.filter(pa.array(keep))
        inner = _pruned(kept, gone)
        if inner is values:
            return array
        parents = array.value_parent_indices().to_numpy(zero_copy_only=False)
        counts = np.bincount(parents[keep], minlength=len(array))
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
        return pa.ListArray.from_arrays(offsets, inner, type=kind, mask=array.is_null())
    if pa.types.is_struct(kind) and not _is_ref(kind):
        # ``field`` and not ``flatten``: a child that may not be null keeps its values where the struct is null
        children = [array.field(i) for i in range(kind.num_fields)]
        pruned = [_pruned(child, gone) for child in children]
        if all(new is old for new, old in zip(pruned, children, strict=True)):
            return array
        return pa.StructArray.from_arrays(pruned, fields=list(kind), mask=array.is_null())
    return array


def _collect(array: pa.Array, found: set[tuple[str, int, int]]) -> None:
    kind = array.type
    if _is_ref(kind):
        found.update((r["uri"], r["offset"], r["length"]) for r in array.to_pylist() if r is not None and r["uri"])
    elif pa.types.is_struct(kind):
        for child in array.flatten():
            _collect(child, found)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        _collect(array.flatten(), found)
