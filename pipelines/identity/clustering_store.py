"""Clusterings stored in the corpus: the newest one, which new tracks join, and the assignments of each version.

Both are stored as the clustering made them, without reviewers' decisions, and the next clustering takes its ids from
them. It does not take them from a snapshot's ``assignments``, which include the decisions: otherwise a person whom a
reviewer split off from another could take over the other's id.
"""

from __future__ import annotations

import hashlib
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
from mfhq.seals import open_json, seal_json
from mfhq.store import Store
from pipelines.identity.constraints import Vectors
from pipelines.identity.vector_lists import vectors_to_lists

log = logging.getLogger(__name__)

SPANS = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("start_frame", pa.int64(), nullable=False),
        pa.field("end_frame", pa.int64(), nullable=False),
    ]
)
"""Schema of the table ``places``: the frame range of each track."""

SUMS = pa.schema(
    [
        pa.field("identity_id", pa.string(), nullable=False),
        pa.field("n_tracks", pa.int64(), nullable=False),
        pa.field("sum", pa.list_(pa.float32()), nullable=False),
    ]
)
"""Schema of the table ``sums``: the sum of the unit vectors of each person's tracks; sorted by id."""

SCHEMAS = {"assignments": ASSIGNMENTS, "aliases": ALIASES, "places": SPANS, "sums": SUMS, "embeddings": EMBEDDINGS}
"""Schemas of a stored clustering's tables."""

CLUSTER_ANEW = f"delete the folder {CLUSTERINGS}; the next clustering computes it anew"
"""Remedy, in an error, for a damaged file of the newest clustering."""
KEEP_OLDER_IDS = "delete it; people then keep the ids of an older clustering"
"""Remedy, in an error, for a damaged file of a version's assignments."""

_ROWS = 100_000
"""Upper bound on the rows of a file."""
_NUMBERED = re.compile(re.escape(CLUSTERINGS) + r"\d+\.json")


@dataclass(frozen=True)
class ClusteringRequest:
    """Settings and inputs of a clustering."""

    config: dict[str, Any]
    """Settings (``ClusterConfig``)."""
    parts: dict[str, str]
    """Path of a part's marker to sha256 of its rows, for each part of the steps' outputs that is read."""
    takedowns: list[str]
    """Ids of the take-downs on record; the clustering leaves out everything that they name."""


@dataclass(frozen=True)
class StoredClustering:
    """Record of a clustering, before review: ``biometric/clusterings/{number}.json``."""

    number: int
    version: str
    model: str
    request: ClusteringRequest
    """Settings and inputs; stored under the key ``asked``."""
    tables: dict[str, list[str]]
    """Table name (assignments, aliases, places, sums, embeddings) to the paths of its files."""
    tracks: int
    identities: int
    joined: int
    """Number of tracks that joined since all tracks were last clustered anew."""

    def is_continued_by(self, request: ClusteringRequest) -> bool:
        """Return True if ``request`` equals this clustering's request except for additional parts."""
        same = (self.request.config, self.request.takedowns) == (request.config, request.takedowns)
        return same and self.request.parts.items() <= request.parts.items()

    def to_json(self) -> bytes:
        """Return the record as it is stored."""
        record = {"asked" if name == "request" else name: value for name, value in asdict(self).items()}
        return seal_json(record)

    def table(self, store: Store, name: str) -> pa.Table:
        """Read one table of the clustering.

        Raises:
            FileNotFoundError: A file of the table was deleted.
            DamagedFileError: A file is not the one that was written.
        """
        schema, uri = SCHEMAS[name], store.uri
        files = (from_parquet(store.read(p), schema, None, f"{uri}/{p}", CLUSTER_ANEW) for p in self.tables[name])
        return pa.concat_tables([schema.empty_table(), *files])


def newest_clustering(store: Store) -> StoredClustering | None:
    """Read the record of the newest clustering; None if there is none, or if one of its files is missing.

    Raises:
        DamagedFileError: The record is not the one that was written.
    """
    path = _newest_record(store)
    if path is None:
        return None
    record = open_json(store.read(path), f"{store.uri}/{path}", CLUSTER_ANEW)
    stored = StoredClustering(request=ClusteringRequest(**record.pop("asked")), **record)
    if all(store.exists(file) for files in stored.tables.values() for file in files):
        return stored
    log.warning("%s: some of its files are missing; everything is clustered anew", path)
    return None


