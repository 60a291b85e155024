"""Record of a tracked run in the corpus's table ``runs``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect.artifacts import create_markdown_artifact

from flows.corpus.flow_session import in_prefect
from infra.tracking import TrackedRun, config_hash, git_revision
from mfhq.corpus_tables import record_run
from mfhq.store import Store


def record_tracked_run(
    store: Store, run: TrackedRun, kind: str, version: str, config: Mapping[str, Any], parent: str | None = None
) -> None:
    """Record a run in the corpus, with the revision of the code and the hash of the run's config.

    A run of Prefect gets an artifact, too, that leads to the snapshot and to MLflow's run.

    Args:
        store: The corpus.
        run: The tracked run.
        kind: Kind of the run: mine, cluster, pretrain ...
        version: Name of the snapshot that the run made or read; empty for none.
        config: Settings of the run, as they were logged.
        parent: Id of the run that this run continues or is a part of; None or empty for none.
    """
    if in_prefect():
        create_markdown_artifact(describe_run(store.uri, run, kind, version), key=f"run-{kind}")
    record_run(store, run.run_id, kind, version, git_revision(), config_hash(config), parent)


def describe_run(uri: str, run: TrackedRun, kind: str, version: str) -> str:
    """Return Markdown that names a run's corpus and snapshot, the run in MLflow, and the command that shows a report.

    Args:
        uri: URI of the corpus.
        run: The tracked run.
        kind: Kind of the run.
        version: Name of the snapshot; empty for none.
    """
    page = run.page
    lines = [f"# {kind}", "", f"- corpus `{uri}`", *([f"- snapshot `{version}`"] if version else [])]
    lines.append(f"- MLflow run [{run.run_id}]({page})" if page else f"- MLflow run `{run.run_id}`")
    return "\n".join([*lines, f"- report: `ffavatar report --corpus {uri} -o DIR`"])
