"""Runs the toy steps in this process, without Ray."""

from __future__ import annotations

from pipelines.engine.commits import describe_step
from pipelines.engine.sources import record_sources
from pipelines.engine.state import OutcomeCounts, bind_steps, shards
from pipelines.engine.worker import PartRunner
from tests.support import toy_mining


def run_toy(store, n, run_id="run", max_attempts=3, seconds=0.0, batch=3):
    """Every toy step on n videos, in this process and without Ray; gives the outcomes by step."""
    sources = toy_mining.sources(n)
    bound = bind_steps(toy_mining.toy_steps(seconds, batch), toy_mining.AFTER)
    record_sources(store, sources, "video_id")
    tallies = {b.step.name: OutcomeCounts() for b in bound}
    for b in bound:
        describe_step(store, b.at, b.step, b.upstream.name if b.upstream else "")
        runner = PartRunner(b, store, run_id, max_attempts)
        for shard, keys in shards(sources["video_id"].to_pylist()):
            tallies[b.step.name].add(runner.run_part(shard, keys, sources))
    return tallies
