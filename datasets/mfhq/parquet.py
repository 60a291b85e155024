"""Tables to Parquet bytes and back, with the exact schema on both sides."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mfhq.store import Store

_LARGE = 4 << 20
"""Bytes from which reading with several threads is faster than with one."""


def storage_type(kind: pa.DataType) -> pa.DataType:
    """The type that stands in Parquet: fixed-size lists become plain lists, at any depth.

    Arrow's Parquet reader can't read a fixed-size list that has nulls (checked with pyarrow 25: "Expected
    all lists to be of size"), and a face without a mesh is one.
    """
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(pa.field("item", storage_type(kind.value_type)))
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(storage_type(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([f.with_type(storage_type(f.type)) for f in kind])
    return kind


def storage_schema(schema: pa.Schema) -> pa.Schema:
    """``storage_type`` of every column; metadata stays."""
    return pa.schema([f.with_type(storage_type(f.type)) for f in schema], metadata=schema.metadata)


def to_parquet(table: pa.Table, row_group_rows: int = 65_536) -> bytes:
    """The table as one Parquet file (zstd). The same rows give the same bytes with one version of pyarrow."""
    sink = pa.BufferOutputStream()
    stored = table.cast(storage_schema(table.schema)).combine_chunks()
    pq.write_table(stored, sink, compression="zstd", row_group_size=row_group_rows)
    return sink.getvalue().to_pybytes()


def pruned(schema: pa.Schema, columns: Sequence[str]) -> pa.Schema:
    """The schema with only these columns; ``faces.score`` is that field of the structs in the list ``faces``."""
    tops = list(dict.fromkeys(name.partition(".")[0] for name in columns))
    return pa.schema([_pruned_field(schema.field(top), _below(columns, top)) for top in tops])


def from_parquet(data: bytes, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """Read what ``to_parquet`` wrote, as ``schema`` (or only ``columns`` of it: see ``pruned``)."""
    wanted = schema if columns is None else pruned(schema, columns)
    file = pq.ParquetFile(pa.BufferReader(data))
    table = file.read(columns=_paths(columns or schema.names), use_threads=len(data) > _LARGE)
    return table.select(wanted.names).cast(wanted)


class StoredParquet:
    """A file that ``to_parquet`` wrote, read where it lies: only the row groups and columns that are asked for."""

    def __init__(self, store: Store, path: str, schema: pa.Schema) -> None:
        """Reads the file's end. Raises what ``store.read`` raises."""
        self._schema, self._file = schema, pq.ParquetFile(pa.PythonFile(_StoredFile(store, path), mode="r"))

    @property
    def row_groups(self) -> int:
        """How many there are."""
        return int(self._file.num_row_groups)

    def read(self, group: int, columns: Sequence[str]) -> pa.Table:
        """Rows of one group, as ``from_parquet`` gives them."""
        wanted = pruned(self._schema, columns)
        table = self._file.read_row_group(group, columns=_paths(columns), use_threads=False)
        return table.select(wanted.names).cast(wanted)


class _StoredFile(io.RawIOBase):
    """A file of a store as Arrow reads files: each read is a ranged one."""

    def __init__(self, store: Store, path: str) -> None:
        self._store, self._path, self._size, self._place = store, path, store.size(path), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = base + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), self._size - self._place)
        data = self._store.read(self._path, self._place, length) if length > 0 else b""
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


def _paths(columns: Sequence[str]) -> list[str]:
    return [name.replace(".", ".list.element.") for name in columns]


def _below(columns: Sequence[str], top: str) -> list[str]:
    """What the columns ask of a field's own fields; nothing where they ask for all of it."""
    below = [name.partition(".")[2] for name in columns if name.partition(".")[0] == top]
    return [] if "" in below else below


def _pruned_field(f: pa.Field, below: Sequence[str]) -> pa.Field:
    if not below:
        return f
    inner = list(dict.fromkeys(name.partition(".")[0] for name in below))
    fields = [_pruned_field(f.type.value_type.field(name), _below(below, name)) for name in inner]
    return f.with_type(pa.list_(f.type.value_field.with_type(pa.struct(fields))))
