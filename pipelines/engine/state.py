"""Which step reads which, and what is left to do: from the markers alone, with no executor.

What became of every item of a step, read from its parts without their other columns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mfhq.ids import shard_of
from mfhq.live import read_attempts
from mfhq.schema import FAILED, OK, REJECTED
from mfhq.store import Store
from pipelines.engine.commits import ATTEMPT, Marker, StepPlace, markers, read_part
from pipelines.engine.step import Step

TASK_ITEMS = 128
"""Items of one shard that travel together through the steps: one task for each step."""

_NAMED = 100


@dataclass(frozen=True)
class BoundStep:
    """A step with its place in a corpus, and that of the step whose output it reads."""

    step: Step
    at: StepPlace
    upstream: StepPlace | None
    """None for a step that reads the sources."""

    def from_sources(self, sources: pa.Schema) -> list[str]:
        """Columns of the step's input that a call's sources give: all, or those that its upstream has from them too.

        Where a file lies now is what the call says, and not what the step before was told when it ran.
        """
        if self.upstream is None:
            return self.step.input.names
        kinds = dict(zip(sources.names, sources.types, strict=True))
        return [f.name for f in self.step.input if f.name != self.step.key and kinds.get(f.name) == f.type]


def bind_steps(steps: Sequence[Step], after: Mapping[str, str] | None = None) -> list[BoundStep]:
    """Chain the steps' fingerprints. Each reads the one before it in the list, or the one that ``after`` names.

    Raises:
        ValueError: two steps of one name, a step that comes before what it reads, or another key than its.
    """
    after = after or {}
    bound: dict[str, BoundStep] = {}
    previous: str | None = None
    for step in steps:
        name = after.get(step.name, previous)
        if step.name in bound:
            raise ValueError(f"step {step.name!r} stands twice in the list; step names are unique")
        if name is not None and name not in bound:
            raise ValueError(f"step {step.name!r} reads {name!r}, which is none of the steps before it: {list(bound)}")
        upstream = bound[name].at if name is not None else None
        if upstream is not None and upstream.key != step.key:
            raise ValueError(f"step {step.name!r} has key {step.key!r}, and {name!r} before it {upstream.key!r}")
        fingerprint = step.fingerprint(upstream.fingerprint if upstream else "")
        bound[step.name] = BoundStep(step, StepPlace.of(step, fingerprint), upstream)
        previous = step.name
    unknown = set(after) - set(bound)
    if unknown:
        raise ValueError(f"after names {sorted(unknown)}, which are no steps; steps are {list(bound)}")
    return list(bound.values())


def fingerprints(steps: Sequence[Step], after: Mapping[str, str] | None = None) -> dict[str, str]:
    """Each step's fingerprint, chained through what it reads."""
    return {bound.step.name: bound.at.fingerprint for bound in bind_steps(steps, after)}


@dataclass
class OutcomeCounts:
    """Outcomes of items in one step."""

    ok: int = 0
    rejected: int = 0
    failed: int = 0
    before: int = 0
    """Of these items: finished by an earlier call."""
    seconds: float = 0.0
    """Spent inside the step by this call, workers added up."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Reason code to how many items have it, whatever their status."""
    failed_reasons: dict[str, int] = field(default_factory=dict)
    """Reason code to failed items."""
    failures: dict[str, str] = field(default_factory=dict)
    """Id to reason of the first failed items."""

    @property
    def items(self) -> int:
        """Items with an outcome, whichever."""
        return self.ok + self.rejected + self.failed

    def count(self, key: str, status: str, reason: str, before: bool) -> None:
        """Add one item's outcome."""
        self.ok += status == OK
        self.rejected += status == REJECTED
        self.failed += status == FAILED
        self.before += before
        if reason:
            _add_counts(self.reasons, {reason: 1})
        if status == FAILED:
            _add_counts(self.failed_reasons, {reason: 1})
        if status == FAILED and len(self.failures) < _NAMED:
            self.failures[key] = reason

    def copy(self) -> OutcomeCounts:
        """The same counts, to be added to."""
        fresh = OutcomeCounts()
        fresh.add(self)
        return fresh

    def add(self, other: OutcomeCounts) -> None:
        """Add another's counts to this one."""
        self.ok += other.ok
        self.rejected += other.rejected
        self.failed += other.failed
        self.before += other.before
        self.seconds += other.seconds
        _add_counts(self.reasons, other.reasons)
        _add_counts(self.failed_reasons, other.failed_reasons)
        room = _NAMED - len(self.failures)
        self.failures.update(list(other.failures.items())[:room])


