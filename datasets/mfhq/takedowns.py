"""Take-downs on record, and what readers and publishers leave out because of them.

A record names nothing that it takes down: it holds a digest of each id and URI (``token``), which tells such a
thing when it is seen and tells nobody else what it was. From the moment that a record is there, every reader and
publisher leaves out what it names, whether or not the files have been rewritten yet.
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
_PREFIX = "ffavatar take-down: "
_LENGTH = 32
_DONE = ".done"


def token(value: str) -> str:
    """What a record holds in place of an id or a URI: 32 hexadecimal characters of a sha256."""
    return hashlib.sha256(f"{_PREFIX}{value}".encode()).hexdigest()[:_LENGTH]


def token_sql(column: str) -> str:
    """``token`` of a column, in DuckDB's SQL."""
    return f"sha256('{_PREFIX}' || {column})[1:{_LENGTH}]"


@dataclass(frozen=True)
class Takedown:
    """A take-down as it stands in ``takedowns/{takedown_id}.json``."""

    takedown_id: str
    kind: str
    """video, source, identity or photograph."""
    target: str
    """``token`` of the id or URI that was named; of a photograph, of what was found with it."""
    made_at: str
    """ISO 8601, UTC."""
    gone: tuple[str, ...]
    """``token`` of every id and URI that is to leave the corpus."""
    frozen: tuple[str, ...] = ()
    """``token`` of videos that stay, for the others who are in them, and are not mined again: nothing is kept by which
    the person could be told in them."""
    shards: tuple[int, ...] = ()
    """Logical shards in which the steps' outputs hold some of it."""
    snapshots: tuple[str, ...] = ()
    """Snapshots that held it."""
    runs: tuple[dict[str, Any], ...] = field(default=(), hash=False)
    """Runs that saw it: run_id, kind, snapshot, pictures (its chosen faces and views in that snapshot), through (the
    run whose result this one went on from, where the snapshot of its own did not hold it)."""

    def to_json(self) -> bytes:
        """As it stands in the corpus."""
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Takedown:
        """What ``to_json`` wrote."""
        row = json.loads(data)
        listed: dict[str, Any] = {name: tuple(value) for name, value in row.items() if isinstance(value, list)}
        return cls(**{**row, **listed})


def record_path(takedown_id: str) -> str:
    """Where a take-down is on record."""
    return f"{TAKEDOWNS}{takedown_id}.json"


def done_path(takedown_id: str) -> str:
    """What says that everything it names is gone from the corpus's files."""
    return f"{TAKEDOWNS}{takedown_id}{_DONE}"


def read_takedowns(store: Store, unfinished: bool = False) -> list[Takedown]:
    """Every take-down on record, by id, or those that are not finished."""
    paths = set(store.list(TAKEDOWNS))
    records = sorted(path for path in paths if path.endswith(".json"))
    if unfinished:
        records = [path for path in records if path.removesuffix(".json") + _DONE not in paths]
    return [Takedown.from_json(store.read(path)) for path in records]


def takedowns_table(takedowns: Iterable[Takedown]) -> pa.Table:
    """``mfhq.schema.TAKEDOWNS``."""
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
class Denied:
    """What some take-downs name, as a question that tables and ids are asked."""

    takedowns: tuple[Takedown, ...] = ()

    @cached_property
    def tokens(self) -> frozenset[str]:
        """Of every id and URI that is to go."""
        return frozenset(t for takedown in self.takedowns for t in takedown.gone)

    @cached_property
    def frozen(self) -> frozenset[str]:
        """Of videos that are not to be mined again."""
        return frozenset(t for takedown in self.takedowns for t in takedown.frozen)

    def __bool__(self) -> bool:
        return bool(self.takedowns)

    def names(self, value: str) -> bool:
        """Whether this id or URI is to go."""
        return token(value) in self.tokens

    def is_mined_no_more(self, value: str) -> bool:
        """Whether a video or a URI is to go, or to be left as it is."""
        return token(value) in self.tokens or token(value) in self.frozen

    def mask(self, values: pa.Array) -> npt.NDArray[np.bool_]:
        """(N,) ``names`` of each value; a null names nothing."""
        coded = pc.dictionary_encode(values.cast(pa.string()))
        if not len(coded.dictionary):
            return np.zeros(len(values), bool)
        hit = np.array([self.names(value) for value in coded.dictionary.to_pylist()] + [False])
        return hit[coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]

    def without(self, table: pa.Table) -> pa.Table:
        """The table without what is to go; itself where nothing of it is."""
        return prune(table, self.mask) if self.tokens else table


def denied_by_all(store: Store) -> Denied:
    """What every take-down on record names: for what is read from steps and sources, and for what is published."""
    return Denied(tuple(read_takedowns(store)))


def denied_in(store: Store, clean_of: Sequence[str]) -> Denied:
    """What is to be left out of a snapshot whose files were rewritten, or written, without ``clean_of``."""
    paths = [path for path in store.list(TAKEDOWNS) if path.endswith(".json")]
    pending = [path for path in paths if path[len(TAKEDOWNS) : -len(".json")] not in clean_of]
    return Denied(tuple(Takedown.from_json(store.read(path)) for path in pending))
