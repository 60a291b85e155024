"""Parts of a step's output: data first, then a marker by conditional create. Readers list markers only.

Pictures out of a table and back: ``large_binary`` values, at any depth, against places in a packed file.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from mfhq.parquet import from_parquet, pruned, to_parquet
from mfhq.paths import shard_prefix, step_prefix
from mfhq.schema import BLOB_REF, schema_hash
from mfhq.store import Store, StoreError
from pipelines.engine.step import Step

log = logging.getLogger(__name__)

ATTEMPT = "_attempt"
"""Column that the engine adds to what a step gave: how many attempts the row took, those of earlier runs included."""

_READERS = 16


@dataclass(frozen=True)
class StepPlace:
    """A step's output under one fingerprint: where it lies and what its rows are."""

    name: str
    fingerprint: str
    private: bool
    key: str
    schema: pa.Schema = field(hash=False)
    """Of what the step's ``fn`` returns (pictures as ``large_binary``)."""

    @classmethod
    def of(cls, step: Step, fingerprint: str) -> StepPlace:
        """The place of a step under its fingerprint, chained through what it reads."""
        return cls(step.name, fingerprint, step.private, step.key, step.output)

    @property
    def prefix(self) -> str:
        """The folder of the output, relative to the corpus."""
        return step_prefix(self.name, self.fingerprint, self.private)

    @property
    def stored(self) -> pa.Schema:
        """Of the Parquet files: pictures as ``BLOB_REF``, and ``ATTEMPT``."""
        return stored_schema(self.schema).append(pa.field(ATTEMPT, pa.int32(), nullable=False))

    def shard(self, shard: int) -> str:
        """The folder of one logical shard."""
        return shard_prefix(self.name, self.fingerprint, self.private, shard)


@dataclass(frozen=True)
class Marker:
    """What says that a part is whole, and what it is made of."""

    shard: int
    part: int
    data: str
    """Path of the rows."""
    rows: int
    n_bytes: int
    sha256: str
    schema_hash: str
    inputs: tuple[str, ...]
    """sha256 of each file that the rows were made from."""
    blobs: str
    """Path of the packed pictures; empty for none."""
    blobs_n_bytes: int
    blobs_sha256: str
    run_id: str

    @classmethod
    def from_json(cls, data: bytes) -> Marker:
        """What ``to_json`` wrote."""
        row = json.loads(data)
        return cls(**{**row, "inputs": tuple(row["inputs"])})

    def to_json(self) -> bytes:
        """As it stands in the corpus."""
        return json.dumps(asdict(self), indent=1).encode()


def describe_step(store: Store, at: StepPlace, step: Step, upstream: str) -> None:
    """Write ``step.json`` beside the output, once: what the fingerprint stands for, and the schema."""
    about = {
        "name": step.name,
        "version": step.version,
        "fingerprint": at.fingerprint,
        "upstream": upstream,
        "key": step.key,
        "private": step.private,
        "config": dict(step.config),
        "weights": dict(step.weights),
        "schema": base64.b64encode(step.output.serialize().to_pybytes()).decode(),
    }
    path = f"{at.prefix}step.json"
    if not store.exists(path):
        store.create(path, json.dumps(about, indent=1, default=str).encode())


def open_step(store: Store, name: str, fingerprint: str) -> StepPlace:
    """The place of a step that has run in this corpus.

    Raises:
        StoreError: it has not, under this fingerprint.
    """
    for private in (False, True):
        try:
            about = json.loads(store.read(f"{step_prefix(name, fingerprint, private)}step.json"))
        except FileNotFoundError:
            continue
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(about["schema"])))
        return StepPlace(name, fingerprint, private, about["key"], schema)
    raise StoreError(f"{store.uri}: step {name} has not run with fingerprint {fingerprint}; mine the corpus first")


