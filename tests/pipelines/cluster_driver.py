"""A process that runs the toy steps on a Ray cluster of several nodes on this machine, and loses one of them half-way.

Arguments: corpus, number of videos, run. The last line that it prints is a JSON object: what stood behind a marker of
``tracks`` when the node was gone, and how many lines ``TOY_LOG`` had then. All of it listens on 127.0.0.1.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

NODES = 3
HERE = {"node_ip_address": "127.0.0.1", "object_store_memory": 80 * 2**20}

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # or Ray turns 127.0.0.1 into the machine's outward address


def main(corpus: str, n: int, run: str) -> None:
    import ray
    from ray.cluster_utils import Cluster

    from infra.storage import open_store
    from pipelines.engine import run_steps
    from tests.pipelines.conftest import load_toy
    from tests.pipelines.test_soak import finished

    toy = load_toy()
    ray.cloudpickle.register_pickle_by_value(toy)
    steps = [replace(step, resources=replace(step.resources, cpus=1.0)) for step in toy.toy_steps(0.2, 4)]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **HERE})
    others = [cluster.add_node(num_cpus=1, **HERE) for _ in range(NODES - 1)]
    cluster.connect()
    store, said = open_store(corpus), {}

    def behind() -> list[str]:
        return sorted(item for step, item in finished(store) if step == "tracks")

    def lose_one() -> None:
        while len(behind()) < n // 3:
            time.sleep(0.1)
        cluster.remove_node(others[0], allow_graceful=False)
        said["behind"] = behind()
        said["logged"] = len(Path(os.environ["TOY_LOG"]).read_text().splitlines())

    watcher = threading.Thread(target=lose_one, daemon=True)
    watcher.start()
    summaries = run_steps(steps, toy.sources(n), store, run, after=toy.AFTER)
    watcher.join()
    nodes = [NODES, sum(node["Alive"] for node in ray.nodes())]
    print(json.dumps({"items": {s.step: s.items for s in summaries}, "nodes": nodes, **said}))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
