"""Corpus of drawn tracks in the form that mining writes, and its clustering by the code of ``ffavatar cluster``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from infra.storage import open_store
from mfhq.ids import digest, shard_of
from mfhq.store import Store
from pipelines.engine.commits import BlobFile, commit_part, describe_step
from pipelines.engine.state import bind_steps, fingerprints
from pipelines.identity.cluster_corpus import cluster_corpus
from pipelines.identity.clustering_store import newest_clustering
from pipelines.identity.config import ClusterConfig
from pipelines.mining.steps import AFTER, mining_steps

Columns = Mapping[str, npt.NDArray[Any]]


def fill_corpus(uri: str, tracks: Columns, start: int, stop: int) -> None:
    """Commit the steps' outputs for a range of tracks; each track has one face and no images.

    Args:
        uri: URI of the corpus.
        tracks: Columns ``vectors`` (N, D), ``video``, ``start`` and ``end`` (N,).
        start: First row of the range; the videos' ids depend on it, so calls with other ranges make other videos.
        stop: One past the last row of the range.
    """
    store, rows = open_store(uri), np.arange(start, stop)
    videos, which = np.unique(tracks["video"][rows], return_inverse=True)
    ids = [digest(["drawn", start, video], 64) for video in videos.tolist()]
    shards = np.asarray([shard_of(video) for video in ids])
    order = np.lexsort((rows, which, shards[which]))
    for shard in np.unique(shards).tolist():
        own = order[shards[which[order]] == shard]
        _commit(store, shard, start, [ids[video] for video in which[own].tolist()], rows[own], tracks)


def cluster_files(uri: str, threshold: float) -> tuple[float, int, npt.NDArray[np.int64]]:
    """Cluster the corpus.

    Args:
        uri: URI of the corpus.
        threshold: Cosine distance within a person.

    Returns:
        Seconds, the number of tracks that were added since the last clustering of all tracks, and (N,) labels by row.
    """
    store, config = open_store(uri), ClusterConfig(threshold=threshold)
    began = time.perf_counter()
    clustering = cluster_corpus(store, fingerprints(mining_steps(), AFTER), config)
    seconds, stored = time.perf_counter() - began, newest_clustering(store)
    row = np.asarray([int(track) for track in clustering.assignments["track_id"].to_pylist()])
    label = np.empty(len(row), np.int64)
    label[row] = pc.rank(clustering.assignments["identity_id"], tiebreaker="dense").to_numpy()
    return seconds, stored.joined if stored else 0, label


def _commit(
    store: Store, shard: int, part: int, videos: list[str], rows: npt.NDArray[np.int64], tracks: Columns
) -> None:
    """Commit one part of each step; ``rows`` must list the rows of a video one after the other."""
    keys = list(dict.fromkeys(videos))
    counts = np.asarray([*Counter(videos).values()])
    names = [f"{row:012d}" for row in rows.tolist()]
    faces = {
        "face_id": names,
        "track_id": names,
        "x1": 100.0,
        "x0": 0.0,
        "score": 0.9,
        "sharpness": 100.0,
        "status": "ok",
    }
    vectors = np.ascontiguousarray(tracks["vectors"][rows], np.float32)
    values: dict[str, dict[str, Any]] = {
        "tracks": {
            "track_id": names,
            "start_frame": tracks["start"][rows],
            "end_frame": tracks["end"][rows],
            "n_faces": 3,
            "status": "ok",
            "faces": faces,
        },
        "scores": {"face_id": names},
        "embeddings": {
            "track_id": names,
            "face_id": names,
            "vector": equal_lists(pa.array(vectors.ravel()), vectors.shape[1]),
        },
    }
    for b in bind_steps(mining_steps(), AFTER):
        if b.step.name not in values:
            continue
        describe_step(store, b.location, b.step, b.upstream.name if b.upstream else "")
        nested = "tracks" if b.step.name == "tracks" else "faces"
        items = build_structs(b.location.stored_schema.field(nested).type.value_type, values[b.step.name], len(rows))
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
        columns = {
            b.step.key: keys,
            "status": "ok",
            "model": "drawn",
            "_attempt": 1,
            nested: pa.ListArray.from_arrays(offsets, items),
        }
        table = build_structs(pa.struct(list(b.location.stored_schema)), columns, len(keys))
        commit_part(store, b.location, shard, part, pa.Table.from_struct_array(table), BlobFile(), [], "bench")


def equal_lists(values: pa.Array, each: int) -> pa.Array:
    """Return the values as lists of equal length.

    Args:
        values: N × ``each`` values.
        each: Length of a list.
    """
    return pa.ListArray.from_arrays(pa.array(np.arange(0, len(values) + 1, each), pa.int32()), values)


def build_structs(kind: pa.DataType, values: Mapping[str, Any], n: int) -> pa.Array:
    """Build an array of n structs of the type ``kind``.

    For each field, ``values`` has one value, n values, or a dictionary that is built as n lists of one struct each. A
    field without a value is null, or empty if it is not nullable.
    """
    arrays = []
    for f in kind:
        value = values.get(f.name)
        if isinstance(value, dict):
            arrays.append(equal_lists(build_structs(f.type.value_type, value, n), 1).cast(f.type))
        elif isinstance(value, pa.Array):
            arrays.append(value.cast(f.type))
        elif isinstance(value, (list, np.ndarray)):
            arrays.append(pa.array(np.asarray(value).astype(str) if f.type == pa.string() else value).cast(f.type))
        elif value is None and f.nullable:
            arrays.append(pa.nulls(n, f.type))
        else:
            arrays.append(pa.repeat(pa.scalar(_empty_value(f.type) if value is None else value, f.type), n))
    return pa.StructArray.from_arrays(arrays, fields=list(kind))


def _empty_value(kind: pa.DataType) -> Any:
    if pa.types.is_struct(kind):
        return {}
    if pa.types.is_fixed_size_list(kind):
        return [0.0] * kind.list_size
    return "" if pa.types.is_string(kind) else 0
