"""Processing of some items of one shard by one step: the work of a worker, independent of the executor."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mfhq.schema import FAILED
from mfhq.store import Store
from pipelines.engine.commits import ATTEMPT, BlobFile, StepLocation, commit_part, fetch_blobs, pack_blobs
from pipelines.engine.handover import Handover
from pipelines.engine.ledger import Attempts
from pipelines.engine.state import BoundStep, OutcomeCounts, ShardState
from pipelines.engine.step import run_isolated
from pipelines.engine.unfinished import UnfinishedItems

log = logging.getLogger(__name__)

COMMIT_ROWS, COMMIT_BYTES, COMMIT_SECONDS = 1024, 96 << 20, 60.0
"""Rows, bytes of images, and age in seconds: a part is committed when it reaches one of these limits.

They bound the work that is lost when a worker is killed.
"""

MAX_SHARD_STATES = 16
"""Number of shard states that one worker keeps in memory."""

Report = Callable[[str, OutcomeCounts], None]
"""Function that is called after each batch with the step's name and the batch's outcomes."""

ReportShare = Callable[[str, str, float], None]
"""Function that is called with the step's name, an item's id, and the share of the item that is done, 0 to 1."""


class StepWorker:
    """Worker that runs one step on items of any shard.

    The step's resource is loaded at the first item that needs it, so a resume with nothing to do loads nothing.
    """

    def __init__(
        self,
        bound: BoundStep,
        store: Store,
        run_id: str,
        max_attempts: int = 3,
        report: Report | None = None,
        states: OrderedDict[tuple[str, int], ShardState] | None = None,
        report_share: ReportShare | None = None,
    ) -> None:
        """Prepare a worker; nothing is loaded or read yet.

        Args:
            bound: The step and its locations.
            store: The corpus.
            run_id: Id of the run, written into the ledger and the markers.
            max_attempts: Number of attempts, including earlier runs, after which a failed item is finished.
            report: Receives the outcomes of each batch.
            states: States of shards that the workers of a process share; by default the worker has its own.
            report_share: Receives the share that is done of an item that takes long.
        """
        self.bound, self.store, self.run_id, self.max_attempts = bound, store, run_id, max_attempts
        self.report = report or (lambda name, counts: None)
        share = partial(report_share, bound.step.name) if report_share else None
        self._unfinished = UnfinishedItems(store, bound.step.name, bound.location.fingerprint, share)
        self._resource: Any = None
        self._loaded = False
        self._states = OrderedDict[tuple[str, int], ShardState]() if states is None else states

    def process(
        self, shard: int, keys: Sequence[str], sources: pa.Table | None = None, handover: Handover | None = None
    ) -> OutcomeCounts:
        """Run the step on the items that are not finished, and commit the output.

        Items whose upstream row is not ok are skipped. Items that are finished are counted and not touched. A failed
        item is tried again until it has had ``max_attempts`` attempts.

        Args:
            shard: The logical shard.
            keys: Ids of items of this shard.
            sources: The source rows of the items; required if the step reads the sources. Another step takes some of
                its columns (the URI) from them: those that ``BoundStep.from_sources`` returns.
            handover: Rows of the steps before, which are not read from the corpus then; it receives the step's rows.

        Returns:
            The outcomes of the items that reached this step.

        Raises:
            StoreError: The corpus cannot be read or written. Committed output stays.
            RuntimeError: The step's resource cannot be loaded.
        """
        step = self.bound.step
        state = self._shard_state(self.bound.location, shard)
        upstream = self._shard_state(self.bound.upstream, shard) if self.bound.upstream else None
        reaching = sorted(keys) if upstream is None else upstream.ok(sorted(keys))
        finished = {key for key in reaching if key in state.items and state.items[key].finished(self.max_attempts)}
        counts = OutcomeCounts()
        for key in sorted(finished):
            counts.count(key, state.items[key].status, state.items[key].reason, before=True)
        self.report(step.name, counts)
        pending = [key for key in reaching if key not in finished]
        if not pending:
            return counts
        given = self._input_rows(upstream, pending, sources, handover or Handover())
        part = _PendingPart(self, state, given.digests, handover or Handover())
        attempts = {key: state.items[key].attempt if key in state.items else 0 for key in pending}
        while pending:
            failed: list[str] = []
            for start in range(0, len(pending), step.resources.batch):
                batch = given.read(pending[start : start + step.resources.batch])
                batch_counts = OutcomeCounts()
                for out, seconds in self._run_batch(batch, attempts, part):
                    final, retry = _split_failed(out, step.key, attempts, self.max_attempts)
                    failed += retry
                    batch_counts.seconds += seconds
                    part.add(final, attempts)
                    for row in final.select([step.key, "status", "reason"]).to_pylist():
                        batch_counts.count(row[step.key], row["status"], row["reason"], before=False)
                counts.add(batch_counts)
                self.report(step.name, batch_counts)
                self._unfinished.report_end(batch[step.key].to_pylist())
                part.commit_if_due()
            pending = sorted(failed)
        part.commit()
        return counts

    def drop_unfinished(self, keys: Sequence[str]) -> None:
        """Delete the parts of items that are committed; those of failed ones stay for the next attempt."""
        self._unfinished.drop(keys)

    def _run_batch(
        self, batch: pa.Table, attempts: dict[str, int], part: _PendingPart
    ) -> Iterator[tuple[pa.Table, float]]:
        """Yield the outputs of a batch with their seconds, and record each row's attempt in the ledger."""
        step = self.bound.step
        resource = self._load()
        started = time.perf_counter()
        for out, errors in run_isolated(step, resource, batch, self._unfinished):
            seconds = time.perf_counter() - started
            for key in out[step.key].to_pylist():
                attempts[key] += 1
            part.attempts.add(out, step.key, [attempts[key] for key in out[step.key].to_pylist()], errors, seconds)
            yield out, seconds
            started = time.perf_counter()

    def _input_rows(
        self, upstream: ShardState | None, keys: list[str], sources: pa.Table | None, handover: Handover
    ) -> _Inputs:
        """Gather the items' input rows: those that were passed on, and the others from the sources or the corpus."""
        step = self.bound.step
        if upstream is None:
            if sources is None:
                raise ValueError(f"step {step.name} reads the sources; pass their rows")
            rows = sources.filter(pc.is_in(sources[step.key], value_set=pa.array(keys, pa.string())))
            rows = rows.select(step.input.names).sort_by(step.key).cast(step.input)
            digests = [hashlib.sha256(repr(rows.to_pylist()).encode()).hexdigest()]
            return _Inputs(self.bound, self.store, rows, step.input.empty_table(), digests)
        passed = handover.take(upstream.location, keys)
        held = set(passed[step.key].to_pylist())
        stored, digests = upstream.read(keys, [key for key in keys if key not in held])
        if sources is not None:
            columns = self.bound.from_sources(sources.schema)
            stored, passed = (_update_columns(rows, sources, step.key, columns) for rows in (stored, passed))
        return _Inputs(self.bound, self.store, stored, passed, digests)

    def _shard_state(self, location: StepLocation, shard: int) -> ShardState:
        """Return the refreshed state of a shard; the least recently used states are dropped."""
        state = self._states.pop((location.name, shard), None) or ShardState(self.store, location, shard)
        self._states[location.name, shard] = state
        if len(self._states) > MAX_SHARD_STATES:
            self._states.popitem(last=False)
        return state.refresh()

    def _load(self) -> Any:
        if not self._loaded:
            try:
                self._resource = self.bound.step.load()
            except Exception as error:
                text = " ".join(str(error).split())
                raise RuntimeError(
                    f"step {self.bound.step.name} can't start: {type(error).__name__}: {text}"
                ) from error
            self._loaded = True
        return self._resource