def _add_counts(counts: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        counts[name] = counts.get(name, 0) + count


@dataclass(frozen=True)
class Task:
    """Items of one shard that go through the steps together, in the order of their ids."""

    shard: int
    keys: tuple[str, ...]


@dataclass
class Plan:
    """What a call has to do, and what earlier calls did of it."""

    tasks: list[Task] = field(default_factory=list)
    finished: dict[str, OutcomeCounts] = field(default_factory=dict)
    """For each step: outcomes of the items that are in no task."""


def make_plan(bound: Sequence[BoundStep], sources: pa.Table, store: Store, max_attempts: int) -> Plan:
    """Compare the sources with the markers, one logical shard after the other.

    An item is in a task when any step has still to work on it.
    """
    plan = Plan(finished={b.step.name: OutcomeCounts() for b in bound})
    for shard, keys in shards(sources[bound[0].step.key].to_pylist()):
        states = {b.step.name: ShardState(store, b.at, shard).refresh().items for b in bound}
        unfinished = []
        for key in keys:
            outcome = _outcome(bound, states, key, max_attempts)
            if outcome is None:
                unfinished.append(key)
                continue
            for name, item in outcome.items():
                plan.finished[name].count(key, item.status, item.reason, before=True)
        for start in range(0, len(unfinished), TASK_ITEMS):
            plan.tasks.append(Task(shard, tuple(unfinished[start : start + TASK_ITEMS])))
    return plan


def shards(keys: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """The ids by logical shard, each shard's in order, each id once."""
    by_shard: dict[int, set[str]] = defaultdict(set)
    for key in keys:
        by_shard[shard_of(key)].add(key)
    for shard in sorted(by_shard):
        yield shard, sorted(by_shard[shard])


def _outcome(
    bound: Sequence[BoundStep], states: Mapping[str, Mapping[str, ItemState]], key: str, max_attempts: int
) -> dict[str, ItemState] | None:
    """The item's state in each step that it reached; None when one of them has still to work on it."""
    reached: dict[str, ItemState] = {}
    for b in bound:
        if b.upstream is not None and (b.upstream.name not in reached or reached[b.upstream.name].status != OK):
            continue
        item = states[b.step.name].get(key)
        if item is None or not item.finished(max_attempts):
            return None
        reached[b.step.name] = item
    return reached


OUTCOME = pa.schema(
    [
        pa.field("item_id", pa.string()),
        pa.field("status", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("attempt", pa.int32()),
    ]
)

_READERS = 16


def outcomes(store: Store, at: StepPlace) -> pa.Table:
    """``OUTCOME`` of a step's items, the newest of each, in no particular order.

    Reads four columns of each part and no picture; the parts are not held against their digests.
    """

    def read(marker: Marker) -> pa.Table:
        with store.filesystem.open(store.url(marker.data), "rb") as stream:
            table = pq.ParquetFile(stream).read([at.key, "status", "reason", ATTEMPT], use_threads=False)
        return table.select([at.key, "status", "reason", ATTEMPT]).rename_columns(OUTCOME.names).cast(OUTCOME)

    with ThreadPoolExecutor(_READERS) as pool:
        tables = list(pool.map(read, markers(store, at.prefix).values()))
    table = pa.concat_tables([OUTCOME.empty_table(), *tables]).combine_chunks()
    if pc.count_distinct(table["item_id"]).as_py() == table.num_rows:
        return table
    rows = table.append_column("_row", pa.array(np.arange(table.num_rows)))  # markers come by shard and part
    newest = rows.group_by("item_id").aggregate([("_row", "max")])["_row_max"]
    return table.take(newest)


def finished(table: pa.Table, max_attempts: int) -> pa.Table:
    """Those of the outcomes whose item is never worked on again: ok, rejected, or failed often enough."""
    done = pc.or_(pc.not_equal(table["status"], FAILED), pc.greater_equal(table["attempt"], max_attempts))
    return table.filter(done)


def failed_items(store: Store, bound: Sequence[BoundStep], uri_of: Mapping[str, str]) -> pa.Table:
    """Every item that a step gave up or has failed so far: item_id, uri, step, reason, attempts, error (the last)."""
    errors = {
        (row["item_id"], row["step"], row["fingerprint"]): row["error"]
        for row in read_attempts(store).to_pylist()
        if row["status"] == FAILED
    }
    rows = []
    for b in bound:
        table = outcomes(store, b.at)
        for row in table.filter(pc.equal(table["status"], FAILED)).to_pylist():
            item = row["item_id"]
            rows.append(
                {
                    "item_id": item,
                    "uri": uri_of.get(item, ""),
                    "step": b.step.name,
                    "reason": row["reason"],
                    "attempts": row["attempt"],
                    "error": errors.get((item, b.step.name, b.at.fingerprint)) or "",
                }
            )
    names = ("item_id", "uri", "step", "reason")
    schema = pa.schema([*((name, pa.string()) for name in names), ("attempts", pa.int32()), ("error", pa.string())])
    return pa.Table.from_pylist(sorted(rows, key=lambda row: (row["uri"], row["step"])), schema=schema)


@dataclass(frozen=True, slots=True)
class ItemState:
    """What became of an item so far in one step."""

    status: str
    reason: str
    attempt: int
    part: int

    def finished(self, max_attempts: int) -> bool:
        """Whether it is never worked on again: ok, rejected, or failed often enough (quarantined)."""
        return self.status != FAILED or self.attempt >= max_attempts


class ShardState:
    """What is done in one logical shard of a step's output. ``refresh`` reads only what is new."""

    def __init__(self, store: Store, at: StepPlace, shard: int) -> None:
        self.store, self.at, self.shard = store, at, shard
        self.items: dict[str, ItemState] = {}
        self.markers: dict[str, Marker] = {}

    def refresh(self) -> ShardState:
        """Take in the parts that were committed since the last call."""
        now = markers(self.store, self.at.shard(self.shard), self.markers)
        for path, marker in now.items():
            if path not in self.markers:
                self.add(marker)
        return self

    def add(self, marker: Marker, rows: pa.Table | None = None) -> None:
        """Take in one part; its rows are read unless they are given."""
        self.markers[f"{self.at.shard(self.shard)}{marker.part:04d}.json"] = marker
        names = [self.at.key, "status", "reason", ATTEMPT]
        rows = read_part(self.store, self.at, marker, names) if rows is None else rows
        columns = (rows[name].to_pylist() for name in names)
        for key, status, reason, attempt in zip(*columns, strict=True):
            before = self.items.get(key)
            if before is None or before.part <= marker.part:
                self.items[key] = ItemState(status, reason, attempt, marker.part)

    @property
    def next_part(self) -> int:
        """The number after the last part that was seen: a part that another writer has since made takes it."""
        return 1 + max((marker.part for marker in self.markers.values()), default=-1)

    def ok(self, keys: Iterable[str]) -> list[str]:
        """Those of the keys whose item is ok."""
        return [key for key in keys if key in self.items and self.items[key].status == "ok"]
