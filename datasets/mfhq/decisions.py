"""Decisions of reviewers: rows in the corpus that override every later clustering.

Decisions are saved in numbered, immutable files. A conditional create assigns the number, so two reviewers cannot
overwrite each other's rows. The table ``decisions`` of a snapshot has all rows that were saved before it was published.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa

from mfhq.ids import digest
from mfhq.parquet import from_parquet, to_parquet
from mfhq.paths import DECISIONS
from mfhq.schema import DECISIONS as SCHEMA
from mfhq.store import Store

ACCEPT, SPLIT, MERGE = "accept", "split", "merge"
KINDS = (ACCEPT, SPLIT, MERGE)
"""All kinds of decisions; ``mfhq.schema.DECISIONS`` describes them."""


@dataclass(frozen=True, order=True)
class Decision:
    """Decision on a track or on two identities; ``mfhq.schema.DECISIONS`` describes the kinds and columns.

    Raises:
        ValueError: The kind is unknown, or the wrong ids are given for it.
    """

    kind: str
    """One of ``KINDS``."""
    identity_id: str
    """Id of the identity."""
    track_id: str = ""
    """Id of the track, for ``ACCEPT`` and ``SPLIT``; otherwise empty."""
    other_id: str = ""
    """Id of a second identity, for ``MERGE`` and some rows of ``SPLIT``; otherwise empty."""

    def __post_init__(self) -> None:
        allowed = {ACCEPT: [(True, False)], SPLIT: [(True, False), (True, True)], MERGE: [(False, True)]}
        if self.kind not in allowed:
            raise ValueError(f"decision of kind {self.kind!r}; it must be one of {', '.join(KINDS)}")
        if not self.identity_id or (bool(self.track_id), bool(self.other_id)) not in allowed[self.kind]:
            raise ValueError(f"{self}: accept and split name an identity and a track, merge two identities")
        if self.identity_id == self.other_id:
            raise ValueError(f"{self.kind} of identity {self.identity_id} with itself; name two")


def decision_rows(decisions: Sequence[Decision], reviewer: str, made_at: datetime.datetime) -> pa.Table:
    """Return the rows of one reviewer's decisions, schema ``mfhq.schema.DECISIONS``.

    Args:
        decisions: The decisions, in any order; duplicates count once.
        reviewer: Name of the reviewer.
        made_at: Time at which the decisions were made, UTC.
    """
    common = {"reviewer": reviewer, "made_at": made_at}
    rows = [asdict(decision) | common for decision in sorted(set(decisions))]
    return pa.Table.from_pylist([{"decision_id": digest(row)} | row for row in rows], schema=SCHEMA)


def record_decisions(store: Store, rows: pa.Table) -> str:
    """Save rows in a new file, whose number follows that of the newest file.

    Args:
        store: The corpus.
        rows: Rows from ``decision_rows``.

    Returns:
        Path of the file.
    """
    data = to_parquet(rows)
    while True:
        last = max((int(path[len(DECISIONS) :].split(".")[0]) for path in store.list(DECISIONS)), default=0)
        path = f"{DECISIONS}{last + 1:08d}.parquet"
        if store.create(path, data) or store.read(path) == data:
            return path


def read_decisions(store: Store) -> pa.Table:
    """Read all decisions, ordered by the time at which they were made; a later decision overrides an earlier one."""
    remedy = "these decisions are lost: restore the file, or delete it and review again"
    paths = store.list(DECISIONS)
    files = [from_parquet(store.read(path), SCHEMA, None, f"{store.uri}/{path}", remedy) for path in paths]
    rows = pa.concat_tables([SCHEMA.empty_table(), *files])
    return rows.sort_by([("made_at", "ascending"), ("decision_id", "ascending")]).replace_schema_metadata(
        SCHEMA.metadata
    )
