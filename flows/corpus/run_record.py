"""Record of a tracked run in the corpus: the table ``runs``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infra.tracking import TrackedRun, config_hash, git_revision
from mfhq.corpus_tables import record_run
from mfhq.store import Store


def record_tracked_run(
    store: Store, run: TrackedRun, kind: str, version: str, config: Mapping[str, Any], parent: str | None = None
) -> None:
    """Record a run with the revision of the code and the hash of its config.

    Args:
        store: The corpus.
        run: The run, as it is tracked.
        kind: The run's kind: mine, cluster, pretrain ...
        version: Name of the snapshot that the run made or read; empty for none.
        config: Settings of the run, as they were logged.
        parent: Id of the run that this one continues.
    """
    record_run(store, run.run_id, kind, version, git_revision(), config_hash(config), parent)
