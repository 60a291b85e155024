"""A driver that kills itself with SIGKILL while it tracks the faces of one video. Arguments: corpus, source folder,
number of sampled frames after which it dies."""

from __future__ import annotations

import os
import signal
import sys

from infra.storage import open_store
from pipelines.engine.commits import fetch_blobs
from pipelines.engine.state import ShardState, bind_steps, group_by_shard, resume_steps
from pipelines.engine.worker import StepWorker
from pipelines.mining.config import MiningConfig
from pipelines.mining.digests import sources_to_mine
from pipelines.mining.shot_tracks import Segment
from pipelines.mining.source_listing import list_sources
from pipelines.mining.steps import mining_steps


def die_after(n_frames: int) -> None:
    """Kill this process when so many sampled frames have been followed."""
    follow, followed = Segment.follow, []

    def follow_or_die(self, frame, detector):
        follow(self, frame, detector)
        followed.append(frame.frame_index)
        if len(followed) == n_frames:
            os.kill(os.getpid(), signal.SIGKILL)

    Segment.follow = follow_or_die


def track_one(store, folder, part_s, report_share=None):
    """Probe and track the one video of a folder in this process; return the row of ``tracks`` with its crops."""
    sources, _ = sources_to_mine(list_sources(folder), store)
    ((shard, keys),) = group_by_shard(sources["video_id"].to_pylist())
    bound = resume_steps(store, bind_steps(mining_steps(MiningConfig(part_s=part_s))[:2]), described=True)
    for b in bound:
        StepWorker(b, store, "run", report_share=report_share).process(shard, keys, sources)
    rows, _ = ShardState(store, bound[1].location, shard).refresh().read(keys)
    return fetch_blobs(rows, bound[1].step.output, store)


if __name__ == "__main__":
    die_after(int(sys.argv[3]))
    track_one(open_store(sys.argv[1]), sys.argv[2], part_s=1e-9)
