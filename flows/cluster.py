"""Who is who: clustering a corpus on Ray, ``ffavatar cluster`` and what publishing uses of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from prefect import flow

from flows.corpus.calibrate import clustering_threshold
from infra.console import ProgressBar, say
from infra.ray_session import ray_session
from infra.settings import Settings, load_settings
from infra.storage import open_store
from infra.tracking import TrackedRun, config_hash, git_revision, tracked_run
from mfhq.catalog import Catalog
from mfhq.decisions import read_decisions
from mfhq.ids import digest
from mfhq.live import record_run
from mfhq.paths import CLUSTERINGS
from mfhq.schema import ALIASES, ASSIGNMENTS
from mfhq.store import Store
from pipelines.engine.commits import read_step
from pipelines.engine.ray_data import run_steps
from pipelines.engine.state import fingerprints
from pipelines.identity.assign import Clustering
from pipelines.identity.cluster_corpus import cluster_corpus
from pipelines.identity.config import ClusterConfig
from pipelines.identity.constraints import Vectors
from pipelines.identity.neighbours import Pairs, Rows, neighbours_step, pairs_of, write_blocks
from pipelines.mining.steps import AFTER, mining_steps
from pipelines.review.apply_decisions import decided


def cluster_command(corpus: str, pack: str | None, full: bool) -> None:
    """``ffavatar cluster``."""
    settings = load_settings()
    open_store(corpus)
    clustering_threshold(pack or "")
    cluster(corpus=corpus, pack=pack or "", full=full, home=str(settings.home))


@flow(name="cluster", validate_parameters=False)
def cluster(*, corpus: str, pack: str = "", full: bool = False, home: str = "") -> dict[str, Any]:
    """Cluster what has been mined, and store it; publishing uses it from then on.

    Returns:
        ``version``, ``tracks``, ``identities``.
    """
    settings, store = load_settings(home or None), open_store(corpus)
    clustering = tracked_clustering(settings, store, pack, full=full)
    people = len(clustering.assignments["identity_id"].unique())
    said = {"version": clustering.version, "tracks": clustering.assignments.num_rows, "identities": people}
    say("{uri}: {tracks} tracks of {identities} people ({version})", uri=store.uri, **said)
    return said


def tracked_clustering(settings: Settings, store: Store, pack: str, parent: str = "", full: bool = False) -> Clustering:
    """What the clustering says, before review: cluster what is new in the corpus, as an MLflow run."""
    config = ClusterConfig(threshold=clustering_threshold(pack))
    described = {"corpus": store.uri, "pack": pack, "full": full, **asdict(config)}
    prints = fingerprints(mining_steps(pack_name=pack or None), AFTER)
    with tracked_run(settings, "cluster", f"cluster {store.uri}", described, parent) as run:
        search = partial(search_on_ray, settings, store, run.run_id)
        clustering = cluster_corpus(store, prints, config, full=full, search=search)
        _describe(run, clustering)
        record_run(store, run.run_id, "cluster", "", git_revision(), config_hash(described), parent)
        return clustering


def decided_clustering(store: Store, own: Clustering) -> Clustering:
    """What a clustering said, with reviewers' decisions: they win over it, and over the newest snapshot."""
    published, aliases = ASSIGNMENTS.empty_table(), ALIASES.empty_table()
    if Catalog(store).versions():
        newest = Catalog(store).open()
        published, aliases = newest.table("assignments"), newest.table("aliases")
    return decided(own, published, aliases, read_decisions(store))


def search_on_ray(
    settings: Settings, store: Store, run_id: str, projected: Vectors, members: Sequence[Rows], at_least: float
) -> Pairs:
    """The near pairs of all blocks, each a committed item of a step on Ray: a run that is cut off goes on."""
    key = digest([projected.shape, at_least, float(projected.sum(dtype="f8")), [len(rows) for rows in members]], 24)
    work = open_store(f"{store.uri}/{CLUSTERINGS}work/{key}")
    blocks = write_blocks(work, projected, members, at_least)
    step = neighbours_step(work)
    progress = ProgressBar("clustering")
    with ray_session(settings):
        (summary,) = run_steps(
            [step], blocks, work, run_id, on_progress=lambda p: progress.update(p.step, p.done, p.total, p.failed)
        )
    progress.close()
    if summary.failed:
        raise RuntimeError(f"{summary.failed} blocks of neighbours failed ({summary.failures}); run it again")
    return pairs_of(read_step(work, step.name, fingerprints([step])[step.name]))


def _describe(run: TrackedRun, clustering: Clustering) -> None:
    run.params({"cluster_version": clustering.version})
    people = clustering.assignments["identity_id"].unique()
    run.metrics({"tracks": clustering.assignments.num_rows, "identities": len(people)})
