"""Ingestion: source files → steps on Ray → people → a published snapshot, as one Prefect flow."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.corpus.calibrate import clustering_threshold
from flows.corpus.progress_artifact import ProgressArtifact
from flows.publish import publish, record_published
from infra.console import SOME_FAILED, ProgressBar, say
from infra.ray_session import ray_session
from infra.settings import load_settings
from infra.storage import open_store
from infra.tracking import tracked_run
from mfhq.catalog import Catalog
from pipelines.engine.progress import StepProgress
from pipelines.engine.ray_data import StepSummary, run_steps
from pipelines.mining.digests import sources_to_mine
from pipelines.mining.source_listing import list_sources
from pipelines.mining.steps import AFTER, mining_steps
from pipelines.publishing.publish_presets import preset_named
from pipelines.publishing.reasons import TAKEN_DOWN


def mine_command(source: str, corpus: str, pack: str | None, preset: str) -> int:
    """``ffavatar mine``: returns the exit status, 1 when items failed."""
    settings = load_settings()
    preset_named(preset)
    store = open_store(corpus)
    list_sources(source, _filesystem(source))
    clustering_threshold(pack or "")
    with ray_session(settings):
        done = mine(source=source, corpus=corpus, pack=pack or "", preset=preset, home=str(settings.home))
    if done["failures"]:
        videos = Catalog(store).open(done["snapshot"]).table("videos", ["video_id", "uri"])
        uri_of = dict(zip(*(column.to_pylist() for column in videos.columns), strict=True))
        for item, reason in done["failures"].items():
            say("  failed {uri}: {reason}", uri=uri_of.get(item, item), reason=reason)
    return SOME_FAILED if done["failures"] else 0


@flow(name="mine", validate_parameters=False)
def mine(*, source: str, corpus: str, pack: str = "", preset: str = "small", home: str = "") -> dict[str, Any]:
    """Mine ``source`` into ``corpus``: the same call again does what is new, and goes on after a kill.

    Returns:
        ``snapshot`` and ``digest`` of what was published, ``failures`` (item id to reason), ``run_id``.
    """
    settings = load_settings(home or None)
    described = {"source": source, "corpus": corpus, "pack": pack, "preset": asdict(preset_named(preset))}
    with tracked_run(settings, "mine", f"mine {source}", described) as run:
        summaries = run_mining(source, corpus, pack, run.run_id)
        run.metrics(
            {
                f"{s['step']}/{name}": s[name]
                for s in summaries
                for name in ("items", "ok", "rejected", "failed", "seconds")
            }
        )
        published = publish(corpus=corpus, pack=pack, preset=preset, home=home, parent=run.run_id)
        run.snapshot(open_store(corpus).uri, published["snapshot"], published["digest"], "output")
        record_published(open_store(corpus), run, "mine", published["snapshot"], described, "")
    failures = {item: reason for s in summaries for item, reason in s["failures"].items()}
    return {**published, "failures": failures, "run_id": run.run_id}


@task(name="mining steps", cache_policy=NO_CACHE)
def run_mining(source: str, corpus: str, pack: str, run_id: str) -> list[dict[str, Any]]:
    """Every mining step on every shard of the source; a row a step: items, ok, rejected, failed, seconds, failures."""
    store, filesystem = open_store(corpus), _filesystem(source)
    found = list_sources(source, filesystem)
    sources, skipped = sources_to_mine(found, store, filesystem)
    if skipped:
        say("skipping {n} files: {reason}", n=skipped, reason=TAKEN_DOWN)
    say(
        "mining {n} files ({unique} different) of {source} into {uri}",
        n=len(found),
        unique=len(sources),
        source=source,
        uri=store.uri,
    )
    progress, shown = ProgressBar("mining"), ProgressArtifact(f"mining {source} into {store.uri}")
    steps = mining_steps(pack_name=pack or None, filesystem=filesystem)

    def report(moved: StepProgress) -> None:
        progress.update(moved.step, moved.done, moved.total, moved.failed)
        shown.update(moved)

    summaries = run_steps(steps, sources, store, run_id, after=AFTER, on_progress=report)
    progress.close()
    shown.close()
    return [summary_row(s) for s in summaries]


def summary_row(summary: StepSummary) -> dict[str, Any]:
    """A step's summary as plain values."""
    counts = {
        name: getattr(summary, name) for name in ("step", "items", "before", "ok", "rejected", "failed", "seconds")
    }
    return counts | {"failures": dict(summary.failures)}


def _filesystem(source: str) -> Any:
    """What reads a remote source; None for a local one."""
    return open_store(source).filesystem if source.startswith("s3://") else None
