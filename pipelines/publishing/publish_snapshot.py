"""From the mining steps' outputs and a clustering to a snapshot: unnest, threshold, choose, count, commit."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from mfhq.catalog import Catalog
from mfhq.ids import digest
from mfhq.live import read_attempts
from mfhq.schema import ALIASES, EMBEDDINGS, REJECTED
from mfhq.store import Store
from mfhq.takedowns import Denied, denied_by_all
from pipelines.engine.commits import read_step
from pipelines.engine.sources import first_of_each, recorded_sources
from pipelines.mining.digests import reached
from pipelines.mining.schemas import SOURCES
from pipelines.publishing.diversity import diversity_table
from pipelines.publishing.face_selection import identity_faces
from pipelines.publishing.funnel import funnel_table
from pipelines.publishing.identities import aliases_so_far, identities_table, kept_assignments
from pipelines.publishing.publish_presets import SMALL, Preset
from pipelines.publishing.publish_tables import SnapshotRef, publish_tables
from pipelines.publishing.reasons import TAKEN_DOWN
from pipelines.publishing.thresholds import (
    apply_to_faces,
    apply_to_tracks,
    apply_to_videos,
    apply_where,
    with_status,
)
from pipelines.publishing.unnest import STEPS, face_embeddings, faces_table, shots_table, tracks_table, videos_table


def mined_tables(
    store: Store, fingerprints: Mapping[str, str], preset: Preset = SMALL, where: str = ""
) -> dict[str, pa.Table]:
    """videos, shots, tracks, faces and embeddings of what was mined, after the preset's thresholds.

    ``where`` is an SQL condition that the faces have to meet besides (``thresholds.apply_where``). Nothing is written.

    Raises:
        CatalogError: DuckDB refuses the condition.
        StoreError: a step has not run under its fingerprint.
    """
    denied = denied_by_all(store)
    outputs = {step: denied.without(read_step(store, step, fingerprints[step])) for step in STEPS}
    sources = denied.without(first_of_each(reached(recorded_sources(store, SOURCES)), "video_id"))
    cut = cut_tables(outputs, sources, preset, where)
    return {**cut, "videos": _left_as_they_are(cut["videos"], denied)} if denied.frozen else cut


def _left_as_they_are(videos: pa.Table, denied: Denied) -> pa.Table:
    """``videos``, with the reason of those that are not mined any further since somebody in them was taken down."""
    status, reason = videos["status"].to_pylist(), videos["reason"].to_pylist()
    for row, (video, why) in enumerate(zip(videos["video_id"].to_pylist(), list(reason), strict=True)):
        if why == "not_finished" and denied.is_mined_no_more(video):
            status[row], reason[row] = REJECTED, TAKEN_DOWN
    return with_status(videos, status, reason)


def cut_tables(
    outputs: Mapping[str, pa.Table], sources: pa.Table, preset: Preset, where: str = ""
) -> dict[str, pa.Table]:
    """``mined_tables`` from the steps' outputs (pictures as references); pure."""
    faces = apply_to_faces(faces_table(outputs), preset)
    videos = videos_table(sources, outputs)
    faces = apply_where(faces, videos, where) if where else faces
    tracks = apply_to_tracks(tracks_table(outputs), faces, preset)
    return {
        "videos": apply_to_videos(videos, tracks),
        "shots": shots_table(outputs),
        "tracks": tracks,
        "faces": faces,
        "embeddings": face_embeddings(outputs),
    }


def publish(
    store: Store,
    fingerprints: Mapping[str, str],
    assignments: pa.Table,
    preset: Preset = SMALL,
    *,
    track_embeddings: pa.Table | None = None,
    aliases: pa.Table | None = None,
    decisions: pa.Table | None = None,
    takedowns: pa.Table | None = None,
    run_id: str = "",
    tables: Mapping[str, pa.Table] | None = None,
    where: str = "",
) -> SnapshotRef:
    """Publish what was mined under these fingerprints, with people as assigned. The same content is published once.

    Args:
        store: the corpus.
        fingerprints: step to fingerprint, for each of ``unnest.STEPS`` (``pipelines.engine.state.fingerprints`` gives them).
        assignments: track to person (``mfhq.schema.ASSIGNMENTS``); tracks that the preset rejects are left out.
        preset: the thresholds.
        track_embeddings: what the tracks were clustered by (``Clustering.track_embeddings``), published beside those
            of the faces. ``identities.cohesion`` is made from them, and null without.
        aliases: those of this clustering; they join those of the snapshot before.
        decisions, takedowns: published as they are; by default those of the snapshot before.
        run_id: the tracking run, for the manifest.
        tables: what ``mined_tables`` gave for the same arguments, to save reading it again.
        where: an SQL condition that faces have to meet besides (``mined_tables``); it stands in the manifest.

    Raises:
        AuditError: the result would not hold together.
        StoreError: a step has not run, or the corpus can't be read or written.
    """
    cut = dict(tables or mined_tables(store, fingerprints, preset, where))
    kept = kept_assignments(assignments, cut["tracks"])
    identity_of = dict(zip(kept["track_id"].to_pylist(), kept["identity_id"].to_pylist(), strict=True))
    chosen = identity_faces(cut["faces"], identity_of, preset)
    means = track_embeddings if track_embeddings is not None else EMBEDDINGS.empty_table()
    if aliases is not None:
        cut["aliases"] = aliases_so_far(_latest_aliases(store), aliases, kept)
    cut |= {name: table for name, table in (("decisions", decisions), ("takedowns", takedowns)) if table is not None}
    cut |= {
        "embeddings": pa.concat_tables([cut["embeddings"], means.cast(EMBEDDINGS)]),
        "assignments": kept,
        "identity_faces": chosen,
        "identities": identities_table(kept, cut["tracks"], means, chosen, preset),
        "diversity": diversity_table(cut["faces"], identity_of, chosen),
    }
    cut["funnel"] = funnel_table(cut, read_attempts(store), {step: fingerprints[step] for step in STEPS}, preset)
    about = {
        "preset": preset.to_dict(),
        "fingerprints": {step: fingerprints[step] for step in STEPS},
        "clustering": digest(sorted(set(kept["cluster_version"].to_pylist())), 16),
        **({"where": where} if where else {}),
    }
    return publish_tables(store, cut, run_id=run_id, about=about)


def _latest_aliases(store: Store) -> pa.Table:
    catalog = Catalog(store)
    return catalog.open().table("aliases") if catalog.versions() else ALIASES.empty_table()
