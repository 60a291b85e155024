"""Records of take-downs, and the deny lists with which readers and publishers leave out withdrawn data.

A record does not contain the withdrawn ids and URIs, but a digest of each (``token``). So an id can be checked against
the record, but not be read from it. As soon as a record is stored, every reader and publisher leaves out the ids and
URIs in it, even before the files are rewritten.
"""

from __future__ import annotations

import datetime
import hashlib
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
from mfhq.seals import open_record, seal_json
from mfhq.store import Store

VIDEO, SOURCE, IDENTITY, PHOTOGRAPH = "video", "source", "identity", "photograph"
"""Kinds of take-downs."""
_PREFIX = "ffavatar take-down: "
_LENGTH = 32
_DONE = ".done"
_REMEDY = "restore it from a copy, or delete it and take the same down again: without it, withdrawn data could be shown"


def token(value: str) -> str:
    """Return the digest that a record has in place of an id or a URI: 32 hexadecimal characters of a sha256."""
    return hashlib.sha256(f"{_PREFIX}{value}".encode()).hexdigest()[:_LENGTH]


def token_sql(column: str) -> str:
    """Return a DuckDB expression for the ``token`` of a column."""
    return f"sha256('{_PREFIX}' || {column})[1:{_LENGTH}]"


@dataclass(frozen=True)
class Takedown:
    """Record of a take-down, stored in ``takedowns/{takedown_id}.json``."""

    takedown_id: str
    """Id of the take-down."""
    kind: str
    """Kind of the target: video, source, identity or photograph."""
    target: str
    """``token`` of the named id or URI; for a photograph, ``token`` of the ids that were found with it."""
    made_at: str
    """Time of the take-down, ISO 8601, UTC."""
    gone: tuple[str, ...]
    """``token`` of every id and URI that is withdrawn from the corpus."""
    frozen: tuple[str, ...] = ()
    """``token`` of each frozen video: it stays for the other people in it and is never mined again, because nothing
    is kept with which the withdrawn person could be recognised in it."""
    shards: tuple[int, ...] = ()
    """Logical shards whose step outputs contain withdrawn data."""
    snapshots: tuple[str, ...] = ()
    """Names of the snapshots that contained withdrawn data."""
    runs: tuple[dict[str, Any], ...] = field(default=(), hash=False)
    """Runs that read withdrawn data. The keys are run_id, kind, snapshot, pictures (number of withdrawn chosen faces
    and views in that snapshot), and through (id of the run with whose result this run began, if this run's own snapshot
    did not contain withdrawn data)."""

    def to_json(self) -> bytes:
        """Return the contents of the record's file."""
        return seal_json(asdict(self))

    @classmethod
    def from_json(cls, data: bytes, where: str = "the take-down's record") -> Takedown:
        """Parse the result of ``to_json``.

        Args:
            data: The document.
            where: URI of the file, for the error.

        Raises:
            DamagedFileError: It is not the document that was written.
        """
        return open_record(cls, data, where, _REMEDY)


def record_path(takedown_id: str) -> str:
    """Return the path of a take-down's record."""
    return f"{TAKEDOWNS}{takedown_id}.json"


def done_path(takedown_id: str) -> str:
    """Return the path of a take-down's marker, which means that no file of the corpus contains its withdrawn data."""
    return f"{TAKEDOWNS}{takedown_id}{_DONE}"


def read_takedowns(store: Store, unfinished: bool = False) -> list[Takedown]:
    """Read the records of take-downs, ordered by path.

    Args:
        store: The corpus.
        unfinished: True to read only take-downs without the marker ``done_path``.
    """
    paths = set(store.list(TAKEDOWNS))
    records = sorted(path for path in paths if path.endswith(".json"))
    if unfinished:
        records = [path for path in records if path.removesuffix(".json") + _DONE not in paths]
    return [Takedown.from_json(store.read(path), f"{store.uri}/{path}") for path in records]


def takedowns_table(takedowns: Iterable[Takedown]) -> pa.Table:
    """Return a table with one row per take-down, schema ``mfhq.schema.TAKEDOWNS``."""
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
    """Deny list: the ids and URIs that a set of take-downs withdraws."""

    takedowns: tuple[Takedown, ...] = ()
    """The take-downs."""

    @cached_property
    def tokens(self) -> frozenset[str]:
        """``token`` of every withdrawn id and URI."""
        return frozenset(t for takedown in self.takedowns for t in takedown.gone)

    @cached_property
    def frozen(self) -> frozenset[str]:
        """``token`` of every video that stays but is never mined again."""
        return frozenset(t for takedown in self.takedowns for t in takedown.frozen)

    def __bool__(self) -> bool:
        return bool(self.takedowns)

    def names(self, value: str) -> bool:
        """Return True if an id or a URI is withdrawn."""
        return token(value) in self.tokens

    def blocks_mining(self, value: str) -> bool:
        """Return True if a video id or a URI is withdrawn or frozen, so that it must not be mined."""
        return token(value) in self.tokens or token(value) in self.frozen

    def mask(self, values: pa.Array) -> npt.NDArray[np.bool_]:
        """Return (N,) bools: True for each withdrawn value, False for a null."""
        coded = pc.dictionary_encode(values.cast(pa.string()))
        if not len(coded.dictionary):
            return np.zeros(len(values), bool)
        hit = np.array([self.names(value) for value in coded.dictionary.to_pylist()] + [False])
        return hit[coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]

    def prune(self, table: pa.Table) -> pa.Table:
        """Return a table without withdrawn rows and list elements; the same object if there are none."""
        return prune(table, self.mask) if self.tokens else table


def read_deny_list(store: Store) -> DenyList:
    """Read the deny list of all recorded take-downs, for steps' outputs, sources and publishing."""
    return DenyList(tuple(read_takedowns(store)))


def snapshot_deny_list(store: Store, clean_of: Sequence[str]) -> DenyList:
    """Read the deny list of the take-downs that are not yet applied to a snapshot's files.

    Args:
        store: The corpus.
        clean_of: Ids of the take-downs that are applied to the snapshot's files (``Manifest.clean_of``).
    """
    paths = [path for path in store.list(TAKEDOWNS) if path.endswith(".json")]
    pending = [path for path in paths if path[len(TAKEDOWNS) : -len(".json")] not in clean_of]
    return DenyList(tuple(Takedown.from_json(store.read(path), f"{store.uri}/{path}") for path in pending))
