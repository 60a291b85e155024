"""Where things lie in a corpus: the one list of paths, for writers and readers.

::

    sources/{number}.parquet                                    source rows as handed in, the newest of a key counting
    steps/{step}/{fingerprint}/step.json                        what ran: settings, weights, schema
    steps/{step}/{fingerprint}/{shard}/{part}.json              marker: the part is whole (conditional create)
    steps/{step}/{fingerprint}/{shard}/{part}-{digest}.parquet  its rows
    steps/{step}/{fingerprint}/{shard}/{part}-{digest}.blobs    its pictures, packed
    biometric/steps/...                                         the same, of steps that are private
    biometric/clusterings/{number}.json                         a clustering of all tracks (conditional create)
    biometric/clusterings/{digest}.parquet                      its tables
    biometric/clusterings/work/...                              a clustering that has not ended
    ledger/{step}/{fingerprint}/{shard}-{run}-{digest}.parquet  every attempt at every item
    clusterings/{version}.parquet                               what a clustering said, before any decision
    decisions/{number}.parquet                                  what reviewers decided, in the order of saving
    takedowns/{takedown}.json                                   what has to leave the corpus, as digests
    takedowns/{takedown}.done                                   ... and has left its files
    runs/{run}.json                                             runs that made or read a snapshot
    tables/{table}/{digest}.parquet                             published tables (biometric/tables/... for embeddings)
    snapshots/v0001.json                                        a snapshot's manifest (conditional create)
"""

from __future__ import annotations

BIOMETRIC = "biometric/"
"""Prefix of what identifies a person: it can be given narrower access rights than the rest."""

SOURCES = "sources/"
LEDGER = "ledger/"
RUNS = "runs/"
DECISIONS = "decisions/"
TAKEDOWNS = "takedowns/"
SNAPSHOTS = "snapshots/"

CLUSTERINGS = f"{BIOMETRIC}clusterings/"
"""What clusterings said, before review. It can be deleted as a whole: the next clustering then does everything anew."""

PRIVATE_TABLES = frozenset({"embeddings"})
"""Published tables that lie under ``BIOMETRIC``."""


def step_prefix(step: str, fingerprint: str, private: bool) -> str:
    """The folder of a step's output, with a slash at its end."""
    return f"{BIOMETRIC if private else ''}steps/{step}/{fingerprint}/"


def shard_prefix(step: str, fingerprint: str, private: bool, shard: int) -> str:
    """The folder of one logical shard of a step's output, with a slash at its end."""
    return f"{step_prefix(step, fingerprint, private)}{shard:04x}/"


def ledger_path(step: str, fingerprint: str, shard: int, run_id: str, digest: str) -> str:
    """A file of the ledger: attempts of one run in one shard, named by their content."""
    return f"{LEDGER}{step}/{fingerprint}/{shard:04x}-{run_id}-{digest}.parquet"


def table_path(table: str, digest: str) -> str:
    """A file of a published table, named by its content."""
    return f"{BIOMETRIC if table in PRIVATE_TABLES else ''}tables/{table}/{digest}.parquet"


def clustering_path(version: str) -> str:
    """A clustering's own assignments."""
    return f"clusterings/{version}.parquet"


def snapshot_path(version: int) -> str:
    """The manifest of a snapshot."""
    return f"{SNAPSHOTS}v{version:04d}.json"


def run_path(run_id: str) -> str:
    """The record of a run."""
    return f"{RUNS}{run_id}.json"
