"""Catalog of a corpus: its published snapshots, read as tables and as SQL views."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mfhq import corpus_tables
from mfhq.fenced_connection import MESH, FencedConnection, Parameters
from mfhq.integrity import check_files, check_footers, check_opened, check_read, is_image_whole
from mfhq.manifest import FileEntry, Manifest, read_manifest, versions
from mfhq.named_queries import NamedQuery, QuestionError, named_query
from mfhq.parquet import StoredParquet, StoredRows, fill_columns, from_parquet
from mfhq.schema import TABLES
from mfhq.sql_fence import RefusedSql
from mfhq.store import Store
from mfhq.takedowns import DenyList, snapshot_deny_list
from mfhq.views import ID_COLUMNS, published_files

log = logging.getLogger(__name__)

MOST_CHECKED_BYTES = 1 << 30
"""Bytes of files whose sha256 is computed before a query, which takes about a second a gigabyte and core."""
MOST_FETCHED_BYTES = 64 << 20
"""The same for a corpus that is not on a disk: its files would be fetched whole."""


class CatalogError(ValueError):
    """Error of a reader: a snapshot, table or file is missing, or a query is refused; one line with the way out."""


def read_blob(store: Store, ref: Mapping[str, Any]) -> bytes:
    """Read the bytes of an image with one ranged read.

    Args:
        store: The corpus.
        ref: The image's ``mfhq.schema.BLOB_REF``, as a dictionary; without ``sha256`` only the length is checked.

    Raises:
        CatalogError: The packed file is missing or too short, or the image has another sha256 than its reference.
    """
    try:
        data = store.read(ref["uri"], ref["offset"], ref["length"])
    except FileNotFoundError:
        data = b""
    if len(data) != ref["length"]:
        where = f"{store.uri}/{ref['uri']} at {ref['offset']}"
        raise CatalogError(f"{where}: {len(data)} of an image's {ref['length']} bytes; mine the corpus again")
    if not is_image_whole(data, ref):
        where = f"{store.uri}/{ref['uri']} at {ref['offset']}"
        cause = "damaged" if any(data) else "erased by a take-down since the snapshot was opened"
        raise CatalogError(f"{where}: an image is {cause}; `ffavatar verify` says what to do")
    return data


@dataclass(frozen=True)
class Catalog:
    """Published snapshots of a corpus."""

    store: Store

    def versions(self) -> list[str]:
        """Return the names of the published snapshots, oldest first."""
        return [f"v{number:04d}" for number in versions(self.store)]

    def open(self, version: str | None = None) -> Snapshot:
        """Open a snapshot by name (``v3`` and ``v0003`` are the same); the latest by default.

        Raises:
            CatalogError: Nothing is published, or not that version.
            FormatError: A newer version of this project wrote it.
            DamagedFileError: Its manifest is damaged.
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
        return Snapshot(self.store, read_manifest(self.store, number))


