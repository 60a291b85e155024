"""Parts of a step's output: data first, then a marker by conditional create. Readers list markers only."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field

import pyarrow as pa

from mfhq.layout import shard_prefix, step_prefix
from mfhq.parquet import from_parquet, pruned, to_parquet
from mfhq.schema import FAILED, schema_hash
from mfhq.store import Store, StoreError
from pipelines.blobs import BlobFile, place, resolve, stored_schema
from pipelines.step import Step

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
        shard=shard, part=part, data=path, rows=rows.num_rows, n_bytes=len(data), sha256=sha,
        schema_hash=schema_hash(at.stored), inputs=tuple(sorted(set(inputs))),
        blobs=blobs, blobs_n_bytes=len(file.data), blobs_sha256=blobs_sha, run_id=run_id,
    )  # fmt: skip
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


@dataclass(frozen=True, slots=True)
class ItemState:
    """What became of an item so far in one step."""

    status: str
    reason: str
    attempt: int
    part: int

    def finished(self, max_attempts: int) -> bool:
        """Whether it is never worked on again: ok, rejected, or failed often enough (quarantined)."""
        return self.status != FAILED or self.attempt >= max_attempts


class ShardState:
    """What is done in one logical shard of a step's output. ``refresh`` reads only what is new."""

    def __init__(self, store: Store, at: StepPlace, shard: int) -> None:
        self.store, self.at, self.shard = store, at, shard
        self.items: dict[str, ItemState] = {}
        self.markers: dict[str, Marker] = {}

    def refresh(self) -> ShardState:
        """Take in the parts that were committed since the last call."""
        now = markers(self.store, self.at.shard(self.shard), self.markers)
        for path, marker in now.items():
            if path not in self.markers:
                self.add(marker)
        return self

    def add(self, marker: Marker, rows: pa.Table | None = None) -> None:
        """Take in one part; its rows are read unless they are given."""
        self.markers[f"{self.at.shard(self.shard)}{marker.part:04d}.json"] = marker
        names = [self.at.key, "status", "reason", ATTEMPT]
        rows = read_part(self.store, self.at, marker, names) if rows is None else rows
        columns = (rows[name].to_pylist() for name in names)
        for key, status, reason, attempt in zip(*columns, strict=True):
            before = self.items.get(key)
            if before is None or before.part <= marker.part:
                self.items[key] = ItemState(status, reason, attempt, marker.part)

    @property
    def next_part(self) -> int:
        """The number after the last part that was seen: a part that another writer has since made takes it."""
        return 1 + max((marker.part for marker in self.markers.values()), default=-1)

    def ok(self, keys: Iterable[str]) -> list[str]:
        """Those of the keys whose item is ok."""
        return [key for key in keys if key in self.items and self.items[key].status == "ok"]


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
