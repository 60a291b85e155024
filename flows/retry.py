"""``ffavatar retry`` and ``ffavatar replay``: failed items once more, and one item under the looking glass."""

from __future__ import annotations

import json

import pyarrow.compute as pc

from flows.console import SOME_FAILED, CallError, Progress, say, table
from flows.mine import publish, summary_row
from infra.ray_session import ray_session
from infra.settings import load_settings
from infra.storage import open_store
from infra.tracking import tracked_run
from mfhq.where import rows_where
from pipelines.engine import run_steps
from pipelines.intake import read_sources
from pipelines.mining.schemas import SOURCES
from pipelines.mining.steps import AFTER, mining_steps
from pipelines.outcomes import failed_items
from pipelines.plan import bind_steps
from pipelines.replay import Replay, replay_item


def retry_command(corpus: str, where: str, pack: str | None, preset: str) -> int:
    """Run the failed items that meet an SQL condition three times more at most, then publish.

    The condition is on item_id, uri, step, reason, attempts and error. Returns the exit status, 1 when items failed
    again.

    Raises:
        CatalogError: DuckDB refuses the condition.
    """
    settings, store = load_settings(), open_store(corpus)
    filesystem = store.filesystem if store.uri.startswith("s3://") else None
    steps = mining_steps(pack_name=pack, filesystem=filesystem)
    bound = bind_steps(steps, AFTER)
    sources = read_sources(store, SOURCES, "video_id")
    uris = dict(zip(sources["video_id"].to_pylist(), sources["uri"].to_pylist(), strict=True))
    failed = failed_items(store, bound, uris)
    chosen = failed.filter(rows_where(failed, where, "--where"))
    say("{n} of {of} failed items are tried again", n=chosen.num_rows, of=failed.num_rows)
    if not chosen.num_rows:
        return 0
    rows = sources.filter(pc.is_in(sources["video_id"], value_set=chosen["item_id"].combine_chunks()))
    attempts = int(pc.max(chosen["attempts"]).as_py()) + 3
    with ray_session(settings), tracked_run(settings, "mine", f"retry {corpus}", {"where": where}) as run:
        progress = Progress("retry")
        summaries = run_steps(
            steps, rows, store, run.run_id, after=AFTER, max_attempts=attempts,
            on_progress=lambda p: progress.update(p.step, p.done, p.total, p.failed),
        )  # fmt: skip
        progress.close()
        publish(corpus=corpus, pack=pack or "", preset=preset, home=str(settings.home), parent=run.run_id)
    failures = {item: reason for s in summaries for item, reason in summary_row(s)["failures"].items()}
    for item, reason in failures.items():
        say("  failed {uri}: {reason}", uri=uris.get(item, item), reason=reason)
    return SOME_FAILED if failures else 0


def replay_command(item: str, step: str, corpus: str, pack: str | None) -> int:
    """Run one step on one item in this process, and show what is on record beside what came out.

    Returns the exit status, 1 when the item failed now.

    Raises:
        CallError: no such step or item.
    """
    store = open_store(corpus)
    filesystem = store.filesystem if store.uri.startswith("s3://") else None
    bound = {b.step.name: b for b in bind_steps(mining_steps(pack_name=pack, filesystem=filesystem), AFTER)}
    if step not in bound:
        raise CallError(f"no step {step!r}; there are {', '.join(bound)}")
    sources = read_sources(store, SOURCES, "video_id")
    rows = [row for row in sources.to_pylist() if row["video_id"].startswith(item) or row["uri"].endswith(item)]
    if len(rows) != 1:
        found = f"{len(rows)} items" if rows else "no item"
        raise CallError(f"{item}: {found} of {store.uri}; give a video_id, its beginning, or the end of its URI")
    video_id = rows[0]["video_id"]
    say("{step} on {uri} ({id})", step=step, uri=rows[0]["uri"], id=video_id)
    done = replay_item(store, bound[step], video_id, sources.filter(pc.equal(sources["video_id"], video_id)))
    _show(done)
    return SOME_FAILED if done.error else 0


def _show(done: Replay) -> None:
    lines = [(name, json.dumps(was), json.dumps(now)) for name, was, now in done.differing[:40]]
    if lines:
        table("what differs", ("field", "on record", "now"), lines)
    say(
        "{same} values are the same, {n} differ; {seconds} s",
        same=done.same,
        n=len(done.differing),
        seconds=f"{done.seconds:.2f}",
    )
    if done.error:
        say("{error}", error=done.error)