@dataclass(frozen=True)
class _Inputs:
    """Input rows of a step's items."""

    bound: BoundStep
    store: Store
    stored: pa.Table
    """Rows with references instead of images."""
    passed: pa.Table
    """Rows with images, which were passed on in memory."""
    digests: list[str]
    """sha256 of each file that the rows are from."""

    def read(self, keys: Sequence[str]) -> pa.Table:
        """Return the rows of these items with their images, in the order of the ids."""
        step, wanted = self.bound.step, pa.array(keys, pa.string())
        stored = self.stored.filter(pc.is_in(self.stored[step.key], value_set=wanted))
        passed = self.passed.filter(pc.is_in(self.passed[step.key], value_set=wanted))
        fetched = fetch_blobs(stored, step.input, self.store)
        return pa.concat_tables([fetched, passed.select(step.input.names).cast(step.input)]).sort_by(step.key)


class _PendingPart:
    """Rows of a part that is not committed yet."""

    def __init__(self, worker: StepWorker, state: ShardState, inputs: list[str], handover: Handover) -> None:
        self.worker, self.state, self.inputs, self.handover = worker, state, inputs, handover
        location = worker.bound.location
        self.attempts = Attempts(location.name, location.fingerprint, worker.run_id)
        self._begin()

    def _begin(self) -> None:
        self.file, self.tables, self.started = BlobFile(), list[pa.Table](), time.monotonic()
        self.unpacked: list[pa.Table] = []

    def add(self, rows: pa.Table, attempts: dict[str, int]) -> None:
        if rows.num_rows:
            counts = pa.array([attempts[key] for key in rows[self.state.location.key].to_pylist()], pa.int32())
            packed = pack_blobs(rows, self.file)
            if self.state.location.name in self.handover.wanted:
                self.unpacked.append(rows)
            self.tables.append(packed.append_column(pa.field(ATTEMPT, pa.int32(), nullable=False), counts))

    def commit_if_due(self) -> None:
        n_rows = sum(table.num_rows for table in self.tables)
        late = time.monotonic() - self.started > COMMIT_SECONDS
        if n_rows >= COMMIT_ROWS or len(self.file.data) >= COMMIT_BYTES or late:
            self.commit()

    def commit(self) -> None:
        """Write ledger, images, rows and marker; if another run was first, leave out the items that it finished."""
        store, location, key = self.worker.store, self.state.location, self.state.location.key
        shard, run_id, max_attempts = self.state.shard, self.worker.run_id, self.worker.max_attempts
        self.attempts.write(store, shard)
        rows = pa.concat_tables(self.tables).sort_by(key) if self.tables else None
        while rows is not None and rows.num_rows:
            number = self.state.next_part
            marker = commit_part(store, location, shard, number, rows, self.file, self.inputs, run_id)
            if marker is not None:
                self.state.add(marker, rows)
                self.worker.drop_unfinished(rows.filter(pc.not_equal(rows["status"], FAILED))[key].to_pylist())
                for table in self.unpacked:
                    self.handover.put(
                        location, table.filter(pc.is_in(table[key], value_set=rows[key].combine_chunks()))
                    )
                break
            log.info("part %d of shard %d of %s was taken by another run", number, shard, location.name)
            items = self.state.refresh().items
            open_keys = [k for k in rows[key].to_pylist() if k not in items or not items[k].finished(max_attempts)]
            rows = rows.filter(pc.is_in(rows[key], value_set=pa.array(open_keys, pa.string())))
        self._begin()


def _update_columns(rows: pa.Table, sources: pa.Table, key: str, columns: Sequence[str]) -> pa.Table:
    """Replace these columns by those of the sources; a row whose key the sources lack stays unchanged."""
    index = pc.index_in(rows[key], value_set=sources[key].combine_chunks())
    for name in columns:
        position = rows.schema.get_field_index(name)
        updated = pc.if_else(index.is_valid(), sources[name].take(index), rows[name])
        rows = rows.set_column(position, rows.schema.field(position), updated)
    return rows


def _split_failed(rows: pa.Table, key: str, attempts: dict[str, int], max_attempts: int) -> tuple[pa.Table, list[str]]:
    """Return the final rows, and the ids of failed items that have attempts left."""
    columns = zip(rows[key].to_pylist(), rows["status"].to_pylist(), strict=True)
    retry = [item for item, status in columns if status == FAILED and attempts[item] < max_attempts]
    return rows.filter(pc.invert(pc.is_in(rows[key], value_set=pa.array(retry, pa.string())))), retry
