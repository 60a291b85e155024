"""Conversion of tables to Parquet bytes and back, with exactly the same schema."""

from __future__ import annotations

import bisect
import contextlib
import io
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mfhq.seals import PARQUET_KEY, UNSEALED, DamagedFileError, check_parquet, seal_parquet
from mfhq.store import Store

_VERIFY = "`ffavatar verify` says what else is, and what to do"
_LARGE_BYTES = 4 << 20
"""Size of a file (bytes) above which reading with several threads is faster than with one."""


def storage_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that a column has in Parquet: fixed-size lists become plain lists, at any depth.

    Arrow's Parquet reader cannot read fixed-size lists with nulls (checked with pyarrow 25: "Expected all lists to be
    of size"). Such nulls occur: the mesh of a face may be null.
    """
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(pa.field("item", storage_type(kind.value_type)))
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(storage_type(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([f.with_type(storage_type(f.type)) for f in kind])
    return kind


def storage_schema(schema: pa.Schema) -> pa.Schema:
    """Return a schema in which every column has its ``storage_type``; the metadata is kept."""
    return pa.schema([f.with_type(storage_type(f.type)) for f in schema], metadata=schema.metadata)


def to_parquet(table: pa.Table, row_group_rows: int = 65_536) -> bytes:
    """Encode a table as one Parquet file (zstd), with a checksum of each page and a seal (``mfhq.seals``).

    Args:
        table: The table.
        row_group_rows: Most rows of a row group.

    Returns:
        Bytes of the file; with the same version of pyarrow, the same rows give the same bytes.
    """
    sink = pa.BufferOutputStream()
    stored = table.cast(storage_schema(_without_seal(table.schema))).combine_chunks()
    with pq.ParquetWriter(sink, stored.schema, compression="zstd", write_page_checksum=True) as writer:
        writer.write_table(stored, row_group_size=row_group_rows)
        writer.add_key_value_metadata({PARQUET_KEY: UNSEALED})
    return seal_parquet(sink.getvalue().to_pybytes())


def _without_seal(schema: pa.Schema) -> pa.Schema:
    """Return a schema without the seal of the file that it was read from."""
    kept = {key: value for key, value in (schema.metadata or {}).items() if key != PARQUET_KEY}
    return schema.with_metadata(kept or None)


def prune_schema(schema: pa.Schema, columns: Sequence[str]) -> pa.Schema:
    """Select columns of a schema.

    Args:
        schema: The schema.
        columns: Names of columns or fields; ``faces.score`` is the field ``score`` of structs in the list ``faces``.

    Raises:
        KeyError: The schema has no such column or field.
    """
    tops = list(dict.fromkeys(name.partition(".")[0] for name in columns))
    return pa.schema([_prune_field(schema.field(top), _below(columns, top)) for top in tops])


def fill_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with the columns of a schema; those that it lacks are null.

    Args:
        table: Rows with some of the columns.
        schema: The columns of the result.
    """
    if table.column_names == schema.names:
        return table
    columns = [table[f.name] if f.name in table.column_names else pa.nulls(table.num_rows, f.type) for f in schema]
    return pa.table(columns, schema=schema)


def from_parquet(
    data: bytes, schema: pa.Schema, columns: Sequence[str] | None = None, where: str = "", remedy: str = ""
) -> pa.Table:
    """Decode a file that ``to_parquet`` encoded.

    Args:
        data: Bytes of the file.
        schema: Schema of the table.
        columns: Columns to read, named as for ``prune_schema``; None for all.
        where: URI of a file whose digest is recorded nowhere else, so that its seal is checked; empty for no check.
        remedy: What to do if it is damaged, for the error.

    Raises:
        DamagedFileError: The seal is that of another content, or a file that is named by ``where`` does not decode.
    """
    if where:
        with explain_damage(where, remedy):
            return from_parquet(check_parquet(data, where, remedy), schema, columns)
    selected = schema if columns is None else prune_schema(schema, columns)
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    table = file.read(columns=_parquet_paths(columns or schema.names), use_threads=len(data) > _LARGE_BYTES)
    return table.select(selected.names).cast(selected)


