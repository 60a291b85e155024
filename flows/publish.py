"""Flow ``publish``: cluster the mined tracks and commit a snapshot."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pyarrow as pa
from prefect import flow
from prefect.artifacts import create_table_artifact

from flows.cluster import check_mined, decided_clustering, tracked_clustering
from flows.corpus.calibrate import clustering_threshold
from flows.corpus.flow_session import in_prefect, open_corpus, opened, run_flow
from flows.corpus.run_record import record_tracked_run
from flows.running.flow_parameters import PresetName, Uri
from infra.console import print_table
from infra.settings import PUBLISH_PRESET
from infra.storage import open_store
from infra.tracking import tracked_run
from mfhq.catalog import Catalog
from mfhq.decisions import read_decisions
from mfhq.schema import VIDEOS, stored_schema
from pipelines.engine.ledger import compact_ledger
from pipelines.engine.state import corpus_fingerprints
from pipelines.mining.steps import AFTER, mining_steps
from pipelines.publishing.publish_presets import preset_named
from pipelines.publishing.publish_snapshot import publish_snapshot
from pipelines.publishing.thresholds import apply_where

FUNNEL = "SELECT stage, reason, items, round(share, 3) AS share, round(seconds, 1) AS seconds FROM funnel"


def publish_command(corpus: str, preset: str, pack: str | None, where: str | None = None) -> None:
    """Run ``ffavatar publish``.

    Args:
        corpus: URI of the corpus.
        preset: Name of a preset of the publish thresholds.
        pack: Name or folder of the face pack; None for the embedded pack.
        where: SQL condition on the faces and the columns of their videos; None for all faces.

    Raises:
        ValueError: There is no such preset.
        CallError: Nothing is mined in the corpus, or the pack has no calibrated threshold.
        CatalogError: ``where`` is no SQL condition on these columns.
    """
    preset_named(preset)
    store = open_corpus(corpus)
    if where:
        # refused now, not after an hour of clustering
        apply_where(stored_schema("faces").empty_table(), VIDEOS.empty_table(), where)
    clustering_threshold(pack or "")
    check_mined(store, pack or "")
    run_flow(publish, corpus=corpus, pack=pack or "", preset=preset, where=where or "")


@flow(name="publish", flow_run_name="publish {corpus}")
def publish(
    *,
    corpus: Uri,
    pack: str = "",
    preset: PresetName = PUBLISH_PRESET,
    home: str = "",
    parent: str = "",
    where: str = "",
) -> dict[str, Any]:
    """Cluster the mined tracks into identities and publish a snapshot; no network runs.

    Args:
        corpus: URI of the corpus.
        pack: Name or folder of the face pack; empty for the embedded pack.
        preset: Name of a preset of the publish thresholds.
        home: Folder of runs and logs; empty for the one that the environment sets (``infra.settings``).
        parent: Id of the run that this run is a part of; empty for none.
        where: SQL condition on the faces (``pipelines.publishing.thresholds.apply_where``); empty for all faces.

    Returns:
        ``snapshot`` (its name), ``digest`` of the snapshot, ``created`` (False if the newest snapshot already has the
        same rows), and ``rows`` (number per table).
    """
    with opened(home, with_ray=False, corpus=corpus) as settings:
        store = open_store(corpus)
        prints = corpus_fingerprints(store, mining_steps(pack_name=pack or None), AFTER)
        clustering = decided_clustering(store, tracked_clustering(settings, store, pack, parent))
        thresholds = preset_named(preset)
        described = {"preset": asdict(thresholds), "where": where}
        with tracked_run(settings, "publish", f"publish {corpus}", described, parent) as run:
            compact_ledger(store)
            published = publish_snapshot(
                store,
                prints,
                clustering.assignments,
                thresholds,
                track_embeddings=clustering.track_embeddings,
                aliases=clustering.aliases,
                decisions=read_decisions(store),
                run_id=run.run_id,
                where=where,
            )
            run.log_snapshot(store.uri, published.version, published.digest, "output")
            funnel = Catalog(store).open(published.version).query(FUNNEL)
            run.log_metrics({f"funnel/{r['stage']}/{r['reason']}": r["items"] for r in funnel.to_pylist()})
            run.log_json(funnel.to_pylist(), "funnel.json")
            record_tracked_run(store, run, "publish", published.version, asdict(thresholds), parent)
        if in_prefect():
            create_table_artifact(
                table=funnel.to_pylist(), key="funnel", description=f"{store.uri} {published.version}"
            )
    show_funnel(funnel, store.uri, published.version)
    return {
        "snapshot": published.version,
        "digest": published.digest,
        "created": published.created,
        "rows": dict(published.rows),
    }


def show_funnel(funnel: pa.Table, uri: str, version: str) -> None:
    """Print a snapshot's funnel.

    Args:
        funnel: Result of the query ``FUNNEL``.
        uri: URI of the corpus.
        version: Name of the snapshot.
    """
    rows = [tuple(row.values()) for row in funnel.to_pylist()]
    print_table(f"funnel of {uri} {version}", ("stage", "reason", "items", "share", "seconds"), rows)
