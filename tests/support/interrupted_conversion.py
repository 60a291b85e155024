"""Converts a source without Ray, an item a part, and kills itself with signal 9 in one of the parts, before the marker
that would commit it. Arguments: data set, source, corpus, number of the part, settings as JSON."""

from __future__ import annotations

import json
import os
import signal
import sys

from flows.convert import DATASETS
from infra.storage import open_store
from pipelines.engine import worker as worker_module
from pipelines.engine.commits import describe_step
from pipelines.engine.state import bind_steps, group_by_shard

if __name__ == "__main__":
    dataset, source, corpus, last, settings = sys.argv[1:]
    config, planner = DATASETS[dataset]
    plan = planner(source, config(**json.loads(settings)), None)
    store = open_store(corpus)
    (bound,) = bind_steps([plan.step])
    describe_step(store, bound.location, bound.step, "")
    commit_part, parts = worker_module.commit_part, []

    def die_in_the_last(*arguments):
        parts.append(arguments)
        if len(parts) == int(last):
            store.write(f"{bound.location.shard_folder(arguments[2])}0000-half.blobs", b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        return commit_part(*arguments)

    worker_module.commit_part = die_in_the_last
    worker = worker_module.StepWorker(bound, store, "killed")
    for shard, keys in group_by_shard(plan.items["item_id"].to_pylist()):
        for key in keys:
            worker.process(shard, [key], plan.items)
