"""Flow ``retry``: run failed items again, then publish."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.corpus.faces_device import faces_device
from flows.corpus.flow_session import open_corpus, opened, run_flow
from flows.corpus.remote_filesystem import remote_filesystem
from flows.mine import collect_failures, summary_row
from flows.publish import publish
from flows.running.flow_parameters import PresetName, Uri
from flows.running.task_retries import RETRIED
from infra.console import SOME_FAILED, ProgressBar, say
from infra.settings import PUBLISH_PRESET, load_settings
from infra.shown_text import masked_errors
from infra.storage import open_store
from infra.tracking import tracked_run
from mfhq.where import rows_where
from pipelines.engine.ray_data import run_steps
from pipelines.engine.sources import read_sources
from pipelines.engine.state import bind_steps, failed_items
from pipelines.mining.config import MiningConfig
from pipelines.mining.digests import drop_superseded_failures, look_again
from pipelines.mining.schemas import SOURCES
from pipelines.mining.steps import AFTER, mining_steps
from pipelines.publishing.publish_presets import preset_named

MORE_ATTEMPTS = 3
"""Margin of attempts: the limit for all chosen items is their largest number of attempts on record plus this."""


def retry_command(corpus: str, where: str, pack: str | None, preset: str) -> int:
    """Run ``ffavatar retry``: try failed items again, and name those that fail again.

    Args:
        corpus: URI of the corpus.
        where: SQL condition on item_id, uri, step, reason, attempts and error.
        pack: Face pack, a name or a folder; None for ``embedded``, the project's own.
        preset: Name of the publish thresholds.

    Returns:
        The exit status: 1 if items failed again, else 0.

    Raises:
        CatalogError: DuckDB refuses the condition.
        ValueError: There is no such preset.
    """
    preset_named(preset)
    open_corpus(corpus)
    failed, uri_of = list_failed_items(corpus, pack or "")
    n_chosen = pc.sum(rows_where(failed, where, "--where")).as_py() or 0
    say("{n} of {of} failed items are tried again", n=n_chosen, of=failed.num_rows)
    if not n_chosen:
        return 0
    result = run_flow(retry, corpus=corpus, where=where, pack=pack or "", preset=preset)
    for item, reason in result["failures"].items():
        say("  failed {uri}: {reason}", uri=uri_of.get(item, item), reason=reason)
    return SOME_FAILED if result["failures"] else 0


@flow(name="retry", flow_run_name="retry {corpus}")
def retry(
    *, corpus: Uri, where: str = "true", pack: str = "", preset: PresetName = PUBLISH_PRESET, home: str = ""
) -> dict[str, Any]:
    """Run the failed items that meet an SQL condition again, then publish.

    All chosen items have the same limit on their attempts, including those on record: the largest number of attempts
    on record among the chosen items, plus ``MORE_ATTEMPTS``.

    Args:
        corpus: URI of the corpus.
        where: SQL condition on item_id, uri, step, reason, attempts and error.
        pack: Face pack, a name or a folder; empty for ``embedded``, the project's own.
        preset: Name of the publish thresholds.
        home: Folder of runs and logs; empty for FFAVATAR_HOME or its default.

    Returns:
        The result of ``flows.publish.publish``, plus ``failures`` (item id to reason) and ``run_id``.

    Raises:
        CatalogError: DuckDB refuses the condition.
    """
    with (
        opened(home, corpus=corpus) as settings,
        tracked_run(settings, "mine", f"retry {corpus}", {"where": where}) as run,
    ):
        summaries = run_failed_items(corpus, where, pack, run.run_id)
        published = publish(corpus=corpus, pack=pack, preset=preset, home=home, parent=run.run_id)
    return {**published, "failures": collect_failures(summaries), "run_id": run.run_id}


@task(name="retry steps", cache_policy=NO_CACHE, **RETRIED)
@masked_errors()
def run_failed_items(corpus: str, where: str, pack: str, run_id: str) -> list[dict[str, Any]]:
    """Run every mining step on the failed items that meet an SQL condition.

    Args:
        corpus: URI of the corpus.
        where: SQL condition on item_id, uri, step, reason, attempts and error.
        pack: Face pack, a name or a folder; empty for ``embedded``, the project's own.
        run_id: Id of the run, for the ledger.

    Returns:
        ``flows.mine.summary_row`` of each step; an empty list if no item meets the condition.
    """
    store = open_store(corpus)
    failed, _ = list_failed_items(corpus, pack)
    chosen = failed.filter(rows_where(failed, where, "--where"))
    if not chosen.num_rows:
        return []
    sources = read_sources(store, SOURCES, "video_id")
    rows = sources.filter(pc.is_in(sources["video_id"], value_set=chosen["item_id"].combine_chunks()))
    attempts = int(pc.max(chosen["attempts"]).as_py()) + MORE_ATTEMPTS
    filesystem = remote_filesystem(store.uri)
    rows = look_again(rows, store, filesystem)
    steps = mining_steps(MiningConfig(device=faces_device().name), pack or None, filesystem)
    with ProgressBar("retry") as progress:
        limits = {"max_attempts": attempts, "max_workers": load_settings().max_workers}
        summaries = run_steps(steps, rows, store, run_id, after=AFTER, on_progress=progress.update_step, **limits)
    return [summary_row(s) for s in summaries]


def list_failed_items(corpus: str, pack: str) -> tuple[pa.Table, dict[str, str]]:
    """List all failed items of a corpus, quarantined or not, but for files that were unreachable and were read later.

    Args:
        corpus: URI of the corpus.
        pack: Face pack, a name or a folder; empty for ``embedded``, the project's own.

    Returns:
        One row per failed item and step (item_id, uri, step, reason, attempts, error), and a dictionary from the id of
        each source file to its URI.
    """
    store = open_store(corpus)
    sources = drop_superseded_failures(read_sources(store, SOURCES, "video_id"))
    uri_of = dict(zip(sources["video_id"].to_pylist(), sources["uri"].to_pylist(), strict=True))
    steps = mining_steps(pack_name=pack or None, filesystem=remote_filesystem(store.uri))
    failed = failed_items(store, bind_steps(steps, AFTER), uri_of)
    return failed.filter(pc.not_equal(failed["uri"], "")), uri_of
