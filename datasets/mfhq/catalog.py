"""A corpus as its readers see it: published snapshots, as tables and as SQL views."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mfhq import live, paths
from mfhq.manifest import Manifest, versions
from mfhq.named_queries import named_queries
from mfhq.parquet import StoredParquet, from_parquet
from mfhq.schema import TABLES
from mfhq.store import Store
from mfhq.takedowns import denied_in
from mfhq.views import ID_COLUMNS, create_views

if TYPE_CHECKING:
    import duckdb


class CatalogError(ValueError):
    """What was asked of a corpus is not there, or the question is not one: one line that says what to do."""


def read_blob(store: Store, ref: Mapping[str, Any]) -> bytes:
    """The bytes of a picture: one ranged read.

    Raises:
        CatalogError: the packed file is missing or too short.
    """
    try:
        data = store.read(ref["uri"], ref["offset"], ref["length"])
    except FileNotFoundError:
        data = b""
    if len(data) != ref["length"]:
        where = f"{store.uri}/{ref['uri']} at {ref['offset']}"
        raise CatalogError(f"{where}: {len(data)} bytes of a picture's {ref['length']}; mine the corpus again")
    return data


@dataclass(frozen=True)
class Catalog:
    """The snapshots of a corpus."""

    store: Store

    def versions(self) -> list[str]:
        """Names of the published snapshots, oldest first."""
        return [f"v{number:04d}" for number in versions(self.store)]

    def open(self, version: str | None = None) -> Snapshot:
        """A snapshot by name (``v3`` and ``v0003`` are the same); the latest by default.

        Raises:
            CatalogError: nothing is published, or not that version.
        """
        known = list(versions(self.store))
        if not known:
            raise CatalogError(f"{self.store.uri}: no snapshot is published here; `ffavatar mine` publishes one")
        number = known[-1]
        if version is not None:
            named = re.fullmatch(r"v?(\d+)", version)
            if not named or int(named[1]) not in known:
                has = f"v{known[0]:04d} to v{known[-1]:04d}" if len(known) > 1 else f"v{known[0]:04d}"
                raise CatalogError(f"{self.store.uri}: no snapshot {version!r}; there is {has}")
            number = int(named[1])
        return Snapshot(self.store, Manifest.from_json(self.store.read(paths.snapshot_path(number))))


@dataclass(frozen=True)
class Snapshot:
    """One published state of a corpus; it never changes, but for ``attempts`` and ``runs``: the corpus's own."""

    store: Store
    manifest: Manifest

    @property
    def version(self) -> str:
        """For example ``v0003``."""
        return self.manifest.name

    @property
    def digest(self) -> str:
        """Of the rows; of a redacted snapshot that of those that are left (``manifest.digest`` has the old one)."""
        return self.manifest.redacted_digest or self.manifest.digest

    def table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A table, or some of its columns, with the schema of ``mfhq.schema`` (no rows where nothing was published).

        Raises:
            CatalogError: no such table or column, or a file that the manifest names is missing.
        """
        schema = _schema(name, columns)
        if name in live.READERS:
            table = live.READERS[name](self.store)
            return table.select(columns) if columns is not None else table
        denied = denied_in(self.store, self.manifest.clean_of)
        wanted = list(columns) if columns is not None else schema.names
        read = list(dict.fromkeys([*wanted, *(ID_COLUMNS & set(schema.names))])) if denied else wanted
        empty = schema.empty_table().select(read)
        return denied.without(pa.concat_tables([empty, *self._read(name, read)])).select(wanted)

    def parts(
        self, name: str, columns: Sequence[str], numbers: Collection[int] | None = None
    ) -> Iterator[tuple[int, pa.Table]]:
        """Some columns of a published table piece by piece, as ``table`` has them: (number, rows).

        A piece is a row group of a file, of which only these columns are read; ``numbers`` says which pieces (None:
        all). The first, -1, has no rows.

        Raises:
            CatalogError: as ``table``.
        """
        schema = _schema(name, columns)
        yield -1, schema.empty_table().select(list(columns))
        denied = denied_in(self.store, self.manifest.clean_of)
        read = list(dict.fromkeys([*columns, *(ID_COLUMNS & set(schema.names))])) if denied else list(columns)
        entry, number = self.manifest.tables.get(name), 0
        for file in entry.files if entry else ():
            with self._needed(file.path):
                stored = StoredParquet(self.store, file.path, schema)
                for group in range(stored.row_groups):
                    if numbers is None or number in numbers:
                        yield number, denied.without(stored.read(group, read)).select(list(columns))
                    number += 1

    def _read(self, name: str, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        entry = self.manifest.tables.get(name)
        for file in entry.files if entry else ():
            with self._needed(file.path):
                yield from_parquet(self.store.read(file.path), TABLES[name], columns)

    @contextlib.contextmanager
    def _needed(self, path: str) -> Iterator[None]:
        """Say what it means that a file of the manifest is not there."""
        try:
            yield
        except FileNotFoundError as error:
            now = Manifest.from_json(self.store.read(paths.snapshot_path(self.manifest.version)))
            if now.clean_of != self.manifest.clean_of:
                again = "a take-down has written it again since it was opened; open it anew"
                raise CatalogError(f"{self.store.uri} {self.version}: {again}") from error
            lost = f"{self.store.uri}/{path}"
            raise CatalogError(f"{lost}: missing, and {self.version} needs it; publish the corpus again") from error

    @contextlib.contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A DuckDB connection with every view of ``mfhq.schema.TABLES``, closed at the end.

        The database is in memory and holds views only: nothing that is done in it changes the corpus. Column comments
        and the view ``dictionary`` (table_name, column_name, type, unit, description) say what the columns mean.
        """
        import duckdb

        with duckdb.connect(config={"autoinstall_known_extensions": False}) as connection:
            create_views(connection, self.store, self.manifest)
            yield connection

    def query(self, sql: str) -> pa.Table:
        """The result of one SQL query, or of one in ``mfhq/sql`` named as ``@funnel``.

        Raises:
            CatalogError: DuckDB refuses it, it is something else than a query, or nothing has that name.
        """
        import duckdb

        if sql.strip().startswith("@"):
            named = named_queries()
            if sql.strip()[1:] not in named:
                raise CatalogError(f"no query {sql.strip()!r}; there are {', '.join('@' + name for name in named)}")
            sql = named[sql.strip()[1:]]
        readers = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.PRAGMA}
        try:
            statements = duckdb.extract_statements(sql)
            if len(statements) != 1 or statements[0].type not in readers:
                raise CatalogError(
                    "a corpus is asked with one query (SELECT, DESCRIBE, SUMMARIZE, SHOW, EXPLAIN) at a time"
                )
            with self.connect() as connection:
                return connection.sql(sql).to_arrow_table()
        except duckdb.Error as error:
            lines = [line.strip() for line in str(error).splitlines()]
            text = " ".join(line for line in lines if line and not line.startswith(("LINE", "^")))
            raise CatalogError(f"SQL: {text}; `ffavatar sql` with no query lists the views") from error


def _schema(name: str, columns: Sequence[str] | None) -> pa.Schema:
    if name not in TABLES:
        raise CatalogError(f"no table {name!r}; there are {', '.join(TABLES)}")
    schema = TABLES[name]
    if unknown := set(columns or ()) - set(schema.names):
        raise CatalogError(f"table {name} has no column {sorted(unknown)[0]!r}; it has {', '.join(schema.names)}")
    return schema
