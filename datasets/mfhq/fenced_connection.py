"""Connection to a snapshot's views that runs what the fence lets through, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from mfhq.manifest import Manifest
from mfhq.named_queries import named_query
from mfhq.paths import PRIVATE_TABLES
from mfhq.sql_fence import check_query, lock_database, open_database, words_of
from mfhq.store import Store
from mfhq.store_files import StoreFileSystem
from mfhq.views import DICTIONARY, SnapshotViews, create_dictionary

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

Parameters = Sequence[Any] | Mapping[str, Any]
"""Values of ``?`` and ``$1`` in a query, or of ``$name``; they are bound, and are never a part of the SQL."""

BEFORE = "before_"
"""Beginning of the names of an earlier snapshot's views."""

BATCH_ROWS = 65_536
"""Rows that are held at a time while rows are counted."""

MESH = "mesh468"
"""Column of the view ``faces`` that the table ``meshes`` holds."""

_FORMATS = {"csv": "FORMAT csv, HEADER", "json": "FORMAT json", "parquet": "FORMAT parquet, COMPRESSION zstd"}


class ReadableSnapshot(Protocol):
    """Snapshot whose files can be checked; ``mfhq.catalog.Snapshot`` implements this protocol."""

    @property
    def store(self) -> Store:
        """Store of the corpus."""

    @property
    def manifest(self) -> Manifest:
        """Manifest of the snapshot."""

    @property
    def version(self) -> str:
        """Name of the snapshot."""

    def check_tables(self, names: Collection[str]) -> None:
        """Check the files of some tables."""


