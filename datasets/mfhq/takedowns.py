"""Take-downs on record, and the deny lists by which readers and publishers leave out what they name.

A record holds no id and no URI that it takes down, but a digest of each (``token``): an id can be checked against it,
and it cannot be read back. As soon as a record is there, every reader and publisher leaves out what it names, whether
or not the files have been rewritten yet.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mfhq.paths import TAKEDOWNS
from mfhq.pruning import prune
from mfhq.schema import TAKEDOWNS as SCHEMA
from mfhq.store import Store

VIDEO, SOURCE, IDENTITY, PHOTOGRAPH = "video", "source", "identity", "photograph"
"""Kinds of take-downs."""
_PREFIX = "ffavatar take-down: "
_LENGTH = 32
_DONE = ".done"


def token(value: str) -> str:
    """Return what a record holds in place of an id or a URI: 32 hexadecimal characters of a sha256."""
    return hashlib.sha256(f"{_PREFIX}{value}".encode()).hexdigest()[:_LENGTH]


def token_sql(column: str) -> str:
    """Return a DuckDB expression for the ``token`` of a column."""
    return f"sha256('{_PREFIX}' || {column})[1:{_LENGTH}]"


@dataclass(frozen=True)
class Takedown:
    """Take-down as it is stored in ``takedowns/{takedown_id}.json``."""

    takedown_id: str
    kind: str
    """video, source, identity or photograph."""
    target: str
    """``token`` of the id or URI that was named; for a photograph, of the ids that were found with it."""
    made_at: str
    """ISO 8601, UTC."""
    gone: tuple[str, ...]
    """``token`` of every id and URI that is withdrawn from the corpus."""
    frozen: tuple[str, ...] = ()
    """``token`` of videos that stay for the other people in them, and are not mined again: nothing is kept by which the
    person could be recognised in them."""
    shards: tuple[int, ...] = ()
    """Logical shards in which the steps' outputs hold some of it."""
    snapshots: tuple[str, ...] = ()
    """Snapshots that held it."""
    runs: tuple[dict[str, Any], ...] = field(default=(), hash=False)
    """Runs that read it: run_id, kind, snapshot, pictures (the number of its chosen faces and views in that snapshot),
    through (the run whose result this one began with, where its own snapshot did not hold it)."""

    def to_json(self) -> bytes:
        """Return the stored form."""
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Takedown:
        """Read what ``to_json`` wrote."""
        row = json.loads(data)
        listed: dict[str, Any] = {name: tuple(value) for name, value in row.items() if isinstance(value, list)}
        return cls(**{**row, **listed})


def record_path(takedown_id: str) -> str:
    """Return the path of a take-down's record."""
    return f"{TAKEDOWNS}{takedown_id}.json"


def done_path(takedown_id: str) -> str:
    """Return the path of the marker that no file of the corpus holds anything that a take-down names."""
    return f"{TAKEDOWNS}{takedown_id}{_DONE}"


def read_takedowns(store: Store, unfinished: bool = False) -> list[Takedown]:
    """Read the take-downs on record, ordered by id.

    Args:
        store: The corpus.
        unfinished: Leave out those whose ``done_path`` exists.
    """
    paths = set(store.list(TAKEDOWNS))
    records = sorted(path for path in paths if path.endswith(".json"))
    if unfinished:
        records = [path for path in records if path.removesuffix(".json") + _DONE not in paths]
    return [Takedown.from_json(store.read(path)) for path in records]


def takedowns_table(takedowns: Iterable[Takedown]) -> pa.Table:
    """Return a row for each take-down, schema ``mfhq.schema.TAKEDOWNS``."""
    rows = [
        {
            "takedown_id": t.takedown_id,
            "kind": t.kind,
            "target": t.target,
            "made_at": datetime.datetime.fromisoformat(t.made_at),
        }
        for t in takedowns
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


@dataclass(frozen=True)
class DenyList:
    """Ids and URIs that some take-downs name."""

    takedowns: tuple[Takedown, ...] = ()

    @cached_property
    def tokens(self) -> frozenset[str]:
        """``token`` of every withdrawn id and URI."""
        return frozenset(t for takedown in self.takedowns for t in takedown.gone)

    @cached_property
    def frozen(self) -> frozenset[str]:
        """``token`` of the videos that stay but are not mined again."""
        return frozenset(t for takedown in self.takedowns for t in takedown.frozen)

    def __bool__(self) -> bool:
        return bool(self.takedowns)

    def names(self, value: str) -> bool:
        """Return True if an id or a URI is withdrawn."""
        return token(value) in self.tokens

    def blocks_mining(self, value: str) -> bool:
        """Return True if a video id or a URI is withdrawn, or frozen as it is."""
        return token(value) in self.tokens or token(value) in self.frozen

    def mask(self, values: pa.Array) -> npt.NDArray[np.bool_]:
        """Return (N,) ``names`` of each value; False for a null."""
        coded = pc.dictionary_encode(values.cast(pa.string()))
        if not len(coded.dictionary):
            return np.zeros(len(values), bool)
        hit = np.array([self.names(value) for value in coded.dictionary.to_pylist()] + [False])
        return hit[coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]

    def prune(self, table: pa.Table) -> pa.Table:
        """Return a table without withdrawn rows and list elements; the same object if there are none."""
        return prune(table, self.mask) if self.tokens else table


def read_deny_list(store: Store) -> DenyList:
    """Read the deny list of all take-downs on record, for steps' outputs, sources and publishing."""
    return DenyList(tuple(read_takedowns(store)))


def snapshot_deny_list(store: Store, clean_of: Sequence[str]) -> DenyList:
    """Read the deny list of a snapshot.

    Args:
        store: The corpus.
        clean_of: Ids of the take-downs that were applied to the snapshot's files.
    """
    paths = [path for path in store.list(TAKEDOWNS) if path.endswith(".json")]
    pending = [path for path in paths if path[len(TAKEDOWNS) : -len(".json")] not in clean_of]
    return DenyList(tuple(Takedown.from_json(store.read(path)) for path in pending))