@contextlib.contextmanager
def explain_damage(where: str, remedy: str) -> Iterator[None]:
    """Raise Arrow's errors about a Parquet file as a ``DamagedFileError``.

    Args:
        where: URI of the file.
        remedy: What to do.
    """
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        text = " ".join(str(error).split())[:120]
        raise DamagedFileError(f"{where}: is damaged ({text}); {remedy}") from error


class StoredParquet:
    """Parquet file in a store; only the requested row groups and columns are read."""

    def __init__(self, store: Store, path: str, schema: pa.Schema) -> None:
        """Open a file that ``to_parquet`` wrote, and read its footer.

        Args:
            store: The corpus.
            path: Path of the file.
            schema: Schema of the table.

        Raises:
            FileNotFoundError: There is no such file.
            StoreError: The store cannot be reached or read, or the file is damaged.
        """
        self._schema, self._where = schema, f"{store.uri}/{path}"
        stream = pa.PythonFile(StoredFile(store, path), mode="r")
        with explain_damage(self._where, _VERIFY):
            self._file = pq.ParquetFile(stream, page_checksum_verification=True)

    @property
    def row_groups(self) -> int:
        """Number of row groups."""
        return int(self._file.num_row_groups)

    def group_rows(self, group: int) -> int:
        """Return the number of rows of a row group."""
        return int(self._file.metadata.row_group(group).num_rows)

    def read(self, group: int, columns: Sequence[str]) -> pa.Table:
        """Read the rows of a row group.

        Args:
            group: Index of the row group.
            columns: Columns to read, named as for ``prune_schema``.
        """
        selected = prune_schema(self._schema, columns)
        with explain_damage(self._where, _VERIFY):
            table = self._file.read_row_group(group, columns=_parquet_paths(columns), use_threads=False)
        return table.select(selected.names).cast(selected)


class StoredRows:
    """Rows of several Parquet files in a store, one file after the other; a range of rows reads its row groups only."""

    def __init__(self, store: Store, paths: Sequence[str], schema: pa.Schema) -> None:
        """Open the files, and read their footers.

        Args:
            store: The corpus.
            paths: Paths of the files, in their order.
            schema: Schema of the table.
        """
        self._schema = schema
        self._files = [StoredParquet(store, path, schema) for path in paths]
        groups = [(file, group) for file in self._files for group in range(file.row_groups)]
        self._groups = groups
        self._starts = [0, *itertools.accumulate(file.group_rows(group) for file, group in groups)]

    def read(self, start: int, n: int, columns: Sequence[str]) -> pa.Table:
        """Read a range of rows.

        Args:
            start: Number of the first row.
            n: Number of rows; fewer are returned at the end.
            columns: Columns to read.
        """
        first = max(0, bisect.bisect_right(self._starts, start) - 1)
        last = bisect.bisect_left(self._starts, start + n)
        tables = [prune_schema(self._schema, columns).empty_table()]
        tables += [file.read(group, columns) for file, group in self._groups[first:last]]
        return pa.concat_tables(tables).slice(start - self._starts[first], n)


class StoredFile(io.RawIOBase):
    """Python stream of a file in a store; each read of the stream reads a byte range of the file."""

    def __init__(self, store: Store, path: str, size: int | None = None) -> None:
        """Open a file.

        Args:
            store: The store.
            path: Path of the file.
            size: Its size, bytes; None to ask the store.
        """
        self._store, self._path, self._position = store, path, 0
        self._size = store.size(path) if size is None else size

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position of the next byte that is read."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position, and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read as many bytes as the buffer holds and the file still has; return their number."""
        length = min(len(buffer), self._size - self._position)
        data = self._store.read(self._path, self._position, length) if length > 0 else b""
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def _parquet_paths(columns: Sequence[str]) -> list[str]:
    return [name.replace(".", ".list.element.") for name in columns]


def _below(columns: Sequence[str], top: str) -> list[str]:
    """Return the selected names below the field ``top``, relative to it; an empty list if all of it is selected."""
    below = [name.partition(".")[2] for name in columns if name.partition(".")[0] == top]
    return [] if "" in below else below


def _prune_field(f: pa.Field, below: Sequence[str]) -> pa.Field:
    if not below:
        return f
    inner = list(dict.fromkeys(name.partition(".")[0] for name in below))
    fields = [_prune_field(f.type.value_type.field(name), _below(below, name)) for name in inner]
    return f.with_type(pa.list_(f.type.value_field.with_type(pa.struct(fields))))
