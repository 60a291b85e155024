"""What a run would do, and what it would cost: from the digest cache, the markers and the ledger, with nothing run."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mfhq.ids import N_SHARDS
from mfhq.paths import LEDGER
from mfhq.schema import OK
from mfhq.store import Store
from mfhq.takedowns import denied_by_all
from pipelines.engine.state import TASK_ITEMS, BoundStep, finished, outcomes
from pipelines.mining.digests import CACHED, cached_digests
from pipelines.mining.source_listing import LIST_EXTENSIONS, list_sources, listed_uris

LEDGER_FILES = 400
"""Most files of the ledger that a step's cost is measured on."""

REQUESTS_A_TASK = 7
"""Of one task in one step: list the markers of the step and of the one before, read rows and pictures, write ledger,
pictures, rows and marker; a step without pictures makes fewer."""


@dataclass(frozen=True)
class StepPlan:
    """What is left to do in one step."""

    step: str
    done: int
    """Items of the source list that are finished."""
    pending: int
    """Items that will be worked on, those that an earlier step is expected to reject left out."""
    seconds_each: float | None
    """Measured worker time; None where the ledger knows nothing of this step."""
    bytes_each: float | None
    requests: int
    measured_on: int
    """Attempts that the two means are of."""

    @property
    def seconds(self) -> float | None:
        """Worker time of all pending items."""
        return None if self.seconds_each is None else self.pending * self.seconds_each


@dataclass(frozen=True)
class MiningPlan:
    """What ``mine`` would do with a source."""

    files: int
    known: int
    """Files whose digest the corpus remembers; the others are read once to make it, and count as pending."""
    bytes_to_read: int | None
    """Of the pending files, for every time that they are fetched; None where the list does not say how large."""
    steps: tuple[StepPlan, ...]

    @property
    def seconds(self) -> float | None:
        """Worker time of all steps; None while one of them with pending items was never measured."""
        spent = [s.seconds for s in self.steps if s.pending]
        return None if None in spent else sum(s for s in spent if s is not None)


def make_mining_plan(
    source: str, store: Store, bound: Sequence[BoundStep], filesystem: Any = None, max_attempts: int = 3
) -> MiningPlan:
    """Hold a source against a corpus. The entries of a list file are looked up by URI; none of them is asked for, and
    those that a take-down names are left out.

    Raises ``SourceError`` as ``list_sources`` does, StoreError where the corpus can't be read.
    """
    sources = denied_by_all(store).without(_sources(source, filesystem))
    video_ids = _known_ids(sources, cached_digests(store))
    known = pc.unique(video_ids.drop_null())
    unknown = video_ids.null_count
    expected: dict[str, float] = {}
    """Of each step: items that will newly reach it."""
    share_ok: dict[str, float] = {}
    steps = []
    ok: dict[str, pa.Array] = {}
    for b in bound:
        name, before = b.step.name, b.upstream.name if b.upstream else None
        found = outcomes(store, b.at)
        done = finished(found, max_attempts)
        reached = known if before is None else ok[before]
        mine = pc.is_in(done["item_id"], value_set=reached) if done.num_rows else pa.array([], pa.bool_())
        done = done.filter(mine)
        coming = float(unknown) if before is None else expected[before] * share_ok[before]
        expected[name] = len(reached) - done.num_rows + coming
        ok[name] = done.filter(pc.equal(done["status"], OK))["item_id"].combine_chunks()
        share_ok[name] = len(ok[name]) / done.num_rows if done.num_rows else 1.0
        cost = _cost(store, name, b.at.fingerprint)
        pending = round(expected[name])
        tasks = max(min(N_SHARDS, pending), -(-pending // TASK_ITEMS)) if pending else 0
        steps.append(StepPlan(name, done.num_rows, pending, *cost[:2], tasks * REQUESTS_A_TASK, cost[2]))
    n_bytes = None
    if "size" in sources.column_names:
        first = finished(outcomes(store, bound[-1].at), max_attempts)
        open_ = pc.invert(pc.is_in(video_ids, value_set=first["item_id"].combine_chunks()))
        fetched = 1 + sum("uri" in b.step.input.names for b in bound)
        n_bytes = fetched * int(pc.sum(sources["size"].filter(open_)).as_py() or 0)
    return MiningPlan(sources.num_rows, sources.num_rows - unknown, n_bytes, tuple(steps))


def _sources(source: str, filesystem: Any) -> pa.Table:
    """uri, and for a folder or a prefix size and stamp too."""
    if os.fspath(source).lower().endswith(LIST_EXTENSIONS):
        return pa.table({"uri": listed_uris(source, filesystem)})
    rows = [(s.uri, s.size, s.stamp) for s in list_sources(source, filesystem)]
    columns = list(zip(*rows, strict=True))
    return pa.table([pa.array(c, t) for c, t in zip(columns, CACHED.types[:3], strict=True)], names=CACHED.names[:3])


def _known_ids(sources: pa.Table, cache: pa.Table) -> pa.Array:
    """The ``video_id`` of each source; null where the corpus does not know it."""
    cache = cache.combine_chunks()
    names = [name for name in CACHED.names[:3] if name in sources.column_names]

    def key(table: pa.Table) -> pa.Array:
        if names == ["uri"]:
            return pa.concat_arrays([pa.array([], pa.string()), *table["uri"].chunks])
        joined = pc.binary_join_element_wise(*(table[name].cast(pa.string()) for name in names), "\n")
        return pa.concat_arrays([pa.array([], pa.string()), *joined.chunks])

    at = pc.index_in(key(sources), value_set=key(cache))
    return pa.concat_arrays([pa.array([], pa.string()), *cache["video_id"].chunks]).take(at)


def _cost(store: Store, step: str, fingerprint: str) -> tuple[float | None, float | None, int]:
    """(seconds, bytes) of an attempt on average, and of how many: under this fingerprint, else under any."""
    for prefix in (f"{LEDGER}{step}/{fingerprint}/", f"{LEDGER}{step}/"):
        paths = list(store.list(prefix))
        if paths:
            paths = sorted(random.Random(0).sample(paths, min(LEDGER_FILES, len(paths))))
            with ThreadPoolExecutor(16) as pool:
                tables = list(pool.map(lambda path: _seconds_and_bytes(store, path), paths))
            table = pa.concat_tables(tables)
            return pc.mean(table["seconds"]).as_py(), pc.mean(table["bytes"]).as_py(), table.num_rows
    return None, None, 0


def _seconds_and_bytes(store: Store, path: str) -> pa.Table:
    with store.filesystem.open(store.url(path), "rb") as stream:
        return pq.ParquetFile(stream).read(["seconds", "bytes"], use_threads=False)
