"""What reviewers decided: rows in the corpus that win over every clustering from then on.

Files are immutable and numbered by conditional create, so that no two reviewers' rows get in each other's way, and each
snapshot's ``decisions`` table holds all that were saved when it was published.
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


@dataclass(frozen=True, order=True)
class Decision:
    """One row: see ``mfhq.schema.DECISIONS`` for what each kind means."""

    kind: str
    identity_id: str
    track_id: str = ""
    other_id: str = ""

    def __post_init__(self) -> None:
        wants = {ACCEPT: [(True, False)], SPLIT: [(True, False), (True, True)], MERGE: [(False, True)]}
        if self.kind not in wants:
            raise ValueError(f"decision of kind {self.kind!r}; it must be one of {', '.join(KINDS)}")
        if not self.identity_id or (bool(self.track_id), bool(self.other_id)) not in wants[self.kind]:
            raise ValueError(f"{self}: accept and split name an identity and a track, merge two identities")
        if self.identity_id == self.other_id:
            raise ValueError(f"{self.kind} of identity {self.identity_id} with itself; name two")


def decision_rows(decisions: Sequence[Decision], reviewer: str, made_at: datetime.datetime) -> pa.Table:
    """Rows (``mfhq.schema.DECISIONS``) of what one reviewer decided at one moment (UTC)."""
    said = {"reviewer": reviewer, "made_at": made_at}
    rows = [asdict(decision) | said for decision in sorted(set(decisions))]
    return pa.Table.from_pylist([{"decision_id": digest(row)} | row for row in rows], schema=SCHEMA)


def record_decisions(store: Store, rows: pa.Table) -> str:
    """Save rows, whole or not at all, after all that were saved before; returns the file's path."""
    data = to_parquet(rows)
    while True:
        last = max((int(path[len(DECISIONS) :].split(".")[0]) for path in store.list(DECISIONS)), default=0)
        path = f"{DECISIONS}{last + 1:08d}.parquet"
        if store.create(path, data) or store.read(path) == data:
            return path


def read_decisions(store: Store) -> pa.Table:
    """Every decision, in the order in which they were made: a later row on the same track wins."""
    files = [from_parquet(store.read(path), SCHEMA) for path in store.list(DECISIONS)]
    rows = pa.concat_tables([SCHEMA.empty_table(), *files])
    return rows.sort_by([("made_at", "ascending"), ("decision_id", "ascending")]).replace_schema_metadata(
        SCHEMA.metadata
    )
