"""Converts a source without Ray, and kills itself with signal 9 in its third part, before the marker that would commit
it. Arguments: source, corpus."""

from __future__ import annotations

import os
import signal
import sys

from infra.storage import open_store
from pipelines import runner
from pipelines.conversion.ava256 import plan_ava256
from pipelines.conversion.ava256_frames import Ava256Config
from pipelines.parts import describe_step
from pipelines.plan import bind_steps, shards

if __name__ == "__main__":
    plan = plan_ava256(sys.argv[1], Ava256Config(size=64))
    store = open_store(sys.argv[2])
    (bound,) = bind_steps([plan.step])
    describe_step(store, bound.at, bound.step, "")
    commit_part, parts = runner.commit_part, []

    def die_in_the_third(*arguments):
        parts.append(arguments)
        if len(parts) == 3:
            store.write(f"{bound.at.shard(arguments[2])}0000-half.blobs", b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        return commit_part(*arguments)

    runner.commit_part = die_in_the_third
    worker = runner.PartRunner(bound, store, "killed")
    for shard, keys in shards(plan.items["item_id"].to_pylist()):
        worker.run_part(shard, keys, plan.items)
