"""Publication of a mined corpus: from the steps' outputs and a clustering to a snapshot.

Nothing is read as a whole. The videos are published in segments (``segments``), a chunk of some ten thousand faces at a
time; what the same parts gave before is used again. The people are made block by block from the files so written, and
the audits and the funnel are queries on them. So the memory does not grow with the corpus, but for its clustering.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from mfhq.catalog import Catalog
from mfhq.ids import digest
from mfhq.manifest import read_manifest, versions
from mfhq.parquet import StoredRows
from mfhq.schema import ALIASES, ASSIGNMENTS, EMBEDDINGS
from mfhq.seals import DamagedFileError
from mfhq.store import Store
from mfhq.takedowns import read_deny_list
from pipelines.duplicates.duplicate_shots import find_duplicates
from pipelines.identity.aliases import extend_aliases
from pipelines.publishing.funnel import costs_table, funnel_table
from pipelines.publishing.identity_lookup import IdentityLookup
from pipelines.publishing.people_tables import people_tables
from pipelines.publishing.publish_presets import SMALL, Preset
from pipelines.publishing.publish_tables import SnapshotRef, commit_snapshot, write_tables
from pipelines.publishing.published_query import query_tables
from pipelines.publishing.published_videos import published_sources, write_videos
from pipelines.publishing.segment_tables import SegmentPublisher
from pipelines.publishing.segments import VideoSegment, plan_segments
from pipelines.publishing.step_outputs import StepOutputs
from pipelines.publishing.table_files import TableFiles, write_table
from pipelines.publishing.unnest import STEPS

SEGMENT_TABLES = ("shots", "tracks", "faces", "meshes", "embeddings")
_MOST_WORKERS = 4


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
        where: SQL condition on the faces (``thresholds.apply_where``), recorded in the manifest; empty for all faces.

    Raises:
        AuditError: The snapshot would not be consistent.
        CatalogError: DuckDB refuses the condition.
        StoreError: A step has not run, or the corpus cannot be read or written.
    """
    steps = {step: fingerprints[step] for step in STEPS}
    means = track_embeddings if track_embeddings is not None else EMBEDDINGS.empty_table()
    optional = {
        name: table for name, table in (("decisions", decisions), ("takedowns", takedowns)) if table is not None
    }
    deep = False
    while True:
        denied = read_deny_list(store)
        people = IdentityLookup(denied.prune(assignments), denied.prune(means))
        outputs = StepOutputs(store, steps, denied)
        segments = plan_segments(outputs.markers["tracks"], former_segments(store))
        publisher = SegmentPublisher(outputs, people, preset, where, published_sources(store, denied), deep)
        try:
            fresh = _publish_segments(segments, publisher)
            fresh |= people_tables(store, fresh, people, preset, deep)
        except DamagedFileError:  # in a large file that is used again, where it is found when it is read
            if deep:
                raise
            deep = True
            continue
        if aliases is not None:
            optional["aliases"] = _all_aliases(store, aliases, fresh["assignments"])
        fresh |= write_tables(store, optional, denied)
        entries = {name: files.entry(name) for name, files in fresh.items()}
        funnel = funnel_table(store, entries, steps, preset)
        fresh["funnel"] = write_table(store, "funnel", [funnel])
        fresh["costs"] = write_table(store, "costs", [costs_table(store)])
        about = {
            "preset": preset.to_dict(),
            "fingerprints": steps,
            "clustering": digest(sorted(people.assignments["cluster_version"].unique().to_pylist()), 16),
            "segments": [segment.ranges() for segment in segments],
            **({"where": where} if where else {}),
        }
        if (published := commit_snapshot(store, fresh, denied, run_id=run_id, about=about)) is not None:
            return published


def former_segments(store: Store) -> Sequence[Any]:
    """Return the segments of the newest snapshot that was published from the steps' outputs; none if there is none.

    Args:
        store: The corpus.
    """
    for number in sorted(versions(store), reverse=True):
        about = read_manifest(store, number).about
        if "segments" in about:
            return list(about["segments"])
    return []


def _publish_segments(segments: Sequence[VideoSegment], publisher: SegmentPublisher) -> dict[str, TableFiles]:
    """Write the tables of the videos."""
    tables = {name: TableFiles() for name in SEGMENT_TABLES}
    with ThreadPoolExecutor(max(1, min(os.cpu_count() or 1, _MOST_WORKERS))) as pool:
        for found in pool.map(publisher.publish, segments):
            tables = {name: files + found[name] for name, files in tables.items()}
    store, outputs = publisher.store, publisher.outputs
    with query_tables(store, {name: tables[name].entry(name) for name in ("tracks", "shots")}) as connection:
        copies = find_duplicates(connection)
    videos = write_videos(outputs, publisher.sources, tables["tracks"], copies, publisher.preset, publisher.deep)
    return {**tables, "videos": videos, "duplicates": write_table(store, "duplicates", [copies.shots])}


def _all_aliases(store: Store, fresh: pa.Table, assignments: TableFiles) -> pa.Table:
    """Return the aliases of the newest snapshot, extended by those of this clustering."""
    catalog = Catalog(store)
    previous = catalog.open().table("aliases") if catalog.versions() else ALIASES.empty_table()
    assigned = StoredRows(store, [file.path for file in assignments.files], ASSIGNMENTS)
    return extend_aliases(previous, fresh, assigned.read(0, assignments.sum.rows, ["identity_id"]))
