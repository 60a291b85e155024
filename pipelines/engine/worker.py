"""One step on some items of one shard: what a worker of the engine does, with no executor in sight."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mfhq.schema import FAILED
from mfhq.store import Store
from pipelines.engine.commits import ATTEMPT, BlobFile, StepPlace, commit_part, pack, read_part, resolve
from pipelines.engine.ledger import Attempts
from pipelines.engine.state import BoundStep, OutcomeCounts, ShardState
from pipelines.engine.step import run_isolated

log = logging.getLogger(__name__)

COMMIT_ROWS, COMMIT_BYTES, COMMIT_SECONDS = 1024, 96 << 20, 60.0
"""A part is committed when it has so many rows, bytes of pictures, or took so long: what a kill can cost."""

_STATES = 16

Report = Callable[[str, OutcomeCounts], None]
"""Called after each batch with the step's name and the batch's outcomes."""


class PartRunner:
    """Runs one step. Loads the step's resource at the first item that needs it, so an idle resume loads nothing."""

    def __init__(
        self, bound: BoundStep, store: Store, run_id: str, max_attempts: int = 3, report: Report | None = None
    ) -> None:
        self.bound, self.store, self.run_id, self.max_attempts = bound, store, run_id, max_attempts
        self.report = report or (lambda name, tally: None)
        self._resource: Any = None
        self._loaded = False
        self._states: OrderedDict[tuple[str, int], ShardState] = OrderedDict()

    def run_part(self, shard: int, keys: Sequence[str], sources: pa.Table | None = None) -> OutcomeCounts:
        """Work on those of the items that this step has still to do, and commit what comes out.

        Items whose upstream row is not ok are none of this step's; those that are finished are counted and
        left alone. A failed item is tried again until ``max_attempts``. ``sources`` has the rows of the items: a
        step that reads the sources needs them, and another takes from them the columns that it shares (the URI).

        Raises:
            StoreError: the corpus can't be read or written. What was committed stays.
            RuntimeError: the step's resource does not load.
        """
        step = self.bound.step
        state = self._state(self.bound.at, shard)
        upstream = self._state(self.bound.upstream, shard) if self.bound.upstream else None
        mine = sorted(keys) if upstream is None else upstream.ok(sorted(keys))
        done = {key for key in mine if key in state.items and state.items[key].finished(self.max_attempts)}
        tally = OutcomeCounts()
        for key in sorted(done):
            tally.count(key, state.items[key].status, state.items[key].reason, before=True)
        self.report(step.name, tally)
        todo = [key for key in mine if key not in done]
        if not todo:
            return tally
        rows, inputs = self._input(upstream, todo, sources)
        part = _OpenPart(self, state, inputs)
        attempts = {key: state.items[key].attempt if key in state.items else 0 for key in todo}
        while rows.num_rows:
            again: list[str] = []
            for start in range(0, rows.num_rows, step.resources.batch):
                batch = rows.slice(start, step.resources.batch)
                counted = OutcomeCounts()
                for out, seconds in self._run_batch(batch, attempts, part):
                    keep, retry = _split_failed(out, step.key, attempts, self.max_attempts)
                    again += retry
                    counted.seconds += seconds
                    part.add(keep, attempts)
                    for row in keep.select([step.key, "status", "reason"]).to_pylist():
                        counted.count(row[step.key], row["status"], row["reason"], before=False)
                tally.add(counted)
                self.report(step.name, counted)
                part.commit_if_due()
            rows = rows.filter(pc.is_in(rows[step.key], value_set=pa.array(again, pa.string())))
        part.commit()
        return tally

    def _run_batch(
        self, batch: pa.Table, attempts: dict[str, int], part: _OpenPart
    ) -> Iterator[tuple[pa.Table, float]]:
        """Outputs of a batch with the seconds that each took; every row's attempt is counted and on the ledger."""
        step = self.bound.step
        resource = self._load()
        table = resolve(batch, step.input, self.store)
        started = time.perf_counter()
        for out, errors in run_isolated(step, resource, table):
            seconds = time.perf_counter() - started
            for key in out[step.key].to_pylist():
                attempts[key] += 1
            part.attempts.add(out, step.key, [attempts[key] for key in out[step.key].to_pylist()], errors, seconds)
            yield out, seconds
            started = time.perf_counter()

    def _input(
        self, upstream: ShardState | None, keys: list[str], sources: pa.Table | None
    ) -> tuple[pa.Table, list[str]]:
        """The items' input rows in the order of the ids (pictures as references), and the digests of their files."""
        step = self.bound.step
        wanted = pa.array(keys, pa.string())
        if upstream is None:
            if sources is None:
                raise ValueError(f"step {step.name} reads the sources, and none were given")
            rows = sources.filter(pc.is_in(sources[step.key], value_set=wanted)).select(step.input.names)
            rows = rows.sort_by(step.key).cast(step.input)
            return rows, [hashlib.sha256(repr(rows.to_pylist()).encode()).hexdigest()]
        parts = {upstream.items[key].part for key in keys}
        tables, inputs = [], []
        for marker in upstream.markers.values():
            if marker.part in parts:
                rows = read_part(self.store, upstream.at, marker)
                latest = [k for k in rows[step.key].to_pylist() if upstream.items[k].part == marker.part]
                tables.append(rows.filter(pc.is_in(rows[step.key], value_set=pa.array(latest, pa.string()))))
                inputs.append(marker.sha256)
        rows = pa.concat_tables(tables)
        rows = rows.filter(pc.is_in(rows[step.key], value_set=wanted)).sort_by(step.key)
        if sources is not None:
            rows = _overlay(rows, sources, step.key, self.bound.from_sources(sources.schema))
        return rows.combine_chunks(), inputs

    def _state(self, at: StepPlace, shard: int) -> ShardState:
        state = self._states.pop((at.name, shard), None) or ShardState(self.store, at, shard)
        self._states[at.name, shard] = state
        if len(self._states) > _STATES:
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


