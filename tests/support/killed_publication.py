"""A publication of the toy corpus that ends itself, as a kill -9 does, at one of its writes.

Arguments: corpus, number of the write, and ``before`` or ``after`` it. The number of writes is printed at the end.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from infra.storage import FolderStore, open_store
from pipelines.engine.state import fingerprints
from pipelines.publishing.publish_presets import SMALL
from pipelines.publishing.publish_snapshot import publish_snapshot
from tests.support import toy_mining
from tests.support.mined_tables import mined_tables

_lock = threading.Lock()


def main(corpus: str, number: int, when: str) -> None:
    """Publish, and die at one of the writes to the corpus."""
    done = 0

    def dying(function):
        def call(*arguments):
            nonlocal done
            with _lock:
                done += 1
                dies = done == number
                if dies and when == "before":
                    os.kill(os.getpid(), signal.SIGKILL)
                result = function(*arguments)
                if dies:
                    os.kill(os.getpid(), signal.SIGKILL)
                return result

        return call

    FolderStore.write, FolderStore.create = dying(FolderStore.write), dying(FolderStore.create)
    store = open_store(corpus)
    prints = fingerprints(toy_mining.toy_steps(), toy_mining.AFTER)
    cut = mined_tables(store, prints, SMALL)
    publish_snapshot(store, prints, toy_mining.assign(cut), SMALL, track_embeddings=toy_mining.means(cut))
    print(done)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