def markers(store: Store, prefix: str, known: Mapping[str, Marker] | None = None) -> dict[str, Marker]:
    """Every marker below a prefix, by path, in the order of shard and part; those of ``known`` are not read again."""
    known = known or {}
    paths = [path for path in store.list(prefix) if path.endswith(".json") and not path.endswith("/step.json")]
    fresh = [path for path in paths if path not in known]
    if len(fresh) < 4:
        found = {path: Marker.from_json(store.read(path)) for path in fresh}
    else:
        with ThreadPoolExecutor(_READERS) as pool:
            found = dict(zip(fresh, map(Marker.from_json, pool.map(store.read, fresh)), strict=True))
    return {path: known.get(path) or found[path] for path in paths}


def commit_part(
    store: Store,
    at: StepPlace,
    shard: int,
    part: int,
    rows: pa.Table,
    file: BlobFile,
    inputs: Sequence[str],
    run_id: str,
) -> Marker | None:
    """Write a part whole: pictures, rows, then the marker. None when another writer holds this part number.

    ``rows`` are packed (``at.stored``) with references into ``file``. File names hold the digest of the
    content, so two writers never overwrite each other with something else.
    """
    folder, blobs, blobs_sha = at.shard(shard), "", ""
    if file.data:
        blobs_sha = hashlib.sha256(file.data).hexdigest()
        blobs = f"{folder}{part:04d}-{blobs_sha[:16]}.blobs"
        store.write(blobs, bytes(file.data))
    data = to_parquet(place(rows, blobs))
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
        schema_hash=schema_hash(at.stored),
        inputs=tuple(sorted(set(inputs))),
        blobs=blobs,
        blobs_n_bytes=len(file.data),
        blobs_sha256=blobs_sha,
        run_id=run_id,
    )
    return marker if create_once(store, f"{folder}{part:04d}.json", marker.to_json()) else None


def create_once(store: Store, path: str, data: bytes) -> bool:
    """A conditional create that knows its own work again: an earlier try whose answer was lost counts as ours."""
    return store.create(path, data) or store.read(path) == data


def read_part(store: Store, at: StepPlace, marker: Marker, columns: Sequence[str] | None = None) -> pa.Table:
    """A part's packed rows, held against the marker's digest.

    Raises:
        StoreError: the file is missing, or is not what the marker says.
    """
    problem = ""
    try:
        data = store.read(marker.data)
    except FileNotFoundError:
        problem = "is missing"
    else:
        if hashlib.sha256(data).hexdigest() != marker.sha256:
            problem = "is damaged (another digest than its marker's)"
        elif marker.schema_hash != schema_hash(at.stored):
            problem = f"has another schema than step {at.name} now gives (raise the step's version)"
    if problem:
        way_out = f"delete {at.shard(marker.shard)}{marker.part:04d}.json and run the same command again"
        raise StoreError(f"{store.uri}/{marker.data}: {problem}; {way_out}")
    return from_parquet(data, at.stored, columns)


def read_step(
    store: Store,
    name: str,
    fingerprint: str,
    with_blobs: bool = False,
    columns: Sequence[str] | None = None,
    shard: int | None = None,
    parts: Collection[str] | None = None,
) -> pa.Table:
    """A step's output: the latest row of each item, in the order of the key.

    Pictures are ``BLOB_REF``, or bytes ``with_blobs``. With ``columns`` only those are read (``faces.score``: that
    field of a list's structs), with ``shard`` that logical shard alone, with ``parts`` (paths of markers) those alone.

    Raises:
        StoreError: the step has not run under this fingerprint, or a part is damaged.
    """
    at = open_step(store, name, fingerprint)
    names = list(columns) if columns is not None else [f.name for f in at.schema]
    read = list(dict.fromkeys([at.key, *names]))
    below = markers(store, at.prefix if shard is None else at.shard(shard))
    found = [marker for path, marker in below.items() if parts is None or path in parts]
    with ThreadPoolExecutor(_READERS) as pool:
        tables = list(pool.map(lambda marker: read_part(store, at, marker, read), found))
    wanted = pruned(at.schema if with_blobs else at.stored, names)
    table = pa.concat_tables(tables) if tables else pruned(at.stored, read).empty_table()
    last = {key: row for row, key in enumerate(table[at.key].to_pylist())}
    table = table.take(pa.array([last[key] for key in sorted(last)], pa.int64())).select(wanted.names)
    return resolve(table, wanted, store) if with_blobs else table


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
