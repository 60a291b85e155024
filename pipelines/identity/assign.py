"""Cluster the tracks of a corpus: from one embedding a track to the rows of ``assignments``."""

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
from pipelines.identity.incremental import People, people_of
from pipelines.identity.linkage import BlockSearch, cluster_rows, counted
from pipelines.identity.stable_ids import Alias, stable_identities


@dataclass(frozen=True)
class Clustering:
    """What a clustering says."""

    version: str
    """Digest of the settings and of who is who: the ``cluster_version`` of its rows."""
    assignments: pa.Table
    """``mfhq.schema.ASSIGNMENTS``; tracks that were not good enough to cluster are not in it."""
    aliases: pa.Table
    """``mfhq.schema.ALIASES``."""
    track_embeddings: pa.Table
    """``mfhq.schema.EMBEDDINGS``: each clustered track's mean (face_id is empty). Biometric data."""


def assign_identities(
    tracked: pa.Table,
    scored: pa.Table,
    embedded: pa.Table,
    config: ClusterConfig,
    previous: Mapping[str, str] | None = None,
    retired: Collection[str] = (),
) -> Clustering:
    """Who is who, among all tracks of the steps' outputs (``TRACKED``, crops not needed; ``SCORED``; ``EMBEDDED``).

    See ``assign_tracks``. The same rows in another order give the same result.
    """
    return assign_tracks(gather_tracks(tracked, scored, embedded, config), config, previous or {}, retired)


def assign_tracks(
    tracks: Tracks,
    config: ClusterConfig,
    previous: Mapping[str, str],
    retired: Collection[str] = (),
    search: BlockSearch | None = None,
) -> Clustering:
    """Who is who, all tracks clustered anew.

    ``previous`` maps track to identity in the clustering before, ``retired`` are ids that aliases stand for: identity
    ids survive where the people do (``stable_identities``). ``search`` runs the blocks of a large corpus.
    """
    label = counted(cluster_rows(tracks.vectors, tracks.seen, config.threshold, config.same_picture, search))
    who, aliases = stable_identities(label.tolist(), tracks.track_id.tolist(), previous, retired)
    similarity = similarities(tracks.vectors, label, people_of(tracks.vectors, label))
    identity = np.asarray([who[track] for track in tracks.track_id], object)
    version = version_of(config, tracks.model, tracks.track_id, identity)
    return Clustering(
        version,
        assignment_rows(tracks.track_id, identity, similarity, version),
        alias_rows(aliases, version),
        tracks.embeddings(),
    )


def version_of(
    config: ClusterConfig, model: str, track_id: npt.NDArray[np.object_], identity: npt.NDArray[np.object_]
) -> str:
    """The digest of the settings and of who is who."""
    return digest([asdict(config), model, dict(zip(track_id.tolist(), identity.tolist(), strict=True))], 16)


def assignment_rows(
    track_id: npt.NDArray[np.object_],
    identity: npt.NDArray[np.object_],
    similarity: npt.NDArray[np.float64],
    version: str,
) -> pa.Table:
    """``mfhq.schema.ASSIGNMENTS`` of a clustering."""
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
    """``mfhq.schema.ALIASES`` of a clustering."""
    return pa.Table.from_pylist([asdict(alias) | {"cluster_version": version} for alias in aliases], schema=ALIASES)


def similarities(vectors: Vectors, label: Integers, people: People) -> npt.NDArray[np.float64]:
    """(N,) cosine similarity of each track (N, D) to the mean direction of its person, to four decimals."""
    row = np.searchsorted(people.label, label)
    found = np.empty(len(label))
    for at in range(0, len(label), 65_536):
        sums = people.sums[row[at : at + 65_536]].astype(np.float64)
        dot = np.einsum("nd,nd->n", vectors[at : at + 65_536], sums)
        found[at : at + 65_536] = dot / np.maximum(np.linalg.norm(sums, axis=1), 1e-9)
    return np.round(found, 4)
