"""Record of a tracked run in the corpus's table ``runs``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infra.tracking import TrackedRun, config_hash, git_revision
from mfhq.corpus_tables import record_run
from mfhq.store import Store


def record_tracked_run(
    store: Store, run: TrackedRun, kind: str, version: str, config: Mapping[str, Any], parent: str | None = None
) -> None:
    """Record a run in the corpus, with the revision of the code and the hash of the run's config.

    Args:
        store: The corpus.
        run: The tracked run.
        kind: Kind of the run: mine, cluster, pretrain ...
        version: Name of the snapshot that the run made or read; empty for none.
        config: Settings of the run, as they were logged.
        parent: Id of the run that this run continues or is a part of; None or empty for none.
    """
    record_run(store, run.run_id, kind, version, git_revision(), config_hash(config), parent)
