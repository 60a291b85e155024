"""Commits of a step's output: the packed images and the rows are written first, then a marker.

A part is a Parquet file of rows and, if the rows hold images, one packed file next to it. The packed file holds the
``large_binary`` values of the rows, at any depth; in the Parquet file each of these values is replaced by a reference
into the packed file (``mfhq.schema.BLOB_REF``). The marker is created only if no file of its name exists. A part counts
once its marker exists: readers list markers alone.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mfhq.byte_ranges import ByteRange, read_ranges
from mfhq.integrity import MINE_AGAIN, is_image_whole
from mfhq.parquet import from_parquet, prune_schema, to_parquet
from mfhq.paths import shard_prefix, step_prefix
from mfhq.schema import BLOB_REF, STATUSES, schema_hash
from mfhq.seals import DamagedFileError, open_json, open_record, seal_json
from mfhq.store import Store, StoreError
from pipelines.engine.nested_tables import conform_table, has_column
from pipelines.engine.step import Step

log = logging.getLogger(__name__)

ATTEMPT = "_attempt"
"""Column that the engine adds to a step's output: the number of attempts at the item, including earlier runs."""

READER_THREADS = 16
"""Number of parts or markers that are read in parallel."""


@dataclass(frozen=True)
class StepLocation:
    """The output of a step under one fingerprint: its folder in the corpus, its key and its schema."""

    name: str
    fingerprint: str
    private: bool
    key: str
    schema: pa.Schema = field(hash=False)
    """Schema of the table that the step's ``fn`` returns, with images as ``large_binary``."""
    former: tuple[StepLocation, ...] = ()
    """Output of former definitions of the step that is gone on with, the newest first."""
    keeps: tuple[str, ...] = STATUSES
    """Statuses of the items that count as finished; of a former location, those of ``step.Former``."""

    @classmethod
    def of(cls, step: Step, fingerprint: str, former: tuple[StepLocation, ...] = ()) -> StepLocation:
        """Return the location of a step's output.

        Args:
            step: The step.
            fingerprint: The step's fingerprint, which depends on those of the steps before it (``state.bind_steps``).
            former: Locations of the output that is gone on with.
        """
        return cls(step.name, fingerprint, step.private, step.key, step.output, former)

    @property
    def family(self) -> tuple[StepLocation, ...]:
        """The former locations, the oldest first, then this one: a row of a later one replaces that of an earlier."""
        return (*reversed(self.former), self)

    @property
    def prefix(self) -> str:
        """Folder of the output, relative to the corpus."""
        return step_prefix(self.name, self.fingerprint, self.private)

    @property
    def stored_schema(self) -> pa.Schema:
        """Schema of the Parquet files: the step's output with images as ``BLOB_REF``, plus the column ``ATTEMPT``."""
        return packed_schema(self.schema).append(pa.field(ATTEMPT, pa.int32(), nullable=False))

    def shard_folder(self, shard: int) -> str:
        """Return the folder of one logical shard, relative to the corpus."""
        return shard_prefix(self.name, self.fingerprint, self.private, shard)


@dataclass(frozen=True)
class Marker:
    """The commit record of a part, stored as JSON: a part is complete when its marker exists."""

    shard: int
    part: int
    data: str
    """Path of the Parquet file of the rows, relative to the corpus."""
    rows: int
    n_bytes: int
    sha256: str
    schema_hash: str
    inputs: tuple[str, ...]
    """sha256 of each file that the rows were computed from; for a step that reads the sources, sha256 of their rows."""
    blobs: str
    """Path of the packed file of images, relative to the corpus; empty if there are no images."""
    blobs_n_bytes: int
    blobs_sha256: str
    run_id: str

    @classmethod
    def from_json(cls, data: bytes, where: str = "the marker") -> Marker:
        """Parse the output of ``to_json``.

        Args:
            data: The document.
            where: URI of the file, for the error.

        Raises:
            DamagedFileError: It is not the document that was written.
        """
        return open_record(cls, data, where, MINE_AGAIN)

    @classmethod
    def read(cls, store: Store, path: str) -> Marker:
        """Read a marker (``from_json``).

        Args:
            store: The corpus.
            path: Path of the marker.
        """
        return cls.from_json(store.read(path), f"{store.uri}/{path}")

    def to_json(self) -> bytes:
        """Return the JSON document that is stored in the corpus."""
        return seal_json(asdict(self))


