"""Publishing: cluster what has been mined and commit a snapshot, as one Prefect flow."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pyarrow as pa
from prefect import flow
from prefect.artifacts import create_table_artifact

from flows.cluster import decided_clustering, tracked_clustering
from infra.console import table
from infra.settings import load_settings
from infra.storage import open_store
from infra.tracking import TrackedRun, config_hash, git_revision, tracked_run
from mfhq.catalog import Catalog
from mfhq.decisions import read_decisions
from mfhq.live import record_run
from mfhq.store import Store
from pipelines.engine.state import fingerprints
from pipelines.mining.steps import AFTER, mining_steps
from pipelines.publishing.publish_presets import preset_named
from pipelines.publishing.publish_snapshot import publish as publish_snapshot

FUNNEL = "SELECT stage, reason, items, round(share, 3) AS share, round(seconds, 1) AS seconds FROM funnel"


def publish_command(corpus: str, preset: str, pack: str | None, where: str | None = None) -> None:
    """``ffavatar publish``."""
    settings = load_settings()
    preset_named(preset)
    publish(corpus=corpus, pack=pack or "", preset=preset, home=str(settings.home), where=where or "")


@flow(name="publish", validate_parameters=False)
def publish(
    *, corpus: str, pack: str = "", preset: str = "small", home: str = "", parent: str = "", where: str = ""
) -> dict[str, Any]:
    """Cluster what has been mined into people and publish a snapshot, with no inference.

    ``where`` is an SQL condition on the faces (``pipelines.publishing.thresholds.apply_where``).

    Returns:
        ``snapshot``, ``digest``, ``created`` (False where the newest snapshot holds the same), ``rows`` by table.
    """
    settings, store = load_settings(home or None), open_store(corpus)
    prints = fingerprints(mining_steps(pack_name=pack or None), AFTER)
    clustering = decided_clustering(store, tracked_clustering(settings, store, pack, parent))
    thresholds = preset_named(preset)
    described = {"preset": asdict(thresholds), "where": where}
    with tracked_run(settings, "publish", f"publish {corpus}", described, parent) as run:
        made = publish_snapshot(
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
        run.snapshot(store.uri, made.version, made.digest, "output")
        snapshot = Catalog(store).open(made.version)
        funnel = snapshot.query(FUNNEL)
        run.metrics({f"funnel/{r['stage']}/{r['reason']}": r["items"] for r in funnel.to_pylist()})
        run.json(funnel.to_pylist(), "funnel.json")
        record_published(store, run, "publish", made.version, asdict(thresholds), parent)
    create_table_artifact(table=funnel.to_pylist(), key="funnel", description=f"{store.uri} {made.version}")
    show_funnel(funnel, store.uri, made.version)
    return {"snapshot": made.version, "digest": made.digest, "created": made.created, "rows": dict(made.rows)}


def show_funnel(funnel: pa.Table, uri: str, version: str) -> None:
    """Print the funnel as a table."""
    rows = [tuple(row.values()) for row in funnel.to_pylist()]
    table(f"funnel of {uri} {version}", ("stage", "reason", "items", "share", "seconds"), rows)


def record_published(
    store: Store, run: TrackedRun, kind: str, version: str, config: dict[str, Any], parent: str
) -> None:
    """Put a run that published a snapshot on record in the corpus."""
    record_run(store, run.run_id, kind, version, git_revision(), config_hash(config), parent)
