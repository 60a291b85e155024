"""Assignment of tracks to people: from one embedding per track to the rows of ``assignments``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mfhq.ids import digest
from mfhq.schema import ALIASES, ASSIGNMENTS
from pipelines.identity.config import ClusterConfig
from pipelines.identity.constraints import Integers, Vectors
from pipelines.identity.gather import Tracks, gather_tracks
from pipelines.identity.incremental import People, sum_people
from pipelines.identity.linkage import BlockSearch, cluster_rows, number_labels
from pipelines.identity.stable_ids import Alias, stable_identities


@dataclass(frozen=True)
class Clustering:
    """Result of a clustering: its assignments and aliases."""

    version: str
    """Digest of the settings and of each track's person, stored in the column ``cluster_version``."""
    assignments: pa.Table
    """Rows of ``mfhq.schema.ASSIGNMENTS``, without the tracks that were not good enough to be clustered."""
    aliases: pa.Table
    """Rows of ``mfhq.schema.ALIASES``."""
    track_embeddings: pa.Table
    """Rows of ``mfhq.schema.EMBEDDINGS``: each clustered track's mean (face_id is empty). Biometric data."""


def assign_identities(
    tracked: pa.Table,
    scored: pa.Table,
    embedded: pa.Table,
    config: ClusterConfig,
    previous: Mapping[str, str] | None = None,
    retired: Collection[str] = (),
) -> Clustering:
    """Assign all tracks of the steps' outputs to people.

    The same rows in another order give the same result.

    Args:
        tracked: Rows of ``TRACKED``; crops are not needed.
        scored: Rows of ``SCORED``.
        embedded: Rows of ``EMBEDDED``.
        config: Settings.
        previous: Track to identity in the previous clustering.
        retired: Ids that have become aliases, which no new person gets.
    """
    return assign_tracks(gather_tracks(tracked, scored, embedded, config), config, previous or {}, retired)


def assign_tracks(
    tracks: Tracks,
    config: ClusterConfig,
    previous: Mapping[str, str],
    retired: Collection[str] = (),
    search: BlockSearch | None = None,
) -> Clustering:
    """Assign tracks to people by clustering all of them anew.

    Args:
        tracks: The tracks.
        config: Settings.
        previous: Track to identity in the previous clustering; people who are found again keep their ids
            (``stable_identities``).
        retired: Ids that have become aliases, which no new person gets.
        search: Function that searches the blocks of a large corpus; by default ``linkage.search_blocks``.
    """
    label = number_labels(cluster_rows(tracks.vectors, tracks.spans, config.threshold, config.same_picture, search))
    who, aliases = stable_identities(label.tolist(), tracks.track_id.tolist(), previous, retired)
    similarity = similarities_to_people(tracks.vectors, label, sum_people(tracks.vectors, label))
    identity = np.asarray([who[track] for track in tracks.track_id], object)
    version = clustering_version(config, tracks.model, tracks.track_id, identity)
    return Clustering(
        version,
        assignment_rows(tracks.track_id, identity, similarity, version),
        alias_rows(aliases, version),
        tracks.embeddings(),
    )


def clustering_version(
    config: ClusterConfig, model: str, track_id: npt.NDArray[np.object_], identity: npt.NDArray[np.object_]
) -> str:
    """Return the digest of the settings and of each track's person."""
    return digest([asdict(config), model, dict(zip(track_id.tolist(), identity.tolist(), strict=True))], 16)


def assignment_rows(
    track_id: npt.NDArray[np.object_],
    identity: npt.NDArray[np.object_],
    similarity: npt.NDArray[np.float64],
    version: str,
) -> pa.Table:
    """Return the rows of ``mfhq.schema.ASSIGNMENTS`` of a clustering.

    Args:
        track_id: (N,) ids of the tracks.
        identity: (N,) ids of their people.
        similarity: (N,) cosine similarity of each track to its person.
        version: The clustering's version.
    """
    n = len(track_id)
    columns = {
        "track_id": pa.array(track_id, pa.string()),
        "identity_id": pa.array(identity, pa.string()),
        "cluster_version": pa.array([version] * n, pa.string()),
        "similarity": pa.array(similarity.astype(np.float32)),
        "source": pa.array(["clustering"] * n, pa.string()),
    }
    return pa.table(columns, schema=ASSIGNMENTS)


def alias_rows(aliases: Collection[Alias], version: str) -> pa.Table:
    """Return the rows of ``mfhq.schema.ALIASES`` of a clustering."""
    return pa.Table.from_pylist([asdict(alias) | {"cluster_version": version} for alias in aliases], schema=ALIASES)


def similarities_to_people(vectors: Vectors, label: Integers, people: People) -> npt.NDArray[np.float64]:
    """Compare each track with its person.

    Args:
        vectors: (N, D) unit vectors of the tracks.
        label: (N,) label of each track's person.
        people: The people.

    Returns:
        (N,) cosine similarity of each track to the mean direction of its person, to four decimals.
    """
    row = np.searchsorted(people.label, label)
    found = np.empty(len(label))
    for at in range(0, len(label), 65_536):
        sums = people.sums[row[at : at + 65_536]].astype(np.float64)
        dot = np.einsum("nd,nd->n", vectors[at : at + 65_536], sums)
        found[at : at + 65_536] = dot / np.maximum(np.linalg.norm(sums, axis=1), 1e-9)
    return np.round(found, 4)
