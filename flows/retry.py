"""``ffavatar retry`` and ``ffavatar replay``: failed items once more, and one item under the looking glass."""

from __future__ import annotations

import pyarrow.compute as pc

from flows.mine import summary_row
from flows.publish import publish
from infra.console import SOME_FAILED, ProgressBar, say
from infra.ray_session import ray_session
from infra.settings import load_settings
from infra.storage import open_store
from infra.tracking import tracked_run
from mfhq.where import rows_where
from pipelines.engine.ray_data import run_steps
from pipelines.engine.sources import read_sources
from pipelines.engine.state import bind_steps, failed_items
from pipelines.mining.schemas import SOURCES
from pipelines.mining.steps import AFTER, mining_steps


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
        progress = ProgressBar("retry")
        summaries = run_steps(
            steps,
            rows,
            store,
            run.run_id,
            after=AFTER,
            max_attempts=attempts,
            on_progress=lambda p: progress.update(p.step, p.done, p.total, p.failed),
        )
        progress.close()
        publish(corpus=corpus, pack=pack or "", preset=preset, home=str(settings.home), parent=run.run_id)
    failures = {item: reason for s in summaries for item, reason in summary_row(s)["failures"].items()}
    for item, reason in failures.items():
        say("  failed {uri}: {reason}", uri=uris.get(item, item), reason=reason)
    return SOME_FAILED if failures else 0
