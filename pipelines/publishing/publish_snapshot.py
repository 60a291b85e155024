"""Publication of a mined corpus: from the steps' outputs and a clustering to a snapshot."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from mfhq.catalog import Catalog
from mfhq.corpus_tables import read_attempts
from mfhq.ids import digest
from mfhq.schema import ALIASES, EMBEDDINGS, REJECTED
from mfhq.store import Store
from mfhq.takedowns import DenyList, read_deny_list
from pipelines.engine.commits import read_step
from pipelines.engine.sources import first_of_each, recorded_sources
from pipelines.identity.aliases import extend_aliases
from pipelines.mining.digests import drop_superseded_failures
from pipelines.mining.schemas import SOURCES
from pipelines.publishing.diversity import diversity_table
from pipelines.publishing.face_selection import identity_faces_table
from pipelines.publishing.funnel import funnel_table
from pipelines.publishing.identities import identities_table, select_assignments
from pipelines.publishing.publish_presets import SMALL, Preset
from pipelines.publishing.publish_tables import SnapshotRef, publish_tables
from pipelines.publishing.reasons import TAKEN_DOWN
from pipelines.publishing.thresholds import (
    apply_to_faces,
    apply_to_tracks,
    apply_to_videos,
    apply_where,
    set_status,
)
from pipelines.publishing.unnest import STEPS, face_embeddings, faces_table, shots_table, tracks_table, videos_table


def mined_tables(
    store: Store, fingerprints: Mapping[str, str], preset: Preset = SMALL, where: str = ""
) -> dict[str, pa.Table]:
    """Read the mined tables and apply the preset's thresholds; nothing is written.

    Args:
        store: The corpus.
        fingerprints: Step name to fingerprint, for each of ``unnest.STEPS``.
        preset: The thresholds.
        where: Additional SQL condition on the faces (``thresholds.apply_where``); empty for none.

    Returns:
        The tables videos, shots, tracks, faces and embeddings, by name.

    Raises:
        CatalogError: DuckDB refuses the condition.
        StoreError: A step has not run under its fingerprint.
    """
    denied = read_deny_list(store)
    outputs = {step: denied.prune(read_step(store, step, fingerprints[step])) for step in STEPS}
    sources = denied.prune(first_of_each(drop_superseded_failures(recorded_sources(store, SOURCES)), "video_id"))
    tables = build_tables(outputs, sources, preset, where)
    if denied.frozen:
        tables["videos"] = _mark_taken_down(tables["videos"], denied)
    return tables


def _mark_taken_down(videos: pa.Table, denied: DenyList) -> pa.Table:
    """Reject, as ``taken_down``, the unfinished videos whose mining a take-down stopped."""
    status, reason = videos["status"].to_pylist(), videos["reason"].to_pylist()
    for row, (video, code) in enumerate(zip(videos["video_id"].to_pylist(), list(reason), strict=True)):
        if code == "not_finished" and denied.blocks_mining(video):
            status[row], reason[row] = REJECTED, TAKEN_DOWN
    return set_status(videos, status, reason)


def build_tables(
    outputs: Mapping[str, pa.Table], sources: pa.Table, preset: Preset, where: str = ""
) -> dict[str, pa.Table]:
    """Build the tables of ``mined_tables`` from the steps' outputs; a pure function.

    Args:
        outputs: Step name to the step's output, with images as references.
        sources: ``mining.schemas.SOURCES`` rows, one per video.
        preset: The thresholds.
        where: SQL condition on the faces; empty for none.
    """
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


def publish_snapshot(
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
    """Publish the steps' outputs under these fingerprints, unless the latest snapshot has the same content.

    Args:
        store: The corpus.
        fingerprints: Step name to fingerprint, for each of ``unnest.STEPS`` (``engine.state.fingerprints``).
        assignments: Track to person (``mfhq.schema.ASSIGNMENTS``); tracks that the preset rejects are left out.
        preset: The thresholds.
        track_embeddings: Vectors from which the tracks were clustered (``Clustering.track_embeddings``), published
            together with the faces' vectors. ``identities.cohesion`` is computed from them, and null without them.
        aliases: Aliases of this clustering, which are added to those of the previous snapshot.
        decisions: The table of this name, published unchanged; by default that of the previous snapshot.
        takedowns: The table of this name, published unchanged; by default the take-downs on record.
        run_id: The tracking run, for the manifest.
        tables: Result of ``mined_tables`` for the same arguments, if it has been read already.
        where: Additional SQL condition on the faces (``mined_tables``); it is recorded in the manifest.

    Raises:
        AuditError: The snapshot would not be consistent.
        StoreError: A step has not run, or the corpus cannot be read or written.
    """
    snapshot = dict(tables or mined_tables(store, fingerprints, preset, where))
    assigned = select_assignments(assignments, snapshot["tracks"])
    identity_of = dict(zip(assigned["track_id"].to_pylist(), assigned["identity_id"].to_pylist(), strict=True))
    chosen = identity_faces_table(snapshot["faces"], identity_of, preset)
    means = track_embeddings if track_embeddings is not None else EMBEDDINGS.empty_table()
    if aliases is not None:
        catalog = Catalog(store)
        previous = catalog.open().table("aliases") if catalog.versions() else ALIASES.empty_table()
        snapshot["aliases"] = extend_aliases(previous, aliases, assigned)
    optional = (("decisions", decisions), ("takedowns", takedowns))
    snapshot |= {name: table for name, table in optional if table is not None}
    snapshot |= {
        "embeddings": pa.concat_tables([snapshot["embeddings"], means.cast(EMBEDDINGS)]),
        "assignments": assigned,
        "identity_faces": chosen,
        "identities": identities_table(assigned, snapshot["tracks"], means, chosen, preset),
        "diversity": diversity_table(snapshot["faces"], identity_of, chosen),
    }
    step_fingerprints = {step: fingerprints[step] for step in STEPS}
    snapshot["funnel"] = funnel_table(snapshot, read_attempts(store), step_fingerprints, preset)
    about = {
        "preset": preset.to_dict(),
        "fingerprints": step_fingerprints,
        "clustering": digest(sorted(set(assigned["cluster_version"].to_pylist())), 16),
        **({"where": where} if where else {}),
    }
    return publish_tables(store, snapshot, run_id=run_id, about=about)