class _OpenPart:
    """Rows of a part that is not committed yet."""

    def __init__(self, runner: PartRunner, state: ShardState, inputs: list[str]) -> None:
        self.runner, self.state, self.inputs = runner, state, inputs
        at = runner.bound.at
        self.attempts = Attempts(at.name, at.fingerprint, runner.run_id)
        self._begin()

    def _begin(self) -> None:
        self.file, self.tables, self.started = BlobFile(), list[pa.Table](), time.monotonic()

    def add(self, rows: pa.Table, attempts: dict[str, int]) -> None:
        if rows.num_rows:
            taken = pa.array([attempts[key] for key in rows[self.state.at.key].to_pylist()], pa.int32())
            packed = pack(rows, self.file).append_column(pa.field(ATTEMPT, pa.int32(), nullable=False), taken)
            self.tables.append(packed)

    def commit_if_due(self) -> None:
        n_rows = sum(table.num_rows for table in self.tables)
        late = time.monotonic() - self.started > COMMIT_SECONDS
        if n_rows >= COMMIT_ROWS or len(self.file.data) >= COMMIT_BYTES or late:
            self.commit()

    def commit(self) -> None:
        """Ledger, pictures, rows, marker. Where another run was first, only what it has not done is written."""
        store, at, key = self.runner.store, self.state.at, self.state.at.key
        self.attempts.write(store, self.state.shard)
        rows = pa.concat_tables(self.tables).sort_by(key) if self.tables else None
        while rows is not None and rows.num_rows:
            number = self.state.next_part
            marker = commit_part(store, at, self.state.shard, number, rows, self.file, self.inputs, self.runner.run_id)
            if marker is not None:
                self.state.add(marker, rows)
                break
            log.info("part %d of shard %d of %s was taken by another run", number, self.state.shard, at.name)
            items = self.state.refresh().items
            left = [
                k for k in rows[key].to_pylist() if k not in items or not items[k].finished(self.runner.max_attempts)
            ]
            rows = rows.filter(pc.is_in(rows[key], value_set=pa.array(left, pa.string())))
        self._begin()


def _overlay(rows: pa.Table, sources: pa.Table, key: str, columns: Sequence[str]) -> pa.Table:
    """The rows with these columns as the sources have them; a row whose key is not among the sources stays."""
    at = pc.index_in(rows[key], value_set=sources[key].combine_chunks())
    for name in columns:
        index = rows.schema.get_field_index(name)
        current = pc.if_else(at.is_valid(), sources[name].take(at), rows[name])
        rows = rows.set_column(index, rows.schema.field(index), current)
    return rows


def _split_failed(rows: pa.Table, key: str, attempts: dict[str, int], max_attempts: int) -> tuple[pa.Table, list[str]]:
    """Rows that are final, and the ids of failed ones that have attempts left."""
    columns = zip(rows[key].to_pylist(), rows["status"].to_pylist(), strict=True)
    retry = [item for item, status in columns if status == FAILED and attempts[item] < max_attempts]
    return rows.filter(pc.invert(pc.is_in(rows[key], value_set=pa.array(retry, pa.string())))), retry
