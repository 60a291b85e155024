"""Plan of a mining run: pending items and their cost, estimated from the digest cache, the markers and the ledger."""

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

from mfhq.corpus_tables import ledger_files
from mfhq.ids import N_SHARDS
from mfhq.schema import OK
from mfhq.store import Store
from mfhq.takedowns import read_deny_list
from pipelines.engine.state import TASK_ITEMS, BoundStep, read_outcomes, select_finished
from pipelines.mining.digests import CACHED, cached_digests
from pipelines.mining.source_listing import list_sources
from pipelines.mining.source_lists import LIST_EXTENSIONS, read_list

LEDGER_FILES = 400
"""Upper bound on the files of the ledger from which a step's cost is estimated."""

REQUESTS_A_TASK = 7
"""Typical number of requests to the store that one task makes in one step.

They list the markers of the step and of its upstream step, read rows and images, and write ledger, images, rows and
marker. A step without images makes fewer.
"""


@dataclass(frozen=True)
class StepPlan:
    """Pending items of one step and their cost."""

    step: str
    done: int
    """Number of the source's items that are finished."""
    pending: int
    """Expected number of items to process, without those that an earlier step is expected to reject."""
    seconds_each: float | None
    """Mean worker time per attempt, measured; None if the ledger has no attempt of this step."""
    bytes_each: float | None
    """Mean bytes of output per attempt, measured; None if the ledger has no attempt of this step."""
    requests: int
    """Expected number of requests to the store."""
    measured_on: int
    """Number of attempts that the two means were computed from."""

    @property
    def seconds(self) -> float | None:
        """Expected worker time of all pending items; None if ``seconds_each`` is None."""
        return None if self.seconds_each is None else self.pending * self.seconds_each


@dataclass(frozen=True)
class MiningPlan:
    """Work that ``mine`` would do on one source."""

    files: int
    known: int
    """Number of files whose digest is cached; the others are read once to compute it, and count as pending."""
    bytes_to_read: int | None
    """Bytes of the pending files, times the number of times that each file is fetched; None for a list file, which
    gives no sizes."""
    steps: tuple[StepPlan, ...]

    @property
    def seconds(self) -> float | None:
        """Expected worker time of all steps; None if a step with pending items was never measured."""
        spent = [s.seconds for s in self.steps if s.pending]
        return None if None in spent else sum(s for s in spent if s is not None)


def make_mining_plan(
    source: str, store: Store, bound: Sequence[BoundStep], filesystem: Any = None, max_attempts: int = 3
) -> MiningPlan:
    """Estimate the work of mining a source into a corpus; nothing is run.

    The entries of a list file are looked up by URI, and the files that they name are not opened. Items that a take-down
    names are left out.

    Args:
        source: A source as in ``list_sources``.
        store: The corpus.
        bound: The mining steps.
        filesystem: fsspec, for remote sources.
        max_attempts: Number of attempts after which a failed item counts as finished.

    Raises:
        SourceError: The source cannot be listed (``list_sources``).
        StoreError: The corpus cannot be read.
    """
    sources = read_deny_list(store).prune(_read_sources(source, filesystem))
    video_ids = _lookup_video_ids(sources, cached_digests(store))
    known = pc.unique(video_ids.drop_null())
    n_unknown = video_ids.null_count
    expected: dict[str, float] = {}
    """Step name to the expected number of items that the step has to process."""
    share_ok: dict[str, float] = {}
    ok_ids: dict[str, pa.Array] = {}
    steps = []
    for b in bound:
        name, upstream = b.step.name, b.upstream.name if b.upstream else None
        finished = select_finished(read_outcomes(store, b.location), max_attempts)
        reaching = known if upstream is None else ok_ids[upstream]
        is_listed = pc.is_in(finished["item_id"], value_set=reaching) if finished.num_rows else pa.array([], pa.bool_())
        finished = finished.filter(is_listed)
        fresh = float(n_unknown) if upstream is None else expected[upstream] * share_ok[upstream]
        expected[name] = len(reaching) - finished.num_rows + fresh
        ok_ids[name] = finished.filter(pc.equal(finished["status"], OK))["item_id"].combine_chunks()
        share_ok[name] = len(ok_ids[name]) / finished.num_rows if finished.num_rows else 1.0
        seconds, n_bytes, n_attempts = _mean_cost(store, name, b.location.fingerprint)
        pending = round(expected[name])
        tasks = max(min(N_SHARDS, pending), -(-pending // TASK_ITEMS)) if pending else 0
        requests = tasks * REQUESTS_A_TASK
        steps.append(StepPlan(name, finished.num_rows, pending, seconds, n_bytes, requests, n_attempts))
    bytes_to_read = None
    if "size" in sources.column_names:
        finished = select_finished(read_outcomes(store, bound[-1].location), max_attempts)
        is_open = pc.invert(pc.is_in(video_ids, value_set=finished["item_id"].combine_chunks()))
        n_fetches = 1 + sum("uri" in b.step.input.names for b in bound)
        bytes_to_read = n_fetches * int(pc.sum(sources["size"].filter(is_open)).as_py() or 0)
    return MiningPlan(sources.num_rows, sources.num_rows - n_unknown, bytes_to_read, tuple(steps))


def _read_sources(source: str, filesystem: Any) -> pa.Table:
    """Return a table of the source's files: uri, and for a folder or a prefix also size and stamp."""
    if os.fspath(source).lower().endswith(LIST_EXTENSIONS):
        return read_list(source, filesystem).select(["uri"])
    rows = [(s.uri, s.size, s.stamp) for s in list_sources(source, filesystem)]
    columns = list(zip(*rows, strict=True))
    return pa.table([pa.array(c, t) for c, t in zip(columns, CACHED.types[:3], strict=True)], names=CACHED.names[:3])


def _lookup_video_ids(sources: pa.Table, cache: pa.Table) -> pa.Array:
    """Return the ``video_id`` of each source; null if it is not cached."""
    cache = cache.combine_chunks()
    names = [name for name in CACHED.names[:3] if name in sources.column_names]

    def key(table: pa.Table) -> pa.Array:
        if names == ["uri"]:
            return pa.concat_arrays([pa.array([], pa.string()), *table["uri"].chunks])
        joined = pc.binary_join_element_wise(*(table[name].cast(pa.string()) for name in names), "\n")
        return pa.concat_arrays([pa.array([], pa.string()), *joined.chunks])

    index = pc.index_in(key(sources), value_set=key(cache))
    return pa.concat_arrays([pa.array([], pa.string()), *cache["video_id"].chunks]).take(index)


def _mean_cost(store: Store, step: str, fingerprint: str) -> tuple[float | None, float | None, int]:
    """Return the mean seconds and bytes per attempt, and the number of attempts.

    Only attempts under this fingerprint are used; if there are none, those of the step under all fingerprints.
    """

    def read(path: str) -> pa.Table:
        with store.filesystem.open(store.url(path), "rb") as stream:
            return pq.ParquetFile(stream).read(["seconds", "bytes"], use_threads=False)

    for prefix in (f"{step}/{fingerprint}/", f"{step}/"):
        paths = ledger_files(store, prefix)
        if paths:
            paths = sorted(random.Random(0).sample(paths, min(LEDGER_FILES, len(paths))))
            with ThreadPoolExecutor(16) as pool:
                table = pa.concat_tables(list(pool.map(read, paths)))
            return pc.mean(table["seconds"]).as_py(), pc.mean(table["bytes"]).as_py(), table.num_rows
    return None, None, 0
