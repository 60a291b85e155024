"""Finished parts of items that take long, kept in the corpus until the item is committed.

A step that works on one item for minutes (``Step.in_parts``) saves what it has of it now and then. After a kill or a
time limit, the next attempt at the item reads these parts and goes on behind them. They lie below ``cache/``: their
loss costs time only. They are Parquet files that have the item's id in a column, so take-downs find them.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable

import pyarrow as pa

from mfhq.ids import shard_of
from mfhq.parquet import from_parquet, to_parquet
from mfhq.paths import unfinished_prefix
from mfhq.seals import DamagedFileError
from mfhq.store import Store

log = logging.getLogger(__name__)

REPORT_SECONDS = 0.5
"""Shortest time between two reports of the share of an item that is done, seconds."""


class UnfinishedItems:
    """The parts of a step's items of one shard, and the share of the item in work that is done.

    Without a corpus nothing is kept.
    """

    def __init__(
        self,
        store: Store | None = None,
        step: str = "",
        fingerprint: str = "",
        report: Callable[[str, float], None] | None = None,
    ) -> None:
        """Prepare; nothing is listed or read yet.

        Args:
            store: The corpus; None to keep nothing.
            step: Name of the step.
            fingerprint: Fingerprint of the step.
            report: Receives an item's id and the share of it that is done, 0 to 1.
        """
        self._store, self._step, self._fingerprint = store, step, fingerprint
        self._report, self._reported_at, self._reported = report, 0.0, set[str]()
        self._paths: defaultdict[str, list[str]] = defaultdict(list)
        """Id of an item to the paths of its parts, in their order."""
        self._listed: set[int] = set()

    def read(self, key: str, schema: pa.Schema) -> list[pa.Table]:
        """Return the parts of an item, in the order in which they were saved, up to the first damaged one.

        Args:
            key: The item's id.
            schema: Schema of the parts.
        """
        self._list(key)
        parts: list[pa.Table] = []
        if self._store is None:
            return parts
        for path in list(self._paths[key]):
            try:
                parts.append(from_parquet(self._store.read(path), schema, None, f"{self._store.uri}/{path}", "none"))
            except (DamagedFileError, FileNotFoundError) as error:
                log.warning("%s is made anew: %s", path, error)
                self._delete(self._paths[key][len(parts) :])
                self._paths[key] = self._paths[key][: len(parts)]
                break
        return parts

    def save(self, key: str, rows: pa.Table) -> None:
        """Keep the next part of an item.

        Args:
            key: The item's id.
            rows: Rows of the schema with which the part is read, one of whose columns is the item's id.
        """
        if self._store is not None:
            self._list(key)
            path = f"{self._folder(key)}{key}-{len(self._paths[key]):04d}.parquet"
            self._store.write(path, to_parquet(rows))
            self._paths[key].append(path)

    def report(self, key: str, share: float) -> None:
        """Say how much of an item is done; called as often as one likes.

        Args:
            key: The item's id.
            share: 0 to 1.
        """
        now = time.monotonic()
        if self._report is not None and now - self._reported_at >= REPORT_SECONDS:
            self._reported_at = now
            self._reported.add(key)
            self._report(key, min(1.0, max(0.0, share)))

    def report_end(self, keys: Iterable[str]) -> None:
        """Say that no attempt at these items is in work any more, if a share of one was reported.

        Args:
            keys: Ids of the items.
        """
        if self._report is not None:
            for key in self._reported.intersection(keys):
                self._report(key, 0.0)
                self._reported.discard(key)

    def drop(self, keys: Iterable[str]) -> None:
        """Delete the parts of items that are committed.

        Args:
            keys: Ids of the items.
        """
        for key in keys:
            self._delete(self._paths.pop(key, []))

    def _folder(self, key: str) -> str:
        return unfinished_prefix(self._step, self._fingerprint, shard_of(key))

    def _list(self, key: str) -> None:
        shard = shard_of(key)
        if self._store is not None and shard not in self._listed:
            self._listed.add(shard)
            for path in sorted(self._store.list(self._folder(key))):
                self._paths[path.rpartition("/")[2].rpartition("-")[0]].append(path)

    def _delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            if self._store is not None:
                self._store.delete(path)
