"""The ledger: every attempt at every item is a row, whether or not its part was committed."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from mfhq.parquet import to_parquet
from mfhq.paths import ledger_path
from mfhq.schema import ATTEMPTS
from mfhq.store import Store


@dataclass
class Attempts:
    """Attempts of one step in one run, gathered until the part that they belong to is written."""

    step: str
    fingerprint: str
    run_id: str
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, rows: pa.Table, key: str, attempts: list[int], errors: dict[str, str], seconds: float) -> None:
        """One attempt for each output row; each gets its share of ``seconds``, and its own bytes."""
        columns = (rows[name].to_pylist() for name in (key, "status", "reason"))
        for index, (item, status, reason, attempt) in enumerate(zip(*columns, attempts, strict=True)):
            self.rows.append(
                {
                    "item_id": item,
                    "step": self.step,
                    "fingerprint": self.fingerprint,
                    "attempt": attempt,
                    "status": status,
                    "reason": reason,
                    "error": errors.get(item),
                    "seconds": seconds / rows.num_rows,
                    "bytes": rows.slice(index, 1).nbytes,
                    "host": platform.node(),
                    "run_id": self.run_id,
                }
            )

    def write(self, store: Store, shard: int) -> None:
        """Write and forget what was gathered; called before the part's marker is made."""
        if self.rows:
            data = to_parquet(pa.Table.from_pylist(self.rows, schema=ATTEMPTS))
            digest = hashlib.sha256(data).hexdigest()[:12]
            store.write(ledger_path(self.step, self.fingerprint, shard, self.run_id, digest), data)
            self.rows = []
