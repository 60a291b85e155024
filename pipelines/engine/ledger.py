"""The ledger: one row per attempt at an item, even if the part with its output was never committed."""

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
    """Attempts of one step in one run, collected until their part is written."""

    step: str
    fingerprint: str
    run_id: str
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, rows: pa.Table, key: str, attempts: list[int], errors: dict[str, str], seconds: float) -> None:
        """Add one attempt for each output row.

        Args:
            rows: Output rows of the step.
            key: The column that identifies an item.
            attempts: Number of the attempt at each row's item, counted from 1.
            errors: Id of each failed item to its traceback.
            seconds: Time spent on all rows together; each row is charged an equal share.
        """
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
        """Write the collected attempts and clear them; called before the part's marker is created.

        Args:
            store: The corpus.
            shard: The logical shard of the items.
        """
        if self.rows:
            data = to_parquet(pa.Table.from_pylist(self.rows, schema=ATTEMPTS))
            digest = hashlib.sha256(data).hexdigest()[:12]
            store.write(ledger_path(self.step, self.fingerprint, shard, self.run_id, digest), data)
            self.rows = []
