"""Command ``ffavatar replay``: run one step on one item in this process, and compare with the recorded result."""

from __future__ import annotations

import json

import pyarrow.compute as pc

from flows.corpus.remote_filesystem import remote_filesystem
from infra.console import SOME_FAILED, CallError, print_table, say
from infra.storage import open_store
from pipelines.engine.replay import Replay, replay_item
from pipelines.engine.sources import read_sources
from pipelines.engine.state import bind_steps
from pipelines.media.local_files import canonical_uri
from pipelines.mining.schemas import SOURCES
from pipelines.mining.steps import AFTER, mining_steps

MAX_ROWS = 40
"""Most differing fields that are printed."""


def replay_command(item: str, step: str, corpus: str, pack: str | None) -> int:
    """Run ``ffavatar replay``: run one step on one item, and print the recorded result beside the new one.

    Args:
        item: A path or URI of the video, the end of its URI, a ``video_id`` or its beginning.
        step: Name of the step.
        corpus: URI of the corpus.
        pack: Name or folder of the face pack; None for the embedded pack.

    Returns:
        The exit status: 1 if the item failed in this process, otherwise 0.

    Raises:
        CallError: There is no such step or item, or several items match.
    """
    store = open_store(corpus)
    steps = mining_steps(pack_name=pack, filesystem=remote_filesystem(store.uri))
    bound = {b.step.name: b for b in bind_steps(steps, AFTER)}
    if step not in bound:
        raise CallError(f"no step {step!r}; there are {', '.join(bound)}")
    sources = read_sources(store, SOURCES, "video_id")
    everything = sources.to_pylist()
    rows = [row for row in everything if canonical_uri(row["uri"]) == canonical_uri(item)]
    rows = rows or [row for row in everything if row["video_id"].startswith(item) or row["uri"].endswith(item)]
    if len(rows) != 1:
        count = f"{len(rows)} items" if rows else "no item"
        raise CallError(f"{item}: {count} of {store.uri}; give a video_id, its beginning, or the end of its URI")
    video_id = rows[0]["video_id"]
    say("{step} on {uri} ({id})", step=step, uri=rows[0]["uri"], id=video_id)
    replay = replay_item(store, bound[step], video_id, sources.filter(pc.equal(sources["video_id"], video_id)))
    _show_replay(replay)
    return SOME_FAILED if replay.error else 0


def _show_replay(replay: Replay) -> None:
    rows = [(name, json.dumps(recorded), json.dumps(now)) for name, recorded, now in replay.differing[:MAX_ROWS]]
    if rows:
        print_table("what differs", ("field", "on record", "now"), rows)
    say(
        "{same} values are the same, {n} differ; {seconds} s",
        same=replay.same,
        n=len(replay.differing),
        seconds=f"{replay.seconds:.2f}",
    )
    if replay.error:
        say("{error}", error=replay.error)
