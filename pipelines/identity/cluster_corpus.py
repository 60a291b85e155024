"""Clustering of a corpus, of all tracks anew or of the new tracks only; the result is stored in the corpus."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mfhq.catalog import Catalog
from mfhq.ids import N_SHARDS, digest, shard_of
from mfhq.schema import ALIASES
from mfhq.store import Store
from mfhq.takedowns import DenyList, read_deny_list
from pipelines.engine.commits import locate_step, read_family_markers, read_step
from pipelines.identity.aliases import extend_aliases
from pipelines.identity.assign import Clustering, assign_tracks, assignment_rows
from pipelines.identity.clustering_store import (
    SPANS,
    ClusteringRequest,
    StoredClustering,
    newest_clustering,
    read_clustering,
    record_clustering,
    store_clustering,
    sums_table,
)
from pipelines.identity.config import ClusterConfig
from pipelines.identity.constraints import TrackSpans
from pipelines.identity.gather import COLUMNS, Tracks, gather_tracks, join_tracks
from pipelines.identity.incremental import MAX_NEW_TRACKS, People, join_new, sum_people
from pipelines.identity.linkage import EXACT, BlockSearch
from pipelines.identity.stable_ids import new_id
from pipelines.identity.vector_lists import lists_to_vectors

log = logging.getLogger(__name__)

STEPS = tuple(COLUMNS)


def cluster_corpus(
    store: Store,
    fingerprints: Mapping[str, str],
    config: ClusterConfig,
    *,
    full: bool = False,
    search: BlockSearch | None = None,
) -> Clustering:
    """Assign all mined tracks to people, before review, and store the result.

    If nothing was mined since the last clustering, its stored result is returned. In a corpus of more than ``EXACT``
    tracks, up to ``MAX_NEW_TRACKS`` new tracks join the known people. Otherwise all tracks are clustered anew. In every
    case people keep their ids.

    Args:
        store: The corpus.
        fingerprints: Fingerprint of each of ``STEPS``.
        config: Settings.
        full: True clusters all tracks anew in any case.
        search: Function that searches the blocks of a large corpus; by default ``linkage.search_blocks``.

    Raises:
        EmbeddingError: The embeddings are invalid, or of several models.
        StoreError: A step has not run, or the corpus cannot be read or written.
    """
    parts = {
        path: marker.sha256
        for step in STEPS
        for path, marker in read_family_markers(store, locate_step(store, step, fingerprints[step])).items()
    }
    last, denied = newest_clustering(store), read_deny_list(store)
    request = ClusteringRequest(asdict(config), parts, [takedown.takedown_id for takedown in denied.takedowns])
    if last is not None and not full and last.is_continued_by(request):
        if last.request.parts == parts:
            return _read(store, last)
        if last.tracks > EXACT:
            fresh = _gather_new(store, fingerprints, config, set(parts) - set(last.request.parts), denied)
            places = last.table(store, "places")
            if (
                len(fresh) <= MAX_NEW_TRACKS
                and not pc.any(pc.is_in(places["track_id"], pa.array(fresh.track_id))).as_py()
            ):
                return _join(store, last, places, fresh, config, request)
    tracks, before = gather_corpus(store, fingerprints, config, denied), _previous_identities(store, last, denied)
    return _cluster_anew(store, *before, tracks, config, request, search)


def gather_corpus(store: Store, fingerprints: Mapping[str, str], config: ClusterConfig, denied: DenyList) -> Tracks:
    """Gather all tracks of a corpus that are good enough to be clustered, one logical shard after the other.

    Args:
        store: The corpus.
        fingerprints: Fingerprint of each of ``STEPS``.
        config: Settings.
        denied: Take-downs whose tracks are left out.
    """
    found = []
    for shard in range(N_SHARDS):
        tracked, scored, embedded = (
            denied.prune(read_step(store, step, fingerprints[step], columns=COLUMNS[step], shard=shard))
            for step in STEPS
        )
        if embedded.num_rows:
            found.append(gather_tracks(tracked, scored, embedded, config))
    return join_tracks(found)


def _gather_new(
    store: Store, fingerprints: Mapping[str, str], config: ClusterConfig, parts: set[str], denied: DenyList
) -> Tracks:
    """Gather the tracks of the videos whose embeddings are in these parts.

    If another step's output for such a video is in an earlier part, the video's complete shard of it is read.
    """
    tables = {step: read_step(store, step, fingerprints[step], columns=COLUMNS[step], parts=parts) for step in STEPS}
    videos = set(tables["embeddings"]["video_id"].to_pylist())
    for step in STEPS[:-1]:
        lacking = sorted({shard_of(video) for video in videos - set(tables[step]["video_id"].to_pylist())})
        more = [read_step(store, step, fingerprints[step], columns=COLUMNS[step], shard=shard) for shard in lacking]
        earlier = pa.concat_tables([tables[step], *more])
        rows = dict(zip(earlier["video_id"].to_pylist(), range(earlier.num_rows), strict=True))
        tables[step] = earlier.take(pa.array([rows[video] for video in sorted(videos & set(rows))], pa.int64()))
    tracked, scored, embedded = (denied.prune(tables[step]) for step in STEPS)
    return gather_tracks(tracked, scored, embedded, config)


def _cluster_anew(
    store: Store,
    before: Mapping[str, str],
    aliases: pa.Table,
    tracks: Tracks,
    config: ClusterConfig,
    request: ClusteringRequest,
    search: BlockSearch | None,
) -> Clustering:
    clustering = assign_tracks(tracks, config, before, aliases["identity_id"].to_pylist(), search)
    identities, label = np.unique(_strings(clustering.assignments, "identity_id"), return_inverse=True)
    people = sum_people(tracks.vectors, label)
    tables = {
        "assignments": clustering.assignments,
        "aliases": extend_aliases(aliases, clustering.aliases, clustering.assignments),
        "places": _spans_table(tracks),
        "sums": sums_table(identities.astype(object), people.sums, people.sizes),
        "embeddings": clustering.track_embeddings,
    }
    stored = store_clustering(store, clustering.version, tracks.model, request, tables)
    record_clustering(store, tables["assignments"])
    log.info("clustered %d tracks anew: %d people", stored.tracks, stored.identities)
    return Clustering(clustering.version, tables["assignments"], tables["aliases"], tables["embeddings"])


def _join(
    store: Store,
    last: StoredClustering,
    places: pa.Table,
    fresh: Tracks,
    config: ClusterConfig,
    request: ClusteringRequest,
) -> Clustering:
    """Let new tracks join the people of the last clustering."""
    before, sums, aliases = (last.table(store, name) for name in ("assignments", "sums", "aliases"))
    identities = _strings(sums, "identity_id")
    people = People(
        np.arange(len(identities)),
        lists_to_vectors(sums, "sum", np.float32),
        sums["n_tracks"].to_numpy().copy(),
    )
    if len(fresh):
        join_tracks([fresh, _empty_track_of(fresh, last.model, people.sums.shape[1])])
    label = np.searchsorted(identities.astype(str), _strings(before, "identity_id").astype(str))
    n = len(label)
    found = join_new(people, label, fresh.vectors, _joint_spans(places, fresh), config.threshold, config.same_picture)[
        n:
    ]
    used = {*identities.tolist(), *aliases["identity_id"].to_pylist()}
    names = {row: new_id(fresh.track_id[row - n], used) for row in np.unique(found[found >= n]).tolist()}
    identity = np.asarray([names[row] if row >= n else identities[row] for row in found.tolist()], object)
    everybody, size = np.concatenate([identities, np.asarray(list(names.values()), object)]), people.sums.shape[1]
    row_of = {name: row for row, name in enumerate(everybody.tolist())}
    rows = np.asarray([row_of[name] for name in identity.tolist()], np.int64)
    all_sums = np.concatenate([people.sums, np.zeros((len(names), size), np.float32)])
    all_sizes = np.concatenate([people.sizes, np.zeros(len(names), np.int64)])
    np.add.at(all_sums, rows, fresh.vectors)
    np.add.at(all_sizes, rows, 1)
    toward = all_sums[rows] / np.maximum(np.linalg.norm(all_sums[rows], axis=1, keepdims=True), 1e-9)
    similarity = np.round((fresh.vectors * toward).sum(axis=1), 4)
    version = digest([last.version, asdict(config), fresh.model, dict(zip(fresh.track_id, identity, strict=True))], 16)
    added = assignment_rows(fresh.track_id, identity, similarity, version)
    tables = {
        "assignments": pa.concat_tables([before, added]),
        "aliases": aliases,
        "places": pa.concat_tables([places, _spans_table(fresh)]),
        "sums": sums_table(everybody, all_sums, all_sizes),
        "embeddings": fresh.embeddings(),
    }
    earlier, joined = last.tables["embeddings"], last.joined + len(fresh)
    stored = store_clustering(store, version, last.model, request, tables, earlier, joined)
    record_clustering(store, added)
    log.info("%d tracks joined: %d people now", len(fresh), stored.identities)
    return _read(store, stored)


def _read(store: Store, stored: StoredClustering) -> Clustering:
    return Clustering(stored.version, *(stored.table(store, name) for name in ("assignments", "aliases", "embeddings")))


def _previous_identities(
    store: Store, last: StoredClustering | None, denied: DenyList
) -> tuple[dict[str, str], pa.Table]:
    """Return (track to identity, aliases) of the last clustering; if none is stored, of the newest snapshot."""
    if last is not None:
        rows, aliases = (denied.prune(last.table(store, name)) for name in ("assignments", "aliases"))
        return dict(zip(rows["track_id"].to_pylist(), rows["identity_id"].to_pylist(), strict=True)), aliases
    if not Catalog(store).versions():
        return {}, ALIASES.empty_table()
    newest = Catalog(store).open()
    return read_clustering(store, newest.table("assignments")), newest.table("aliases")


def _spans_table(tracks: Tracks) -> pa.Table:
    columns: Sequence[object] = (tracks.track_id, tracks.video_id, tracks.start, tracks.end)
    return pa.table([pa.array(values, f.type) for values, f in zip(columns, SPANS, strict=True)], schema=SPANS)


def _joint_spans(places: pa.Table, fresh: Tracks) -> TrackSpans:
    """Return the frame ranges of the old tracks, followed by those of the new tracks."""
    videos = pa.concat_arrays([places["video_id"].combine_chunks(), pa.array(fresh.video_id, pa.string())])
    return TrackSpans(
        videos.dictionary_encode().indices.to_numpy().astype(np.int64),
        np.concatenate([places["start_frame"].to_numpy(), fresh.start]),
        np.concatenate([places["end_frame"].to_numpy(), fresh.end]),
        np.concatenate([np.full(places.num_rows, None, object), fresh.poses]),
    )


def _empty_track_of(fresh: Tracks, model: str, width: int) -> Tracks:
    """Return a dummy track of the corpus's model; joining it to the new tracks raises an error if the models differ."""
    return Tracks(
        fresh.track_id[:1],
        fresh.video_id[:1],
        fresh.start[:1],
        fresh.end[:1],
        np.zeros((1, width), np.float32),
        fresh.poses[:1],
        model,
    )


def _strings(table: pa.Table, name: str) -> np.ndarray:
    return np.asarray(table[name].to_pylist(), object)
