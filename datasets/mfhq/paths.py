"""Paths of a corpus: the one list of them, for writers and readers.

::

    sources/{number}.parquet                                    source rows as handed in, the newest of a key counting
    steps/{step}/{fingerprint}/step.json                        what ran: settings, weights, schema
    steps/{step}/{fingerprint}/{shard}/{part}.json              marker: the part is complete (conditional create)
    steps/{step}/{fingerprint}/{shard}/{part}-{digest}.parquet  its rows
    steps/{step}/{fingerprint}/{shard}/{part}-{digest}.blobs    its images, packed
    biometric/steps/...                                         the same, of steps that are private
    biometric/clusterings/{number}.json                         a clustering of all tracks (conditional create)
    biometric/clusterings/{digest}.parquet                      its tables
    biometric/clusterings/work/...                              a clustering that has not ended
    ledger/{step}/{fingerprint}/{shard}-{run}-{digest}.parquet  every attempt at every item
    clusterings/{version}.parquet                               result of a clustering, before any decision
    decisions/{number}.parquet                                  decisions of reviewers, in the order of saving
    takedowns/{takedown}.json                                   withdrawn ids and URIs, as digests
    takedowns/{takedown}.done                                   marker: no file holds them any more
    runs/{run}.json                                             runs that made or read a snapshot
    tables/{table}/{digest}.parquet                             published tables (biometric/tables/... for embeddings)
    snapshots/v0001.json                                        a snapshot's manifest (conditional create)
"""

from __future__ import annotations

BIOMETRIC = "biometric/"
"""Prefix of data that identify a person: it can be given narrower access rights than the rest."""

SOURCES = "sources/"
LEDGER = "ledger/"
RUNS = "runs/"
DECISIONS = "decisions/"
TAKEDOWNS = "takedowns/"
SNAPSHOTS = "snapshots/"

CLUSTERINGS = f"{BIOMETRIC}clusterings/"
"""Prefix of clusterings before review. It can be deleted: the next clustering then does everything anew."""

PRIVATE_TABLES = frozenset({"embeddings"})
"""Published tables that lie under ``BIOMETRIC``."""


def step_prefix(step: str, fingerprint: str, private: bool) -> str:
    """Return the folder of a step's output, with a slash at its end.

    Args:
        step: Name of the step.
        fingerprint: Fingerprint of the step.
        private: Whether its output identifies people.
    """
    return f"{BIOMETRIC if private else ''}steps/{step}/{fingerprint}/"


def shard_prefix(step: str, fingerprint: str, private: bool, shard: int) -> str:
    """Return the folder of one logical shard of a step's output, with a slash at its end.

    Args:
        step: Name of the step.
        fingerprint: Fingerprint of the step.
        private: Whether its output identifies people.
        shard: Number of the shard.
    """
    return f"{step_prefix(step, fingerprint, private)}{shard:04x}/"


def ledger_path(step: str, fingerprint: str, shard: int, run_id: str, digest: str) -> str:
    """Return the path of a ledger file: attempts of one run in one shard, named by their content.

    Args:
        step: Name of the step.
        fingerprint: Fingerprint of the step.
        shard: Number of the shard.
        run_id: Id of the run.
        digest: Digest of the file's rows.
    """
    return f"{LEDGER}{step}/{fingerprint}/{shard:04x}-{run_id}-{digest}.parquet"


def table_path(table: str, digest: str) -> str:
    """Return the path of a published table's file, named by its content.

    Args:
        table: Name of the table.
        digest: Digest of the file's rows.
    """
    return f"{BIOMETRIC if table in PRIVATE_TABLES else ''}tables/{table}/{digest}.parquet"


def clustering_path(version: str) -> str:
    """Return the path of a clustering's own assignments."""
    return f"clusterings/{version}.parquet"


def snapshot_path(version: int) -> str:
    """Return the path of a snapshot's manifest."""
    return f"{SNAPSHOTS}v{version:04d}.json"


def run_path(run_id: str) -> str:
    """Return the path of a run's record."""
    return f"{RUNS}{run_id}.json"
