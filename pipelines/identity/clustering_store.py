"""Clusterings kept in the corpus: what publishing takes people from, and what new tracks are joined to.

What a clustering itself said, before reviewers' decisions: what the next clustering's ids go on from.

A snapshot's ``assignments`` hold the decided people. Were a new clustering to take its ids from those, a person that a
reviewer split off could take over the one that they were split from; so each clustering's own word is kept beside.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mfhq.parquet import from_parquet, to_parquet
from mfhq.paths import CLUSTERINGS, clustering_path
from mfhq.schema import ALIASES, ASSIGNMENTS, EMBEDDINGS
from mfhq.store import Store
from pipelines.identity.constraints import Vectors
from pipelines.identity.vector_lists import vectors_to_lists

log = logging.getLogger(__name__)

_ROWS = 100_000
"""Rows of a file."""
_NUMBERED = re.compile(re.escape(CLUSTERINGS) + r"\d+\.json")

PLACES = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("start_frame", pa.int64(), nullable=False),
        pa.field("end_frame", pa.int64(), nullable=False),
    ]
)
"""Where each track is seen."""

SUMS = pa.schema(
    [
        pa.field("identity_id", pa.string(), nullable=False),
        pa.field("n_tracks", pa.int64(), nullable=False),
        pa.field("sum", pa.list_(pa.float32()), nullable=False),
    ]
)
"""The sum of the unit vectors of each person's tracks; ascending by id."""


@dataclass(frozen=True)
class Asked:
    """What a clustering was asked of."""

    config: dict[str, Any]
    """Settings (``ClusterConfig``)."""
    parts: dict[str, str]
    """Path to sha256 of each part of the steps' outputs that it was made from."""
    takedowns: list[str]
    """Ids of the take-downs that were on record: what they name is not in it."""


@dataclass(frozen=True)
class Stored:
    """``biometric/clusterings/{number}.json``: a clustering, before review."""

    number: int
    version: str
    model: str
    asked: Asked
    tables: dict[str, list[str]]
    """Files by table: assignments, aliases, places, sums, embeddings."""
    tracks: int
    identities: int
    joined: int
    """Tracks that joined since everything was last clustered anew."""

    def goes_on(self, asked: Asked) -> bool:
        """Whether what is asked for now is this and new tracks."""
        same = (self.asked.config, self.asked.takedowns) == (asked.config, asked.takedowns)
        return same and self.asked.parts.items() <= asked.parts.items()

    def table(self, store: Store, name: str) -> pa.Table:
        """One of its tables.

        Raises:
            FileNotFoundError: a file is gone.
        """
        schema = SCHEMAS[name]
        return pa.concat_tables(
            [schema.empty_table(), *(from_parquet(store.read(p), schema) for p in self.tables[name])]
        )


SCHEMAS = {"assignments": ASSIGNMENTS, "aliases": ALIASES, "places": PLACES, "sums": SUMS, "embeddings": EMBEDDINGS}


def newest_clustering(store: Store) -> Stored | None:
    """The clustering that was stored last; None where there is none whose files are all there."""
    path = _newest_record(store)
    if path is None:
        return None
    record = json.loads(store.read(path))
    stored = Stored(**{**record, "asked": Asked(**record["asked"])})
    if all(store.exists(file) for files in stored.tables.values() for file in files):
        return stored
    log.warning("%s: some of its files are gone; everything is clustered anew", path)
    return None


def store_clustering(
    store: Store,
    version: str,
    model: str,
    asked: Asked,
    tables: Mapping[str, pa.Table],
    kept: Sequence[str] = (),
    joined: int = 0,
) -> Stored:
    """Write a clustering whole: its tables, then the record. ``kept`` are files of embeddings from before that hold."""
    files = {
        name: [_write(store, table.slice(at, _ROWS)) for at in range(0, table.num_rows, _ROWS)]
        for name, table in tables.items()
    }
    files["embeddings"] = [*kept, *files["embeddings"]]
    while True:
        last = _newest_record(store)
        stored = Stored(
            number=(int(last[len(CLUSTERINGS) :].removesuffix(".json")) if last else 0) + 1,
            version=version,
            model=model,
            asked=asked,
            tables=files,
            tracks=tables["assignments"].num_rows,
            identities=tables["sums"].num_rows,
            joined=joined,
        )
        data = json.dumps(asdict(stored), indent=1).encode()
        path = f"{CLUSTERINGS}{stored.number:08d}.json"
        if store.create(path, data) or store.read(path) == data:
            _forget_older(store, stored)
            return stored


def _newest_record(store: Store) -> str | None:
    return max((path for path in store.list(CLUSTERINGS) if _NUMBERED.fullmatch(path)), default=None)


def _write(store: Store, table: pa.Table) -> str:
    data = to_parquet(table)
    path = f"{CLUSTERINGS}{hashlib.sha256(data).hexdigest()[:32]}.parquet"
    if not store.exists(path):
        store.write(path, data)
    return path


def _forget_older(store: Store, newest: Stored) -> None:
    """Delete what the newest clustering does not need: it holds biometric data, and nothing reads it."""
    needed = {path for paths in newest.tables.values() for path in paths} | {f"{CLUSTERINGS}{newest.number:08d}.json"}
    for path in list(store.list(CLUSTERINGS)):
        if path not in needed:
            store.delete(path)


def sums_table(identity: npt.NDArray[np.object_], sums: Vectors, sizes: npt.NDArray[np.int64]) -> pa.Table:
    """``SUMS`` of people (P,), (P, D), (P,), ascending by id."""
    order = np.argsort(identity, kind="stable")
    columns = {
        "identity_id": pa.array(identity[order], pa.string()),
        "n_tracks": pa.array(sizes[order]),
        "sum": vectors_to_lists(sums[order]),
    }
    return pa.table(columns, schema=SUMS)


def record_clustering(store: Store, assignments: pa.Table) -> None:
    """Keep a clustering's own assignments (``mfhq.schema.ASSIGNMENTS``, all of one ``cluster_version``)."""
    for version in assignments["cluster_version"].unique().to_pylist():
        if not store.exists(clustering_path(version)):
            store.write(clustering_path(version), to_parquet(assignments.sort_by("track_id")))


def read_clustering(store: Store, published: pa.Table) -> dict[str, str]:
    """Track to identity as the clustering of these published assignments said; as published where that is not kept."""
    own = dict(zip(published["track_id"].to_pylist(), published["identity_id"].to_pylist(), strict=True))
    for version in published["cluster_version"].unique().to_pylist():
        try:
            table = from_parquet(store.read(clustering_path(version)), ASSIGNMENTS, ["track_id", "identity_id"])
        except FileNotFoundError:
            continue
        own |= dict(zip(table["track_id"].to_pylist(), table["identity_id"].to_pylist(), strict=True))
    return own
