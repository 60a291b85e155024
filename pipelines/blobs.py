"""Pictures out of a table and back: ``large_binary`` values, at any depth, against places in a packed file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

import pyarrow as pa
import pyarrow.compute as pc

from mfhq.schema import BLOB_REF
from mfhq.store import Store

GAP = 1 << 20
"""Bytes between two wanted ranges of one file that are read along rather than asked for apart."""


def stored_type(kind: pa.DataType) -> pa.DataType:
    """The type after packing: ``large_binary`` becomes ``BLOB_REF``, inside lists and structs too."""
    if pa.types.is_large_binary(kind):
        return BLOB_REF
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(stored_type(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([f.with_type(stored_type(f.type)) for f in kind])
    return kind


def stored_schema(schema: pa.Schema) -> pa.Schema:
    """``stored_type`` of every column."""
    return pa.schema([f.with_type(stored_type(f.type)) for f in schema])


class BlobFile:
    """One packed file in the making: values one after the other."""

    def __init__(self) -> None:
        self.data = bytearray()

    def add(self, values: pa.Array) -> pa.Array:
        """Append ``large_binary`` values; their ``BLOB_REF`` (uri empty until ``place``), null for null."""
        refs: list[dict[str, object] | None] = []
        for value in values:
            content = value.as_py()
            if content is None:
                refs.append(None)
                continue
            refs.append(
                {
                    "uri": "",
                    "offset": len(self.data),
                    "length": len(content),
                    "sha256": hashlib.sha256(content).hexdigest(),
                }
            )
            self.data += content
        return pa.array(refs, BLOB_REF)


def pack(table: pa.Table, file: BlobFile) -> pa.Table:
    """Move every ``large_binary`` value of the table into ``file``; what is left has ``stored_schema``."""
    return _map_columns(table, stored_schema(table.schema), pa.types.is_large_binary, lambda array, _: file.add(array))


def place(table: pa.Table, uri: str) -> pa.Table:
    """Write ``uri`` into the packed table's references, now that the packed file has its name."""

    def set_uri(refs: pa.Array, _: pa.DataType) -> pa.Array:
        uris = pa.array([uri if valid else None for valid in refs.is_valid().to_pylist()], pa.string())
        return pa.StructArray.from_arrays([uris, *refs.flatten()[1:]], fields=list(BLOB_REF), mask=refs.is_null())

    return _map_columns(table, table.schema, lambda kind: kind == BLOB_REF, set_uri)


def resolve(table: pa.Table, schema: pa.Schema, store: Store) -> pa.Table:
    """The table as ``schema``: where that wants ``large_binary`` and the table has references, the bytes are read."""
    wanted = [ref for f in schema if stored_type(f.type) != f.type for ref in _references(table[f.name], f.type)]
    contents = read_ranges(store, wanted)

    def fetch(refs: pa.Array, _: pa.DataType) -> pa.Array:
        found = [None if r is None else contents[r["uri"], r["offset"], r["length"]] for r in refs.to_pylist()]
        return pa.array(found, pa.large_binary())

    resolved = _map_columns(table.select(schema.names), schema, lambda kind: kind == BLOB_REF, fetch, by_target=True)
    return resolved.cast(schema)


Range = tuple[str, int, int]


def read_ranges(store: Store, wanted: Iterable[Range]) -> dict[Range, bytes]:
    """The bytes of (path, offset, length) ranges; ranges that lie near each other are read in one go."""
    found: dict[Range, bytes] = {}
    run: list[Range] = []

    def read_run() -> None:
        start, end = run[0][1], max(offset + length for _, offset, length in run)
        data = store.read(run[0][0], start, end - start)
        for uri, offset, length in run:
            found[uri, offset, length] = data[offset - start : offset - start + length]

    for entry in sorted(set(wanted)):
        if run and (entry[0] != run[-1][0] or entry[1] > max(o + n for _, o, n in run) + GAP):
            read_run()
            run = []
        run.append(entry)
    if run:
        read_run()
    return found


def _references(column: pa.ChunkedArray | pa.Array, wanted: pa.DataType) -> list[Range]:
    """Every reference in a column at the places where ``wanted`` has ``large_binary``."""
    found: list[Range] = []
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        if pa.types.is_large_binary(wanted) and chunk.type == BLOB_REF:
            found += [(r["uri"], r["offset"], r["length"]) for r in chunk.to_pylist() if r is not None]
        elif pa.types.is_list(wanted):
            found += _references(chunk.flatten(), wanted.value_type)
        elif pa.types.is_struct(wanted):
            for child, f in zip(chunk.flatten(), wanted, strict=True):
                found += _references(child, f.type)
    return found


Leaf = Callable[[pa.Array, pa.DataType], pa.Array]


def _map_columns(
    table: pa.Table, target: pa.Schema, is_leaf: Callable[[pa.DataType], bool], leaf: Leaf, by_target: bool = False
) -> pa.Table:
    """Apply ``leaf`` to the arrays whose type is a leaf, at any depth; the result has the types of ``target``.

    With ``by_target`` a leaf is changed only where the target wants ``large_binary``.
    """

    def walk(array: pa.Array, kind: pa.DataType) -> pa.Array:
        if is_leaf(array.type) and (not by_target or pa.types.is_large_binary(kind)):
            return leaf(array, kind)
        if array.type == kind and not _holds(kind, is_leaf):
            return array
        if pa.types.is_list(kind):
            lengths = array.value_lengths().fill_null(0).cast(pa.int32())
            offsets = pa.concat_arrays([pa.array([0], pa.int32()), _running_sum(lengths)])
            values = walk(array.flatten(), kind.value_type)
            return pa.ListArray.from_arrays(offsets, values, type=kind, mask=array.is_null())
        if pa.types.is_struct(kind):
            children = [walk(child, f.type) for child, f in zip(_children(array), kind, strict=True)]
            return pa.StructArray.from_arrays(children, fields=list(kind), mask=array.is_null())
        return array.cast(kind)

    columns = []
    for f in target:
        chunks = [walk(chunk, f.type) for chunk in table[f.name].chunks]
        columns.append(pa.chunked_array(chunks, type=f.type))
    return pa.table(columns, schema=target)


def _children(array: pa.StructArray) -> list[pa.Array]:
    """A struct's children, null where the struct is null (but for children that may not be null)."""
    masked = zip(array.flatten(), array.type, strict=True)
    return [child if f.nullable else array.field(i) for i, (child, f) in enumerate(masked)]


def _running_sum(lengths: pa.Array) -> pa.Array:
    return pc.cumulative_sum(lengths).cast(pa.int32())


def _holds(kind: pa.DataType, is_leaf: Callable[[pa.DataType], bool]) -> bool:
    """Whether a leaf stands anywhere in the type."""
    if is_leaf(kind):
        return True
    return kind.num_fields > 0 and any(_holds(kind.field(i).type, is_leaf) for i in range(kind.num_fields))