def describe_step(store: Store, location: StepLocation, step: Step, upstream: str) -> None:
    """Write ``step.json`` beside a step's output, once.

    The file holds the values that the fingerprint is computed from: name, version, config, weights and schema; and the
    former outputs in this corpus that are gone on with.

    Args:
        store: The corpus.
        location: The step's location.
        step: The step.
        upstream: Name of the step whose output it reads; empty if it reads the sources.
    """
    about = {
        "name": step.name,
        "version": step.version,
        "fingerprint": location.fingerprint,
        "upstream": upstream,
        "key": step.key,
        "private": step.private,
        "config": dict(step.config),
        "weights": dict(step.weights),
        "schema": base64.b64encode(step.output.serialize().to_pybytes()).decode(),
        "continues": [
            {"name": former.name, "fingerprint": former.fingerprint, "keeps": list(former.keeps)}
            for former in location.former
            if store.exists(f"{former.prefix}step.json")
        ],
    }
    path = f"{location.prefix}step.json"
    if not store.exists(path):
        store.create(path, seal_json(about))
    elif (kept := open_json(store.read(path), f"{store.uri}/{path}", MINE_AGAIN)).get("continues", []) != about[
        "continues"
    ]:
        store.write(path, seal_json({**kept, "continues": about["continues"]}))


def locate_step(store: Store, name: str, fingerprint: str) -> StepLocation:
    """Return the location of a step that has run in this corpus, read from its ``step.json``.

    Args:
        store: The corpus.
        name: The step's name.
        fingerprint: The fingerprint under which it ran.

    Raises:
        StoreError: The step has not run under this fingerprint.
    """
    for private in (False, True):
        try:
            path = f"{step_prefix(name, fingerprint, private)}step.json"
            about = open_json(store.read(path), f"{store.uri}/{path}", MINE_AGAIN)
        except FileNotFoundError:
            continue
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(about["schema"])))
        former = tuple(
            replace(locate_step(store, old["name"], old["fingerprint"]), former=(), keeps=tuple(old["keeps"]))
            for old in about.get("continues", ())
        )
        return StepLocation(name, fingerprint, private, about["key"], schema, former)
    raise StoreError(f"{store.uri}: step {name} has not run with fingerprint {fingerprint}; mine the corpus first")


def read_markers(store: Store, prefix: str, known: Mapping[str, Marker] | None = None) -> dict[str, Marker]:
    """Read every marker below a prefix.

    Args:
        store: The corpus.
        prefix: The folder of a step's output or of one of its shards.
        known: Markers by path, from an earlier call, which are not read again.

    Returns:
        The markers by path, in the order of shard and part.
    """
    known = known or {}
    paths = [path for path in store.list(prefix) if path.endswith(".json") and not path.endswith("/step.json")]
    fresh = [path for path in paths if path not in known]
    if len(fresh) < 4:
        markers = {path: Marker.read(store, path) for path in fresh}
    else:
        with ThreadPoolExecutor(READER_THREADS) as pool:
            markers = dict(zip(fresh, pool.map(lambda path: Marker.read(store, path), fresh), strict=True))
    return {path: known.get(path) or markers[path] for path in paths}


def read_family_markers(store: Store, location: StepLocation, shard: int | None = None) -> dict[str, Marker]:
    """Read the markers of a step's output and of the former output that it goes on with.

    Args:
        store: The corpus.
        location: The step's location.
        shard: The logical shard; all by default.

    Returns:
        The markers by path; of two parts with the same item, the one that counts comes later.
    """
    folders = (part.prefix if shard is None else part.shard_folder(shard) for part in location.family)
    return {path: marker for folder in folders for path, marker in read_markers(store, folder).items()}


