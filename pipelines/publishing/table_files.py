"""Files of a published table: rows stream into Parquet files that are named by their content."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mfhq.integrity import is_file_whole
from mfhq.manifest import FileEntry, TableEntry
from mfhq.parquet import storage_schema
from mfhq.paths import table_path
from mfhq.schema import schema_hash, stored_schema
from mfhq.store import Store
from pipelines.publishing.audits import AuditError
from pipelines.publishing.table_digest import RowSum, sum_rows

FILE_BYTES = 256 << 20
"""Size of a file (bytes) at which the next one is begun."""
ROW_GROUP = 65_536
"""Number of rows of a row group."""
MESH_ROW_GROUP = 512
"""Number of rows of a row group of meshes: some 3 MB, which is what reading one person's meshes costs."""


@dataclass(frozen=True)
class TableFiles:
    """Files of a table or of a part of it, with the sum of the rows' hashes."""

    files: tuple[FileEntry, ...] = ()
    sum: RowSum = field(default_factory=RowSum)

    def __add__(self, other: TableFiles) -> TableFiles:
        return TableFiles(self.files + other.files, self.sum + other.sum)

    def entry(self, name: str) -> TableEntry:
        """Return the manifest's entry of the table of this name."""
        schema = stored_schema(name)
        return TableEntry(self.sum.rows, schema_hash(schema), self.sum.digest(schema), self.files)


class TableWriter:
    """Writer of a published table's rows, in the order in which they come."""

    def __init__(self, store: Store, name: str) -> None:
        """Begin with no rows.

        Args:
            store: The corpus.
            name: Name of the table.
        """
        self._store, self._name = store, name
        self._group_rows = MESH_ROW_GROUP if name == "meshes" else ROW_GROUP
        self._waiting: list[pa.Table] = []
        self._n_waiting = 0
        self._written = TableFiles()
        self._file: _OpenFile | None = None

    def write(self, table: pa.Table) -> None:
        """Add rows.

        Args:
            table: Rows with exactly the columns of the table's stored schema, in any order of the columns.

        Raises:
            AuditError: A column is missing or unknown.
        """
        rows = conform(table, self._name)
        self._waiting.append(rows)
        self._n_waiting += rows.num_rows
        if self._n_waiting >= self._group_rows:
            gathered = pa.concat_tables(self._waiting)
            complete = gathered.num_rows // self._group_rows * self._group_rows
            for start in range(0, complete, self._group_rows):
                self._write_group(gathered.slice(start, self._group_rows))
            self._waiting = [gathered.slice(complete)]
            self._n_waiting = gathered.num_rows - complete

    def close(self) -> TableFiles:
        """Write the remaining rows and return the files."""
        if self._n_waiting:
            self._write_group(pa.concat_tables(self._waiting))
        self._waiting, self._n_waiting = [], 0
        self._end_file()
        return self._written

    def _write_group(self, rows: pa.Table) -> None:
        self._file = self._file or _OpenFile(stored_schema(self._name))
        self._file.write(rows)
        if self._file.n_bytes >= FILE_BYTES:
            self._end_file()

    def _end_file(self) -> None:
        if self._file is not None:
            self._written += self._file.store_as(self._store, self._name)
            self._file = None


class _OpenFile:
    """A Parquet file in the making: a temporary file without a name, of which a killed process leaves nothing."""

    def __init__(self, schema: pa.Schema) -> None:
        handle, name = tempfile.mkstemp(prefix="ffavatar-publish-")
        Path(name).unlink()
        self._file = os.fdopen(handle, "w+b")
        self._schema, self._sum = storage_schema(schema), RowSum()
        self._sink = pa.PythonFile(self._file, "w")
        with_statistics = [
            f"{f.name}.{child.name}" if pa.types.is_struct(f.type) else f.name
            for f in self._schema
            if not pa.types.is_list(f.type)
            for child in (f.type if pa.types.is_struct(f.type) else [f])
        ]
        self._writer = pq.ParquetWriter(
            self._sink, self._schema, compression="zstd", write_statistics=with_statistics, write_page_checksum=True
        )

    @property
    def n_bytes(self) -> int:
        return int(self._sink.tell())

    def write(self, rows: pa.Table) -> None:
        self._sum += sum_rows(rows)
        self._writer.write_table(rows.cast(self._schema), row_group_size=rows.num_rows)

    def store_as(self, store: Store, name: str) -> TableFiles:
        self._writer.close()
        with self._file as file:
            file.seek(0)
            data = file.read()
        return TableFiles((store_file(store, name, self._sum.rows, data),), self._sum)


def store_file(store: Store, name: str, rows: int, data: bytes) -> FileEntry:
    """Store a file of a published table, named by its content; a damaged file of this name is replaced.

    Args:
        store: The corpus.
        name: Name of the table.
        rows: Number of rows in the file.
        data: Its bytes.
    """
    entry = FileEntry.of(table_path(name, hashlib.sha256(data).hexdigest()[:32]), rows, data)
    if not is_file_whole(store, entry):
        store.write(entry.path, data)
    return entry


def write_table(store: Store, name: str, parts: Iterable[pa.Table]) -> TableFiles:
    """Write a table.

    Args:
        store: The corpus.
        name: Name of the table.
        parts: The rows, in the order in which they are to stand.
    """
    writer = TableWriter(store, name)
    for part in parts:
        writer.write(part)
    return writer.close()


def conform(table: pa.Table, name: str) -> pa.Table:
    """Return the rows with exactly the columns and types of a table's stored schema.

    Args:
        table: The rows.
        name: Name of the table.

    Raises:
        AuditError: A column is missing or unknown, or holds nulls that it may not hold.
    """
    schema = stored_schema(name)
    if set(table.column_names) != set(schema.names):
        differing = sorted(set(table.column_names) ^ set(schema.names))
        raise AuditError(f"table {name}: columns {differing} are missing or not in mfhq.schema")
    columns = []
    for f in schema:
        if not f.nullable and (nulls := table[f.name].null_count):
            raise AuditError(f"table {name}: column {f.name} holds {nulls} nulls; it may hold none")
        columns.append(table[f.name].cast(f.type))
    return pa.table(columns, schema=schema)