def store_clustering(
    store: Store,
    version: str,
    model: str,
    request: ClusteringRequest,
    tables: Mapping[str, pa.Table],
    earlier_embeddings: Sequence[str] = (),
    joined: int = 0,
) -> StoredClustering:
    """Write a clustering: its tables, then the record.

    Args:
        store: The corpus.
        version: The clustering's version.
        model: The embedding model.
        request: The settings and inputs.
        tables: Table name to rows (``SCHEMAS``).
        earlier_embeddings: Paths of the previous clustering's files of embeddings, which are part of this one, too.
        joined: Number of tracks that joined since all tracks were last clustered anew.
    """
    files = {
        name: [_write(store, table.slice(at, _ROWS)) for at in range(0, table.num_rows, _ROWS)]
        for name, table in tables.items()
    }
    files["embeddings"] = [*earlier_embeddings, *files["embeddings"]]
    while True:
        last = _newest_record(store)
        stored = StoredClustering(
            number=(int(last[len(CLUSTERINGS) :].removesuffix(".json")) if last else 0) + 1,
            version=version,
            model=model,
            request=request,
            tables=files,
            tracks=tables["assignments"].num_rows,
            identities=tables["sums"].num_rows,
            joined=joined,
        )
        data = stored.to_json()
        path = f"{CLUSTERINGS}{stored.number:08d}.json"
        if store.create(path, data) or store.read(path) == data:
            _forget_older(store, stored)
            return stored


def sums_table(identity: npt.NDArray[np.object_], sums: Vectors, sizes: npt.NDArray[np.int64]) -> pa.Table:
    """Return rows of ``SUMS``, sorted by id.

    Args:
        identity: (P,) ids of people.
        sums: (P, D) sum of the unit vectors of each person's tracks.
        sizes: (P,) number of tracks of each person.
    """
    order = np.argsort(identity, kind="stable")
    columns = {
        "identity_id": pa.array(identity[order], pa.string()),
        "n_tracks": pa.array(sizes[order]),
        "sum": vectors_to_lists(sums[order]),
    }
    return pa.table(columns, schema=SUMS)


def _newest_record(store: Store) -> str | None:
    return max((path for path in store.list(CLUSTERINGS) if _NUMBERED.fullmatch(path)), default=None)


def _write(store: Store, table: pa.Table) -> str:
    data = to_parquet(table)
    path = f"{CLUSTERINGS}{hashlib.sha256(data).hexdigest()[:32]}.parquet"
    if not store.exists(path):
        store.write(path, data)
    return path


def _forget_older(store: Store, newest: StoredClustering) -> None:
    """Delete the files that the newest clustering does not need: they hold biometric data, and nothing reads them."""
    needed = {path for paths in newest.tables.values() for path in paths} | {f"{CLUSTERINGS}{newest.number:08d}.json"}
    for path in list(store.list(CLUSTERINGS)):
        if path not in needed:
            store.delete(path)


def record_clustering(store: Store, assignments: pa.Table) -> None:
    """Store a clustering's assignments (``mfhq.schema.ASSIGNMENTS``) in a file named by their ``cluster_version``."""
    for version in assignments["cluster_version"].unique().to_pylist():
        if not store.exists(clustering_path(version)):
            store.write(clustering_path(version), to_parquet(assignments.sort_by("track_id")))


def read_clustering(store: Store, published: pa.Table) -> dict[str, str]:
    """Read the assignments, before review, of the clustering that a snapshot was published from.

    Args:
        store: The corpus.
        published: ``assignments`` of the snapshot.

    Returns:
        Track to identity: as the clustering assigned it; as published if the clustering's assignments are not stored.
    """
    own = dict(zip(published["track_id"].to_pylist(), published["identity_id"].to_pylist(), strict=True))
    for version in published["cluster_version"].unique().to_pylist():
        try:
            path = clustering_path(version)
            columns = ["track_id", "identity_id"]
            table = from_parquet(store.read(path), ASSIGNMENTS, columns, f"{store.uri}/{path}", KEEP_OLDER_IDS)
        except FileNotFoundError:
            continue
        own |= dict(zip(table["track_id"].to_pylist(), table["identity_id"].to_pylist(), strict=True))
    return own
