"""Flow ``cluster``: group the tracks of a corpus into identities; the search for similar tracks runs on Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from prefect import flow

from flows.corpus.calibrate import clustering_threshold
from flows.corpus.flow_session import open_corpus, opened, run_flow
from flows.corpus.run_record import record_tracked_run
from flows.running.flow_parameters import Uri
from infra.console import CallError, ProgressBar, say
from infra.ray_session import ray_session
from infra.settings import Settings
from infra.storage import open_store
from infra.tracking import tracked_run
from mfhq.catalog import Catalog
from mfhq.decisions import read_decisions
from mfhq.ids import digest
from mfhq.paths import CLUSTERINGS, step_prefix
from mfhq.schema import ALIASES, ASSIGNMENTS
from mfhq.store import Store
from pipelines.engine.commits import read_step
from pipelines.engine.ray_data import run_steps
from pipelines.engine.state import corpus_fingerprints, fingerprints
from pipelines.identity.assign import Clustering
from pipelines.identity.cluster_corpus import cluster_corpus
from pipelines.identity.config import ClusterConfig
from pipelines.identity.constraints import Vectors
from pipelines.identity.neighbours import Pairs, Rows, neighbours_step, read_pairs, write_blocks
from pipelines.mining.steps import AFTER, mining_steps
from pipelines.review.apply_decisions import apply_review


def cluster_command(corpus: str, pack: str | None, full: bool) -> None:
    """Run ``ffavatar cluster``.

    Args:
        corpus: URI of the corpus.
        pack: Name or folder of the face pack; None for the embedded pack.
        full: True to cluster every track again; False to add the new tracks to the known identities.

    Raises:
        CallError: Nothing is mined in the corpus, or the pack has no calibrated threshold.
    """
    store = open_corpus(corpus)
    clustering_threshold(pack or "")
    check_mined(store, pack or "")
    run_flow(cluster, corpus=corpus, pack=pack or "", full=full)


def check_mined(store: Store, pack: str) -> None:
    """Check that a corpus has tracks to cluster, from the mining steps of a face pack.

    Args:
        store: The corpus.
        pack: Name or folder of the face pack; empty for the embedded pack.

    Raises:
        CallError: It has none.
    """
    prints = corpus_fingerprints(store, mining_steps(pack_name=pack or None), AFTER)
    if not store.exists(f"{step_prefix('tracks', prints['tracks'], private=False)}step.json"):
        with_pack = f" with --pack {pack}" if pack else ""
        raise CallError(f"{store.uri}: nothing is mined in it{with_pack}; `ffavatar mine SOURCE --corpus` comes first")


@flow(name="cluster", flow_run_name="cluster {corpus}")
def cluster(*, corpus: Uri, pack: str = "", full: bool = False, home: str = "") -> dict[str, Any]:
    """Cluster the mined tracks and store the result, which publishing uses from then on.

    Args:
        corpus: URI of the corpus.
        pack: Name or folder of the face pack; empty for the embedded pack.
        full: True to cluster every track again; False to add the new tracks to the known identities.
        home: Folder of runs and logs; empty for the one that the environment sets (``infra.settings``).

    Returns:
        ``version`` of the clustering, and the numbers of ``tracks`` and ``identities``.
    """
    with opened(home, with_ray=False, corpus=corpus) as settings:
        store = open_store(corpus)
        clustering = tracked_clustering(settings, store, pack, full=full)
    result = {"version": clustering.version, **_counts(clustering)}
    say("{uri}: {tracks} tracks of {identities} people ({version})", uri=store.uri, **result)
    return result


def tracked_clustering(settings: Settings, store: Store, pack: str, parent: str = "", full: bool = False) -> Clustering:
    """Cluster the tracks of a corpus as an MLflow run, without applying reviewers' decisions.

    Args:
        settings: Settings of this process.
        store: The corpus.
        pack: Name or folder of the face pack; empty for the embedded pack.
        parent: Id of the run that this run is a part of; empty for none.
        full: True to cluster every track again; False to add the new tracks to the known identities.

    Returns:
        The clustering of all tracks: assignments, aliases and track embeddings.
    """
    config = ClusterConfig(threshold=clustering_threshold(pack))
    described = {"corpus": store.uri, "pack": pack, "full": full, **asdict(config)}
    prints = corpus_fingerprints(store, mining_steps(pack_name=pack or None), AFTER)
    with tracked_run(settings, "cluster", f"cluster {store.uri}", described, parent) as run:
        search = partial(search_on_ray, settings, store, run.run_id)
        clustering = cluster_corpus(store, prints, config, full=full, search=search)
        run.log_params({"cluster_version": clustering.version})
        run.log_metrics(_counts(clustering))
        record_tracked_run(store, run, "cluster", "", described, parent)
        return clustering


def _counts(clustering: Clustering) -> dict[str, int]:
    identities = clustering.assignments["identity_id"].unique()
    return {"tracks": clustering.assignments.num_rows, "identities": len(identities)}


def decided_clustering(store: Store, own: Clustering) -> Clustering:
    """Apply reviewers' decisions to a clustering; a decision overrides the clustering and the newest snapshot.

    Args:
        store: The corpus, with the decisions and the snapshots.
        own: The clustering before reviewers' decisions.
    """
    published, aliases = ASSIGNMENTS.empty_table(), ALIASES.empty_table()
    if Catalog(store).versions():
        newest = Catalog(store).open()
        published, aliases = newest.table("assignments"), newest.table("aliases")
    return apply_review(own, published, aliases, read_decisions(store))


def search_on_ray(
    settings: Settings, store: Store, run_id: str, projected: Vectors, members: Sequence[Rows], at_least: float
) -> Pairs:
    """Find the pairs of similar rows within each block, on Ray.

    Each block is an item that the engine commits, so an interrupted run continues with the blocks that are missing.

    Args:
        settings: Settings of this process.
        store: The corpus; the blocks are stored below ``CLUSTERINGS``.
        run_id: Id of the run, which the ledger records with each attempt.
        projected: (N, D) projected unit vectors.
        members: For each block, the rows of ``projected`` that are in it.
        at_least: Lowest cosine similarity of a pair that is returned.

    Raises:
        RuntimeError: A block failed.
    """
    key = digest([projected.shape, at_least, float(projected.sum(dtype="f8")), [len(rows) for rows in members]], 24)
    work = open_store(f"{store.uri}/{CLUSTERINGS}work/{key}")
    blocks = write_blocks(work, projected, members, at_least)
    step = neighbours_step(work)
    with ProgressBar("clustering") as progress, ray_session(settings):
        (summary,) = run_steps([step], blocks, work, run_id, on_progress=progress.update_step)
    if summary.failed:
        raise RuntimeError(f"{summary.failed} blocks of neighbours failed ({summary.failures}); run it again")
    return read_pairs(read_step(work, step.name, fingerprints([step])[step.name]))