class BlobFile:
    """Content of a packed file in the making: the values one after the other."""

    def __init__(self) -> None:
        self.data = bytearray()

    def add(self, values: pa.Array) -> pa.Array:
        """Append ``large_binary`` values and return a ``BLOB_REF`` for each, with an empty uri; a null stays null."""
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


def packed_type(kind: pa.DataType) -> pa.DataType:
    """Return the type after packing: ``large_binary`` becomes ``BLOB_REF``, inside lists and structs too."""
    if pa.types.is_large_binary(kind):
        return BLOB_REF
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(packed_type(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([f.with_type(packed_type(f.type)) for f in kind])
    return kind


def packed_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema with ``packed_type`` of every column."""
    return pa.schema([f.with_type(packed_type(f.type)) for f in schema])


def pack_blobs(table: pa.Table, file: BlobFile) -> pa.Table:
    """Move every ``large_binary`` value of a table into a packed file.

    Args:
        table: Rows of any schema.
        file: Receives the values; the uri of the references is set later (``set_blob_uri``).

    Returns:
        The rows with references, of ``packed_schema(table.schema)``.
    """
    return _map_columns(table, packed_schema(table.schema), pa.types.is_large_binary, lambda array, _: file.add(array))


def set_blob_uri(table: pa.Table, uri: str) -> pa.Table:
    """Set the uri of every reference in a packed table, once the packed file has its name.

    Args:
        table: Rows with ``BLOB_REF`` values at any depth.
        uri: Path of the packed file, relative to the corpus.

    Returns:
        The rows with the same schema.
    """

    def set_uri(refs: pa.Array, _: pa.DataType) -> pa.Array:
        uris = pa.array([uri if valid else None for valid in refs.is_valid().to_pylist()], pa.string())
        return pa.StructArray.from_arrays([uris, *refs.flatten()[1:]], fields=list(BLOB_REF), mask=refs.is_null())

    return _map_columns(table, table.schema, lambda kind: kind == BLOB_REF, set_uri)


def fetch_blobs(table: pa.Table, schema: pa.Schema, store: Store) -> pa.Table:
    """Replace references by the bytes that they point to.

    Args:
        table: Rows with ``BLOB_REF`` values at any depth.
        schema: Schema of the result. A field that is ``large_binary`` here and a reference in the table is read from a
            packed file.
        store: The corpus that holds the packed files.

    Returns:
        The rows, with exactly the columns of ``schema``.

    Raises:
        FileNotFoundError: A packed file is missing.
        StoreError: The corpus cannot be read, or an image has another sha256 than its reference.
    """
    references = [ref for f in schema if packed_type(f.type) != f.type for ref in _references(table[f.name], f.type)]
    contents = read_ranges(store, references)

    def content(ref: Mapping[str, Any] | None) -> bytes | None:
        if ref is None:
            return None
        data = contents[ref["uri"], ref["offset"], ref["length"]]
        if not is_image_whole(data, ref):
            where = f"{store.uri}/{ref['uri']} at {ref['offset']}"
            raise DamagedFileError(f"{where}: an image is damaged; `ffavatar verify` says what to do")
        return data

    def fetch(refs: pa.Array, _: pa.DataType) -> pa.Array:
        return pa.array([content(ref) for ref in refs.to_pylist()], pa.large_binary())

    resolved = _map_columns(table.select(schema.names), schema, lambda kind: kind == BLOB_REF, fetch, by_target=True)
    return resolved.cast(schema)


def commit_part(
    store: Store,
    location: StepLocation,
    shard: int,
    part: int,
    rows: pa.Table,
    file: BlobFile,
    inputs: Sequence[str],
    run_id: str,
) -> Marker | None:
    """Write a complete part: the packed images, the rows, then the marker.

    File names contain a digest of the content, so two writers never replace each other's files by different content.

    Args:
        store: The corpus.
        location: The step's location.
        shard: The logical shard.
        part: The number of the part in its shard.
        rows: Packed rows (``location.stored_schema``) with references into ``file``.
        file: The packed images.
        inputs: sha256 of each file that the rows were computed from.
        run_id: The run that made the part.

    Returns:
        The part's marker; None if another writer has already taken this part number.

    Raises:
        StoreError: The corpus cannot be written.
    """
    folder, blobs, blobs_sha = location.shard_folder(shard), "", ""
    if file.data:
        blobs_sha = hashlib.sha256(file.data).hexdigest()
        blobs = f"{folder}{part:04d}-{blobs_sha[:16]}.blobs"
        store.write(blobs, bytes(file.data))
    data = to_parquet(set_blob_uri(rows, blobs))
    sha = hashlib.sha256(data).hexdigest()
    path = f"{folder}{part:04d}-{sha[:16]}.parquet"
    store.write(path, data)
    marker = Marker(
        shard=shard,
        part=part,
        data=path,
        rows=rows.num_rows,
        n_bytes=len(data),
        sha256=sha,
        schema_hash=schema_hash(location.stored_schema),
        inputs=tuple(sorted(set(inputs))),
        blobs=blobs,
        blobs_n_bytes=len(file.data),
        blobs_sha256=blobs_sha,
        run_id=run_id,
    )
    return marker if create_once(store, f"{folder}{part:04d}.json", marker.to_json()) else None


def create_once(store: Store, path: str, data: bytes) -> bool:
    """Create a file unless it exists; a file that exists with the same content counts as created.

    The content decides because the store's answer to an earlier attempt of this writer may have been lost.

    Args:
        store: The corpus.
        path: The file, relative to the corpus.
        data: Its content.

    Returns:
        True if the file has this content now, False if it exists with different content.
    """
    return store.create(path, data) or store.read(path) == data


def read_part(store: Store, location: StepLocation, marker: Marker, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a part's packed rows and verify them against the marker.

    Args:
        store: The corpus.
        location: The step's location; a part of former output is read in its current schema.
        marker: The part's marker.
        columns: The columns to read, all by default; ``faces.score`` is the field ``score`` of the structs in the list
            ``faces``.

    Returns:
        The rows, with all columns of ``location.stored_schema`` or only the ``columns``.

    Raises:
        StoreError: The file is missing or damaged, or its schema differs from the step's current one.
    """
    owner = next(part for part in location.family if marker.data.startswith(part.prefix))
    names = list(columns) if columns is not None else location.stored_schema.names
    if owner is not location:
        target = prune_schema(location.stored_schema, names)
        kept = [name for name in names if has_column(owner.stored_schema, name)]
        return conform_table(read_part(store, replace(owner, former=()), marker, kept), target)
    problem = ""
    try:
        data = store.read(marker.data)
    except FileNotFoundError:
        problem = "is missing"
    else:
        if hashlib.sha256(data).hexdigest() != marker.sha256:
            problem = "is damaged (another digest than its marker's)"
        elif marker.schema_hash != schema_hash(location.stored_schema):
            problem = f"has another schema than step {location.name} now gives (raise the step's version)"
    if problem:
        raise DamagedFileError(f"{store.uri}/{marker.data}: {problem}; {remake_part(location, marker)}")
    return from_parquet(data, location.stored_schema, columns)


def remake_part(location: StepLocation, marker: Marker) -> str:
    """Return what to do if a file of a part is damaged.

    Args:
        location: The step's location.
        marker: The part's marker.
    """
    return f"delete {location.shard_folder(marker.shard)}{marker.part:04d}.json and run the same command again"


def read_step(
    store: Store,
    name: str,
    fingerprint: str,
    with_blobs: bool = False,
    columns: Sequence[str] | None = None,
    shard: int | None = None,
    parts: Collection[str] | None = None,
) -> pa.Table:
    """Read a step's output: the latest row of each item, sorted by key.

    Args:
        store: The corpus.
        name: The step's name.
        fingerprint: The fingerprint under which it ran.
        with_blobs: True returns images as bytes, False as ``BLOB_REF``.
        columns: The columns to read, all by default; ``faces.score`` is the field ``score`` of the structs in the list
            ``faces``.
        shard: The logical shard to read; all by default.
        parts: Paths of the markers whose parts are read; all by default.

    Returns:
        The rows, without ``ATTEMPT`` unless ``columns`` names it.

    Raises:
        StoreError: The step has not run under this fingerprint, or a part is damaged.
    """
    location = locate_step(store, name, fingerprint)
    names = list(columns) if columns is not None else [f.name for f in location.schema]
    read = list(dict.fromkeys([location.key, *names]))
    markers = read_family_markers(store, location, shard)
    selected = [marker for path, marker in markers.items() if parts is None or path in parts]
    with ThreadPoolExecutor(READER_THREADS) as pool:
        tables = list(pool.map(lambda marker: read_part(store, location, marker, read), selected))
    schema = prune_schema(location.schema if with_blobs else location.stored_schema, names)
    table = pa.concat_tables(tables) if tables else prune_schema(location.stored_schema, read).empty_table()
    latest = {key: row for row, key in enumerate(table[location.key].to_pylist())}
    table = table.take(pa.array([latest[key] for key in sorted(latest)], pa.int64())).select(schema.names)
    return fetch_blobs(table, schema, store) if with_blobs else table


def _references(column: pa.ChunkedArray | pa.Array, target: pa.DataType) -> list[ByteRange]:
    """Return every reference in a column whose counterpart in the target type is ``large_binary``."""
    references: list[ByteRange] = []
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        if pa.types.is_large_binary(target) and chunk.type == BLOB_REF:
            references += [(r["uri"], r["offset"], r["length"]) for r in chunk.to_pylist() if r is not None]
        elif pa.types.is_list(target):
            references += _references(chunk.flatten(), target.value_type)
        elif pa.types.is_struct(target):
            for child, f in zip(chunk.flatten(), target, strict=True):
                references += _references(child, f.type)
    return references


MapLeaf = Callable[[pa.Array, pa.DataType], pa.Array]


def _map_columns(
    table: pa.Table, target: pa.Schema, is_leaf: Callable[[pa.DataType], bool], leaf: MapLeaf, by_target: bool = False
) -> pa.Table:
    """Apply ``leaf`` to every array, at any depth, whose type satisfies ``is_leaf``; the result has schema ``target``.

    With ``by_target`` an array is changed only if its type in ``target`` is ``large_binary``.
    """

    def walk(array: pa.Array, kind: pa.DataType) -> pa.Array:
        if is_leaf(array.type) and (not by_target or pa.types.is_large_binary(kind)):
            return leaf(array, kind)
        if array.type == kind and not _contains_leaf(kind, is_leaf):
            return array
        if pa.types.is_list(kind):
            lengths = array.value_lengths().fill_null(0).cast(pa.int32())
            ends = pc.cumulative_sum(lengths).cast(pa.int32())
            offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
            values = walk(array.flatten(), kind.value_type)
            return pa.ListArray.from_arrays(offsets, values, type=kind, mask=array.is_null())
        if pa.types.is_struct(kind):
            # `flatten` makes a child null wherever its struct is null; `field` keeps a child that may not be null
            children = [
                flat if f.nullable else array.field(i)
                for i, (flat, f) in enumerate(zip(array.flatten(), array.type, strict=True))
            ]
            mapped = [walk(child, f.type) for child, f in zip(children, kind, strict=True)]
            return pa.StructArray.from_arrays(mapped, fields=list(kind), mask=array.is_null())
        return array.cast(kind)

    columns = []
    for f in target:
        chunks = [walk(chunk, f.type) for chunk in table[f.name].chunks]
        columns.append(pa.chunked_array(chunks, type=f.type))
    return pa.table(columns, schema=target)


def _contains_leaf(kind: pa.DataType, is_leaf: Callable[[pa.DataType], bool]) -> bool:
    """Return True if a type is a leaf or contains one at any depth."""
    if is_leaf(kind):
        return True
    return kind.num_fields > 0 and any(_contains_leaf(kind.field(i).type, is_leaf) for i in range(kind.num_fields))