@dataclass(frozen=True)
class Snapshot:
    """Published state of a corpus; it never changes, but for the corpus's own tables ``attempts`` and ``runs``."""

    store: Store
    manifest: Manifest

    @property
    def version(self) -> str:
        """Name of the snapshot, for example ``v0003``."""
        return self.manifest.name

    @property
    def digest(self) -> str:
        """Digest of the rows that are left after redactions; ``manifest.digest`` is that of all published rows."""
        return self.manifest.redacted_digest or self.manifest.digest

    def table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read a table; it has no rows if none were published.

        Args:
            name: A key of ``mfhq.schema.TABLES``.
            columns: Columns to read; by default all.

        Returns:
            The rows, with the schema of ``mfhq.schema``.

        Raises:
            CatalogError: No such table or column, or a file that the manifest names is missing.
        """
        schema = _checked_schema(name, columns)
        if name in corpus_tables.READERS:
            table = corpus_tables.READERS[name](self.store)
            return table.select(columns) if columns is not None else table
        selected = list(columns) if columns is not None else schema.names
        denied, read = self._deny_list(schema, selected)
        if name == "faces" and MESH in read and self.manifest.meshes_apart:
            without = [column for column in read if column != MESH]
            rows = self._read_files(name, list(dict.fromkeys([*without, "face_id"])))
            meshes = self._read_files("meshes", ["face_id", MESH])
            if not meshes["face_id"].equals(rows["face_id"]):
                meshes = meshes.take(pc.index_in(rows["face_id"], value_set=meshes["face_id"].combine_chunks()))
            table = rows.append_column(schema.field(MESH), meshes[MESH])
        else:
            table = self._read_files(name, read)
        return denied.prune(table).select(selected)

    def _read_files(self, name: str, columns: Sequence[str]) -> pa.Table:
        """Read columns of all files of a table."""
        schema = TABLES[name]
        wanted = schema.empty_table().select(list(columns)).schema
        tables, held = [wanted.empty_table()], self._held(name, columns)
        for file in self._files(name):
            with self._explain_missing(file.path):
                data = check_read(self.store, file.path, self.store.read(file.path), file.sha256)
                tables.append(fill_columns(from_parquet(data, schema, held), wanted))
        return pa.concat_tables(tables)

    def parts(
        self, name: str, columns: Sequence[str], numbers: Collection[int] | None = None
    ) -> Iterator[tuple[int, pa.Table]]:
        """Read columns of a published table by row groups, of which only these columns are fetched.

        Args:
            name: A key of ``mfhq.schema.TABLES``.
            columns: Columns to read.
            numbers: Numbers of the row groups to read, counted over all files; None for all.

        Yields:
            Number and rows of each row group, with the rows as ``table`` has them; first -1 with no rows.

        Raises:
            CatalogError: See ``table``.
        """
        schema = _checked_schema(name, columns)
        yield -1, schema.empty_table().select(list(columns))
        denied, read = self._deny_list(schema, columns)
        meshes = None
        if name == "faces" and MESH in read and self.manifest.meshes_apart:
            read = list(dict.fromkeys([*(column for column in read if column != MESH), "face_id"]))
            for file in self._files("meshes"):
                with self._explain_missing(file.path):
                    check_opened(self.store, file)
            meshes = StoredRows(self.store, [file.path for file in self._files("meshes")], TABLES["meshes"])
        number, row, held = 0, 0, self._held(name, read)
        schema = pa.schema([schema.field(column) for column in read])
        for file in self._files(name):
            with self._explain_missing(file.path):
                check_opened(self.store, file)
                stored = StoredParquet(self.store, file.path, TABLES[name])
                for group in range(stored.row_groups):
                    if numbers is None or number in numbers:
                        part = fill_columns(stored.read(group, held), schema)
                        if meshes is not None:
                            part = self._with_meshes(part, meshes.read(row, part.num_rows, ["face_id", MESH]))
                        yield number, denied.prune(part).select(list(columns))
                    number, row = number + 1, row + stored.group_rows(group)

    def _with_meshes(self, faces: pa.Table, meshes: pa.Table) -> pa.Table:
        if not meshes["face_id"].equals(faces["face_id"]):
            raise CatalogError(f"{self.store.uri} {self.version}: its meshes are in another order than its faces")
        return faces.append_column(TABLES["faces"].field(MESH), meshes[MESH])

    def _deny_list(self, schema: pa.Schema, columns: Sequence[str]) -> tuple[DenyList, list[str]]:
        """Return the deny list, and the columns to read so that it can be applied."""
        denied = snapshot_deny_list(self.store, self.manifest.clean_of)
        ids = ID_COLUMNS & set(schema.names) if denied else ()
        return denied, list(dict.fromkeys([*columns, *ids]))

    def _held(self, name: str, columns: Sequence[str]) -> list[str]:
        """Return those of the columns that the files have."""
        entry = self.manifest.tables.get(name)
        lacking = entry.lacks(name) if entry else frozenset()
        return [column for column in columns if column not in lacking]

    def _files(self, name: str) -> tuple[FileEntry, ...]:
        entry = self.manifest.tables.get("faces" if name == "meshes" and not self.manifest.meshes_apart else name)
        return entry.files if entry else ()

    @contextlib.contextmanager
    def _explain_missing(self, path: str) -> Iterator[None]:
        """Raise ``CatalogError`` with the cause if a file of the manifest is missing."""
        try:
            yield
        except FileNotFoundError as error:
            now = read_manifest(self.store, self.manifest.version)
            if now.clean_of != self.manifest.clean_of:
                again = "a take-down has rewritten it since it was opened; open it again"
                raise CatalogError(f"{self.store.uri} {self.version}: {again}") from error
            lost = f"{self.store.uri}/{path}"
            raise CatalogError(f"{lost}: missing, and {self.version} needs it; publish the corpus again") from error

    def check_tables(self, names: Collection[str]) -> None:
        """Check the size and, once a process, the sha256 of every file of some tables; DuckDB checks neither.

        Above ``MOST_CHECKED_BYTES`` (``MOST_FETCHED_BYTES`` if they have to be fetched), sizes and footers alone are.

        Args:
            names: Names of tables; those that no snapshot has are ignored.

        Raises:
            CatalogError: A file is missing.
            DamagedFileError: A file is damaged.
        """
        if "attempts" in names:
            corpus_tables.read_attempts(self.store)
        most = MOST_CHECKED_BYTES if self.store.uri.startswith("file:") else MOST_FETCHED_BYTES
        whole, opened, left = list[FileEntry](), list[FileEntry](), most
        there = [name for name in sorted(names) if published_files(self.store, self.manifest, name)]
        for file in (file for name in there for file in self._files(name)):
            left -= file.n_bytes
            (whole if left >= 0 else opened).append(file)
        if opened:
            log.info(
                "%s: %d files are checked by size and footer; `ffavatar verify` does all", self.version, len(opened)
            )
        for names_of in (whole, opened):
            for file in names_of:
                with self._explain_missing(file.path):
                    self.store.size(file.path)
        check_files(self.store, whole)
        check_footers(self.store, opened)

    def connect(
        self,
        biometric: bool = False,
        trusted: bool = False,
        before: Snapshot | None = None,
        output: Path | None = None,
    ) -> FencedConnection:
        """Open a DuckDB database with a view of each of ``mfhq.schema.TABLES``, to be closed or used by ``with``.

        It answers one query at a time, and only queries that ``query`` answers. The view ``dictionary``
        (table_name, column_name, type, unit, description) says what the columns mean; so do column comments, for
        trusted queries.

        Args:
            biometric: Create the views of ``mfhq.paths.PRIVATE_TABLES`` too (``embeddings``).
            trusted: Let queries open any file; for the user's own machine.
            before: An earlier snapshot, whose views are there too, as ``before_faces`` and so on.
            output: File into which ``FencedConnection.write`` may write.
        """
        return FencedConnection(self, biometric, trusted, before, output)

    def query(
        self, sql: str, biometric: bool = False, trusted: bool = False, parameters: Parameters | None = None
    ) -> pa.Table:
        """Run one SQL query, or one of ``mfhq/sql`` by its name, such as ``@funnel``.

        Args:
            sql: A query that only reads, over the snapshot's views and nothing else (``mfhq.sql_fence``).
            biometric: Let it read ``embeddings``, which identify people.
            trusted: Let it read any file too; for the user's own machine.
            parameters: Values of its parameters (``$name``), which are bound.

        Returns:
            The rows.

        Raises:
            CatalogError: DuckDB refuses it, it is something else than such a query, no query has that name, or a file
                that it needs is missing.
            DamagedFileError: A file that it needs is damaged.
        """
        with explain_refusal():
            if sql.strip().startswith("@"):
                question = named_query(sql)
                parameters = question.bind_to(self.version, dict(parameters or {}))
                with self.connect(biometric, trusted, self.compared(question, parameters)) as opened:
                    return opened.table(question.sql, parameters)
            with self.connect(biometric, trusted) as opened:
                return opened.table(sql, parameters)

    def compared(self, question: NamedQuery | None, values: Mapping[str, Any]) -> Snapshot | None:
        """Return the earlier snapshot that a question compares this one with; None if it does not.

        Args:
            question: The question; None for SQL.
            values: Values of its parameters; ``since`` names the snapshot. Empty stands for the one before this one, or
                for this one if it is the first.

        Raises:
            CatalogError: There is no such snapshot.
        """
        if question is None or not question.compares:
            return None
        catalog = Catalog(self.store)
        if values["since"]:
            return catalog.open(values["since"])
        older = catalog.versions()[: catalog.versions().index(self.version)]
        return catalog.open(older[-1]) if older else self


@contextlib.contextmanager
def explain_refusal() -> Iterator[None]:
    """Raise errors of a query as a ``CatalogError`` of one line with the way out."""
    import duckdb

    try:
        yield
    except QuestionError as error:
        raise CatalogError(str(error)) from error
    except RefusedSql as error:
        raise CatalogError(f"SQL: {error}") from error
    except (duckdb.Error, UnicodeError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        text = " ".join(line for line in lines if line and not line.startswith(("LINE", "^")))
        raise CatalogError(f"SQL: {text}; `ffavatar sql` with no query lists the views") from error


def _checked_schema(name: str, columns: Sequence[str] | None) -> pa.Schema:
    if name not in TABLES:
        raise CatalogError(f"no table {name!r}; there are {', '.join(TABLES)}")
    schema = TABLES[name]
    if unknown := set(columns or ()) - set(schema.names):
        raise CatalogError(f"table {name} has no column {sorted(unknown)[0]!r}; it has {', '.join(schema.names)}")
    return schema
