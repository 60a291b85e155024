"""Toy steps run in this process, without Ray."""

from __future__ import annotations

from pipelines.engine.sources import record_sources
from pipelines.engine.state import OutcomeCounts, bind_steps, group_by_shard, resume_steps
from pipelines.engine.worker import StepWorker
from tests.support import toy_mining


def run_toy(store, n, run_id="run", max_attempts=3, seconds=0.0, batch=3, steps=None, sources=None):
    """Run every toy step on n videos, in this process and without Ray; return the outcomes by step."""
    sources = toy_mining.sources(n) if sources is None else sources
    bound = resume_steps(store, bind_steps(steps or toy_mining.toy_steps(seconds, batch), toy_mining.AFTER), True)
    record_sources(store, sources, "video_id")
    counts = {b.step.name: OutcomeCounts() for b in bound}
    for b in bound:
        worker = StepWorker(b, store, run_id, max_attempts)
        for shard, keys in group_by_shard(sources["video_id"].to_pylist()):
            counts[b.step.name].add(worker.process(shard, keys, sources))
    return counts