class FencedConnection:
    """Connection to a snapshot that answers one query at a time; each query passes ``mfhq.sql_fence.check_query``.

    A table's files are checked against the manifest when the first query names it. It closes at the end of a ``with``
    block, or by ``close``.
    """

    def __init__(
        self,
        snapshot: ReadableSnapshot,
        biometric: bool = False,
        trusted: bool = False,
        before: ReadableSnapshot | None = None,
        output: Path | None = None,
    ) -> None:
        """Open a database in memory with the snapshot's views.

        Args:
            snapshot: The snapshot.
            biometric: Let queries read ``PRIVATE_TABLES``, which identify people.
            trusted: Let queries read any file too; for the user's own machine.
            before: An earlier snapshot, whose views have names that begin with ``BEFORE``.
            output: File that ``write`` may write; queries can neither read nor write it.
        """
        self._hidden = frozenset() if biometric else PRIVATE_TABLES
        self._trusted, self._snapshot, self._stack = trusted, snapshot, contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            self._connection = stack.enter_context(open_database())
            self._connection.execute("SET parquet_metadata_cache = true")
            shown = [(snapshot, ""), *([(before, BEFORE)] if before else [])]
            if not snapshot.store.uri.startswith("file:"):
                tables = [table for source, _ in shown for table in source.manifest.tables.values()]
                sizes = {file.path: file.n_bytes for table in tables for file in table.files}
                self._connection.register_filesystem(StoreFileSystem(snapshot.store, sizes))
            # comments are in DuckDB's own views, which trusted queries alone may read
            self._views = [
                (source, SnapshotViews(self._connection, source.store, source.manifest, biometric, prefix, trusted))
                for source, prefix in shown
            ]
            create_dictionary(self._connection)
            readable = [views.readable() for _, views in self._views]
            files = [file for files, _ in readable for file in files] + ([str(output)] if output else [])
            lock_database(self._connection, files, [name for _, names in readable for name in names], trusted)
            self._stack = stack.pop_all()

    @property
    def names(self) -> set[str]:
        """Names of the views that may be read."""
        return {DICTIONARY}.union(*(views.names for _, views in self._views))

    @property
    def version(self) -> str:
        """Name of the snapshot, for example ``v0003``."""
        return self._snapshot.version

    def execute(self, sql: str, parameters: Parameters | None = None) -> Self:
        """Run one query, whose rows ``fetchall`` returns.

        Args:
            sql: A query that only reads.
            parameters: Values of its parameters.

        Raises:
            RefusedSql: It is something else.
            CatalogError: A file that it needs is missing.
            DamagedFileError: A file that it needs is damaged.
            duckdb.Error: DuckDB refuses it.
        """
        self._connection.execute(self._prepare(sql, parameters), parameters)
        return self

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return the remaining rows."""
        return self._connection.fetchall()

    @property
    def description(self) -> list[Any]:
        """Description of each column, whose first value is its name."""
        return self._connection.description

    def table(self, sql: str, parameters: Parameters | None = None) -> pa.Table:
        """Run one query as ``execute`` does, and return its rows as a table (``.to_pandas()`` makes a data frame)."""
        return self._relation(sql, parameters).to_arrow_table()

    def batches(self, sql: str, rows: int = BATCH_ROWS, parameters: Parameters | None = None) -> pa.RecordBatchReader:
        """Run one query as ``execute`` does, and return a reader of its rows, which are computed as they are read.

        Args:
            sql: A query that only reads.
            rows: Upper bound on the rows of a batch.
            parameters: Values of its parameters.
        """
        return self._relation(sql, parameters).to_arrow_reader(rows)

    def ask(self, name: str, **values: Any) -> pa.Table:
        """Answer a named question (``mfhq.named_queries``).

        Args:
            name: Its name.
            values: Values of its parameters, of their types or as texts; the others have their defaults.

        Raises:
            QuestionError: There is no such question or parameter, or a value is of another type.
        """
        question = named_query(name)
        return self.table(question.sql, question.bind_to(self.version, values))

    def head(self, sql: str, most: int, parameters: Parameters | None = None) -> tuple[pa.Table, int]:
        """Run one query, and return its first rows and the number of all; the others are not kept.

        Args:
            sql: A query that only reads.
            most: Upper bound on the rows that are returned.
            parameters: Values of its parameters.
        """
        import pyarrow as pa

        reader = self.batches(sql, parameters=parameters)
        kept, total = list[pa.RecordBatch](), 0
        for batch in reader:
            if total < most:
                kept.append(batch.slice(0, most - total))
            total += batch.num_rows
        return pa.Table.from_batches(kept, schema=reader.schema), total

    def write(self, sql: str, form: str, file: Path, parameters: Parameters | None = None) -> int:
        """Run one query, and let DuckDB write its rows into a file.

        Args:
            sql: A query that only reads; it is checked alone, and is never put into the statement that writes.
            form: csv, json or parquet.
            file: The ``output`` of this connection.
            parameters: Values of its parameters.

        Returns:
            Number of rows.
        """
        quoted = "'" + str(file).replace("'", "''") + "'"
        copied = self._relation(sql, parameters).query(
            "answer", f"COPY (SELECT * FROM answer) TO {quoted} ({_FORMATS[form]})"
        )
        assert copied is not None, "COPY returns the number of rows"
        return int(copied.fetchall()[0][0])

    def close(self) -> None:
        """Close the database, and remove what it has spilled."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _relation(self, sql: str, parameters: Parameters | None) -> duckdb.DuckDBPyRelation:
        checked = self._prepare(sql, parameters)
        relation = self._connection.sql(checked, params=parameters) if parameters else self._connection.sql(checked)
        assert relation is not None, "a query that the fence lets through has rows"
        return relation

    def _prepare(self, sql: str, parameters: Parameters | None) -> str:
        """Return the text to run, once it is checked and the views that it names have their files."""
        import duckdb

        checked = check_query(self._connection, sql, self.names, self._hidden, self._trusted)
        try:
            words = words_of(self._connection, checked)
        except duckdb.Error:  # an EXPLAIN
            words = self.names
        self._fill(words)
        if "faces" in words or "chosen" in words:
            self._check_meshes(checked, parameters)
        return checked

    def _fill(self, words: Iterable[str]) -> None:
        names = list(words)
        for source, views in self._views:
            tables = views.unfilled(names)
            source.check_tables(tables)
            views.fill(tables)

    def _check_meshes(self, sql: str, parameters: Parameters | None) -> None:
        """Check the files of the meshes if a query reads them, which its plan shows."""
        import duckdb

        try:
            plan = str(self._connection.execute(f"EXPLAIN {sql}", parameters).fetchall())
        except duckdb.Error:  # an EXPLAIN, or what fails anyway
            plan = MESH
        if MESH in plan:
            for source, _ in self._views:
                source.check_tables({"meshes"})
