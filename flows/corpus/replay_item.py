"""``ffavatar replay``: run one step on one item in this process, beside what is on record."""

from __future__ import annotations

import json

import pyarrow.compute as pc

from infra.console import SOME_FAILED, CallError, say, table
from infra.storage import open_store
from pipelines.engine.replay import Replay, replay_item
from pipelines.engine.sources import read_sources
from pipelines.engine.state import bind_steps
from pipelines.mining.schemas import SOURCES
from pipelines.mining.steps import AFTER, mining_steps


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
