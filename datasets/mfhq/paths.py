"""Paths of the files in a corpus; writers and readers take all paths from this module.

::

    sources/{number}.parquet                                    source rows as submitted; the newest row per key counts
    steps/{step}/{fingerprint}/step.json                        description of a step: settings, weights, schema
    steps/{step}/{fingerprint}/{shard}/{part}.json              marker: the part is complete (conditional create)
    steps/{step}/{fingerprint}/{shard}/{part}-{digest}.parquet  rows of the part
    steps/{step}/{fingerprint}/{shard}/{part}-{digest}.blobs    images of the part, packed
    biometric/steps/...                                         the same files, for steps whose output is private
    biometric/clusterings/{number}.json                         record of a clustering (conditional create)
    biometric/clusterings/{digest}.parquet                      tables of the clustering, with embeddings
    biometric/clusterings/work/...                              an unfinished clustering
    ledger/{step}/{fingerprint}/{shard}-{run}-{digest}.parquet  every attempt at every item
    clusterings/{version}.parquet                               a clustering's assignments before reviewers' decisions
    decisions/{number}.parquet                                  decisions of reviewers, in the order of saving
    takedowns/{takedown}.json                                   withdrawn ids and URIs, as digests
    takedowns/{takedown}.done                                   marker: no file contains the withdrawn ids any more
    runs/{run}.json                                             a run that made or read a snapshot
    tables/{table}/{digest}.parquet                             published tables (biometric/tables/... for embeddings)
    cache/unfinished/{step}/{fingerprint}/{shard}/...           parts of an item that a step has not finished
    publishing/{key}.json                                       names of files that publishing can use again
    snapshots/v0001.json                                        a snapshot's manifest (conditional create)
    cards/v0001-{digest}.md, .json                              a snapshot's data card, as Markdown and as Croissant

The two kinds of clusterings differ in their use. Those in ``biometric/clusterings/`` have everything that is needed to
add new tracks to the newest clustering; only the newest is kept, and the folder may be deleted. Those in
``clusterings/`` have only the identity of each track, without embeddings; one per version is kept, so that the next
clustering can reuse the ids of people.
"""

from __future__ import annotations

BIOMETRIC = "biometric/"
"""Prefix of data that can identify a person; a prefix of its own can have stricter access rights."""

SOURCES = "sources/"
LEDGER = "ledger/"
RUNS = "runs/"
DECISIONS = "decisions/"
TAKEDOWNS = "takedowns/"
SNAPSHOTS = "snapshots/"
CARDS = "cards/"
PUBLISHING = "publishing/"

CLUSTERINGS = f"{BIOMETRIC}clusterings/"
"""Prefix of the data that new tracks are added to. It may be deleted; then the next clustering clusters all tracks."""

PRIVATE_TABLES = frozenset({"embeddings"})
"""Published tables that are stored under ``BIOMETRIC``."""


def step_prefix(step: str, fingerprint: str, private: bool) -> str:
    """Return the folder of a step's output, with a slash at its end.

    Args:
        step: Name of the step.
        fingerprint: Fingerprint of the step.
        private: True if the step's output can identify people.
    """
    return f"{BIOMETRIC if private else ''}steps/{step}/{fingerprint}/"


def shard_prefix(step: str, fingerprint: str, private: bool, shard: int) -> str:
    """Return the folder of one logical shard of a step's output, with a slash at its end.

    Args:
        step: Name of the step.
        fingerprint: Fingerprint of the step.
        private: True if the step's output can identify people.
        shard: Number of the shard.
    """
    return f"{step_prefix(step, fingerprint, private)}{shard:04x}/"


def unfinished_prefix(step: str, fingerprint: str, shard: int) -> str:
    """Return the folder with the parts of a shard's items that a step has not finished, with a slash at its end.

    Args:
        step: Name of the step.
        fingerprint: Fingerprint of the step.
        shard: Number of the shard.
    """
    return f"cache/unfinished/{step}/{fingerprint}/{shard:04x}/"


def ledger_path(step: str, fingerprint: str, shard: int, run_id: str, digest: str) -> str:
    """Return the path of a ledger file, which has attempts of one run in one shard and is named by its content.

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
    """Return the path of a clustering's assignments before reviewers' decisions."""
    return f"clusterings/{version}.parquet"


def snapshot_path(version: int) -> str:
    """Return the path of a snapshot's manifest."""
    return f"{SNAPSHOTS}v{version:04d}.json"


def card_path(version: int, digest: str, form: str) -> str:
    """Return the path of a snapshot's data card.

    Args:
        version: Number of the snapshot.
        digest: Digest of the card.
        form: Ending of the file, without the dot.
    """
    return f"{CARDS}v{version:04d}-{digest}.{form}"


def run_path(run_id: str) -> str:
    """Return the path of a run's record."""
    return f"{RUNS}{run_id}.json"
