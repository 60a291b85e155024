"""A process that runs steps on a Ray cluster of several nodes on this machine, and loses one of them half-way.

Arguments: corpus, ``toy`` or ``mine``, number of toy videos or folder of real ones, run. The last line that it prints
is a JSON object: what stood behind a marker of ``tracks`` when the node was lost, and, of the toy steps, how many lines
``TOY_LOG`` had then. All of it listens on 127.0.0.1.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

NODES = 3
HERE = {"node_ip_address": "127.0.0.1", "object_store_memory": 80 * 2**20}

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # or Ray turns 127.0.0.1 into the machine's outward address


def main(corpus: str, what: str, given: str, run: str) -> None:
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **HERE})
    others = [cluster.add_node(num_cpus=1, **HERE) for _ in range(NODES - 1)]
    cluster.connect()
    behind, n, work = {"toy": toy, "mine": mine}[what](corpus, given, run)
    said: dict[str, Any] = {}

    def lose_one() -> None:
        while len(behind()) < n // 3:
            time.sleep(0.1)
        cluster.remove_node(others[0], allow_graceful=False)
        said["behind"] = behind()
        if "TOY_LOG" in os.environ:
            said["logged"] = len(Path(os.environ["TOY_LOG"]).read_text().splitlines())

    watcher = threading.Thread(target=lose_one, daemon=True)
    watcher.start()
    said |= work()
    watcher.join()
    nodes = [NODES, sum(node["Alive"] for node in ray.nodes())]
    print(json.dumps({"nodes": nodes, **said}))
    ray.shutdown()
    cluster.shutdown()


Part = tuple[Callable[[], list[str]], int, Callable[[], dict[str, Any]]]
"""A function that lists the items with a marker of ``tracks``; the expected number of items; the work."""


def toy(corpus: str, given: str, run: str) -> Part:
    import ray

    from infra.storage import open_store
    from pipelines.engine.ray_data import run_steps
    from tests.pipelines.engine.test_soak import finished
    from tests.support import toy_mining as module

    store = open_store(corpus)
    ray.cloudpickle.register_pickle_by_value(module)
    steps = [replace(step, resources=replace(step.resources, cpus=1.0)) for step in module.toy_steps(0.2, 4)]

    def work() -> dict[str, Any]:
        summaries = run_steps(steps, module.sources(int(given)), store, run, after=module.AFTER)
        return {"items": {s.step: s.items for s in summaries}}

    return lambda: sorted(item for step, item in finished(store) if step == "tracks"), int(given), work


def mine(corpus: str, given: str, run: str) -> Part:
    from flows.mine import mine as mining_flow
    from infra.storage import open_store
    from tests.pipelines.engine.test_soak import mined

    store = open_store(corpus)

    def work() -> dict[str, Any]:
        return {"published": mining_flow(source=given, corpus=corpus, home=run)}

    return lambda: mined(store)["tracks"], len(list(Path(given).iterdir())), work


if __name__ == "__main__":
    main(*sys.argv[1:])
