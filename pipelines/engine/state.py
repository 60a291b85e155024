"""State of the steps in a corpus: the finished and the pending items, read from the commit markers alone.

``bind_steps`` chains the steps' fingerprints, ``ShardState`` and ``read_outcomes`` read the outcomes of a step's items,
and ``make_plan`` divides the pending items into tasks. Nothing here depends on how the tasks are executed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mfhq.corpus_tables import read_attempts
from mfhq.ids import shard_of
from mfhq.schema import FAILED, OK, REJECTED
from mfhq.store import Store
from pipelines.engine.commits import (
    ATTEMPT,
    READER_THREADS,
    Marker,
    StepLocation,
    describe_step,
    read_family_markers,
    read_markers,
    read_part,
)
from pipelines.engine.step import Former, Step

TASK_ITEMS = 128
"""Upper bound on the items of a task; they belong to one shard and go through the steps together."""

FORMERLY_KEPT = Former(version=0).keeps
"""Statuses kept of a step that is unchanged itself, and reads a step of which a former definition is gone on with."""

MAX_NAMED_FAILURES = 100
"""Upper bound on the failed items that ``OutcomeCounts`` lists by id."""

OUTCOME = pa.schema(
    [
        pa.field("item_id", pa.string()),
        pa.field("status", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("attempt", pa.int32()),
        pa.field("stale", pa.bool_()),
    ]
)
"""Schema of the newest outcome of an item in one step.

An outcome is stale if it is that of a former definition of the step, and does not count (``step.Former.keeps``).
"""


@dataclass(frozen=True)
class BoundStep:
    """A step with the location of its output in a corpus, and of the output that it reads."""

    step: Step
    location: StepLocation
    upstream: StepLocation | None
    """Location of the output that the step reads; None if it reads the sources."""

    def from_sources(self, sources: pa.Schema) -> list[str]:
        """Return the columns of the step's input that are taken from a call's sources.

        A step that reads the sources takes all its columns from them. Another step takes from them every column, except
        the key, that the sources have with the same type, and the rest from its upstream step. So a file's URI is
        always the one that the current call gives, even if an earlier call recorded another one.
        """
        if self.upstream is None:
            return self.step.input.names
        kinds = dict(zip(sources.names, sources.types, strict=True))
        return [f.name for f in self.step.input if f.name != self.step.key and kinds.get(f.name) == f.type]


def bind_steps(steps: Sequence[Step], after: Mapping[str, str] | None = None) -> list[BoundStep]:
    """Chain the steps' fingerprints.

    Args:
        steps: The steps, each after the step whose output it reads.
        after: Step name to the name of the step whose output it reads; by default the step before it in the list.

    Returns:
        The steps in the same order; the first reads the sources.

    Raises:
        ValueError: Two steps have the same name, a step comes before the one that it reads, or their keys differ.
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
        upstream = bound[name].location if name is not None else None
        if upstream is not None and upstream.key != step.key:
            raise ValueError(f"step {step.name!r} has key {step.key!r}, and {name!r} before it {upstream.key!r}")
        bound[step.name] = BoundStep(step, _locate(step, upstream), upstream)
        previous = step.name
    unknown = set(after) - set(bound)
    if unknown:
        raise ValueError(f"after names {sorted(unknown)}, which are no steps; steps are {list(bound)}")
    return list(bound.values())


def _locate(step: Step, upstream: StepLocation | None) -> StepLocation:
    """Return the location of a step's output; its former ones are those of every former chain of fingerprints."""
    before = [upstream.fingerprint, *(old.fingerprint for old in upstream.former)] if upstream else [""]
    former = []
    for old in (None, *step.continues):
        then = step.as_former(old) if old else step
        for parent in before:
            place = StepLocation.of(then, then.fingerprint(parent))
            former.append(replace(place, keeps=old.keeps if old else FORMERLY_KEPT))
    return StepLocation.of(step, former[0].fingerprint, tuple(former[1:]))


def fingerprints(steps: Sequence[Step], after: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return step name to fingerprint; each fingerprint depends on those of the steps before it.

    Args:
        steps: The steps, each after the step whose output it reads.
        after: As in ``bind_steps``.
    """
    return {bound.step.name: bound.location.fingerprint for bound in bind_steps(steps, after)}


def resume_steps(store: Store, bound: Sequence[BoundStep], described: bool = False) -> list[BoundStep]:
    """Limit the former locations of the steps to those that the corpus has, and describe the steps that go on with one.

    Args:
        store: The corpus.
        bound: The steps.
        described: True describes every step (``commits.describe_step``), because the steps are about to run.

    Returns:
        The same steps.
    """
    resumed: dict[str, BoundStep] = {}
    for b in bound:
        former = tuple(old for old in b.location.former if store.exists(f"{old.prefix}step.json"))
        upstream = resumed[b.upstream.name].location if b.upstream else None
        resumed[b.step.name] = BoundStep(b.step, replace(b.location, former=former), upstream)
        if former or described:
            describe_step(store, resumed[b.step.name].location, b.step, upstream.name if upstream else "")
    return list(resumed.values())


def corpus_fingerprints(store: Store, steps: Sequence[Step], after: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return ``fingerprints``, under which a corpus's output is read, also if only former definitions of a step ran.

    Args:
        store: The corpus.
        steps: The steps, each after the step whose output it reads.
        after: As in ``bind_steps``.
    """
    return {b.step.name: b.location.fingerprint for b in resume_steps(store, bind_steps(steps, after))}


@dataclass
class OutcomeCounts:
    """Counts of the outcomes of items in one step."""

    ok: int = 0
    rejected: int = 0
    failed: int = 0
    before: int = 0
    """Number of these items that an earlier call finished."""
    seconds: float = 0.0
    """Seconds that this call spent inside the step, summed over all workers."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Reason code to the number of items that have it, whatever their status."""
    failed_reasons: dict[str, int] = field(default_factory=dict)
    """Reason code to the number of failed items."""
    failures: dict[str, str] = field(default_factory=dict)
    """Item id to reason code, for the first ``MAX_NAMED_FAILURES`` failed items."""

    @property
    def items(self) -> int:
        """Number of items with an outcome."""
        return self.ok + self.rejected + self.failed

    def count(self, key: str, status: str, reason: str, before: bool) -> None:
        """Count one item.

        Args:
            key: The item's id.
            status: ok, rejected or failed.
            reason: The reason code; empty for none.
            before: True if an earlier call finished the item.
        """
        self.ok += status == OK
        self.rejected += status == REJECTED
        self.failed += status == FAILED
        self.before += before
        if reason:
            _add_counts(self.reasons, {reason: 1})
        if status == FAILED:
            _add_counts(self.failed_reasons, {reason: 1})
        if status == FAILED and len(self.failures) < MAX_NAMED_FAILURES:
            self.failures[key] = reason

    def copy(self) -> OutcomeCounts:
        """Return an independent copy."""
        counts = OutcomeCounts()
        counts.add(self)
        return counts

    def add(self, other: OutcomeCounts) -> None:
        """Add the counts of other items."""
        self.ok += other.ok
        self.rejected += other.rejected
        self.failed += other.failed
        self.before += other.before
        self.seconds += other.seconds
        _add_counts(self.reasons, other.reasons)
        _add_counts(self.failed_reasons, other.failed_reasons)
        room = MAX_NAMED_FAILURES - len(self.failures)
        self.failures.update(list(other.failures.items())[:room])


def _add_counts(counts: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        counts[name] = counts.get(name, 0) + count


@dataclass(frozen=True, slots=True)
class ItemState:
    """The newest outcome of an item in one step, and the part that holds it."""

    status: str
    reason: str
    attempt: int
    """Number of attempts; 0 if the outcome does not count any more (``step.Former.keeps``)."""
    part: int
    former: int = 0
    """Position of the part's location in ``StepLocation.former``, counted from 1; 0 for the current location."""

    @property
    def is_ok(self) -> bool:
        """True if the outcome is ``ok`` and counts."""
        return self.status == OK and self.attempt > 0

    def finished(self, max_attempts: int) -> bool:
        """Return True for an item that is not processed again: ok, rejected, or quarantined.

        An item is quarantined when it has failed ``max_attempts`` times.
        """
        return self.attempt > 0 and (self.status != FAILED or self.attempt >= max_attempts)


class ShardState:
    """The committed items of one logical shard of a step's output.

    Attributes:
        items: Item id to its newest outcome.
        markers: Path to marker, for each part that was read.
    """

    def __init__(self, store: Store, location: StepLocation, shard: int) -> None:
        """Begin with an empty state; ``refresh`` reads the markers."""
        self.store, self.location, self.shard = store, location, shard
        self.items: dict[str, ItemState] = {}
        self.markers: dict[str, Marker] = {}
        self._began = False

    def refresh(self) -> ShardState:
        """Read the parts that were committed since the last call, and return this state."""
        first = len(self.location.former) if not self._began else 0
        for age in range(first, -1, -1):
            folder = self._location(age).shard_folder(self.shard)
            for path, marker in read_markers(self.store, folder, self.markers).items():
                if path not in self.markers:
                    self._add(age, path, marker)
        self._began = True
        return self

    def add(self, marker: Marker, rows: pa.Table | None = None) -> None:
        """Add one part.

        Args:
            marker: The part's marker.
            rows: The part's rows; read from the corpus by default.
        """
        self._add(0, f"{self.location.shard_folder(self.shard)}{marker.part:04d}.json", marker, rows)

    def _location(self, former: int) -> StepLocation:
        return self.location.former[former - 1] if former else self.location

    def _add(self, former: int, path: str, marker: Marker, rows: pa.Table | None = None) -> None:
        self.markers[path] = marker
        names = [self.location.key, "status", "reason", ATTEMPT]
        rows = read_part(self.store, self.location, marker, names) if rows is None else rows
        keeps = self._location(former).keeps
        columns = (rows[name].to_pylist() for name in names)
        for key, status, reason, attempt in zip(*columns, strict=True):
            known = self.items.get(key)
            if known is None or (-known.former, known.part) <= (-former, marker.part):
                counted = attempt if status in keeps else 0
                self.items[key] = ItemState(status, reason, counted, marker.part, former)

    @property
    def next_part(self) -> int:
        """Number of the next part, one more than the last known part's; another writer may have taken it since."""
        own = self.location.shard_folder(self.shard)
        return 1 + max((marker.part for path, marker in self.markers.items() if path.startswith(own)), default=-1)

    def ok(self, keys: Iterable[str]) -> list[str]:
        """Return the keys of the items with status ``ok``, in the same order."""
        return [key for key in keys if key in self.items and self.items[key].is_ok]

    def read(self, keys: Sequence[str], wanted: Sequence[str] | None = None) -> tuple[pa.Table, list[str]]:
        """Read the newest rows of items.

        Args:
            keys: Ids of items that have a row.
            wanted: Those of the ids whose rows are read; all by default.

        Returns:
            (Rows of the wanted items in the order of the ids, with references instead of images; sha256 of each file
            that has a row of one of the keys).
        """
        newest: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
        for key in keys:
            newest[self.items[key].former, self.items[key].part].append(key)
        is_wanted = set(keys if wanted is None else wanted)
        tables, inputs = [self.location.stored_schema.empty_table()], []
        for (former, part), members in sorted(newest.items()):
            marker = self.markers[f"{self._location(former).shard_folder(self.shard)}{part:04d}.json"]
            inputs.append(marker.sha256)
            if members := [key for key in members if key in is_wanted]:
                rows = read_part(self.store, self.location, marker)
                tables.append(rows.filter(pc.is_in(rows[self.location.key], value_set=pa.array(members, pa.string()))))
        return pa.concat_tables(tables).sort_by(self.location.key), inputs


@dataclass(frozen=True)
class Task:
    """Items of one shard that go through the steps together, in the order of their ids."""

    shard: int
    keys: tuple[str, ...]


@dataclass
class Plan:
    """The tasks of a call, and the outcomes of the items that earlier calls finished."""

    tasks: list[Task] = field(default_factory=list)
    n_outcomes: int = 0
    """Number of outcomes, over all steps, that the items of the tasks have already."""
    finished: dict[str, OutcomeCounts] = field(default_factory=dict)
    """Step name to the outcomes of the items that are in no task."""


def make_plan(bound: Sequence[BoundStep], sources: pa.Table, store: Store, max_attempts: int) -> Plan:
    """Plan a call: compare the sources with the markers, one logical shard after the other.

    Args:
        bound: The steps of the call.
        sources: The items, with the first step's key.
        store: The corpus.
        max_attempts: Number of attempts after which a failed item counts as finished.

    Returns:
        The plan, with tasks of at most ``TASK_ITEMS`` items; an item is in a task if some step must still process it.

    Raises:
        StoreError: The corpus cannot be read, or a part is damaged.
    """
    plan = Plan(finished={b.step.name: OutcomeCounts() for b in bound})
    for shard, keys in group_by_shard(sources[bound[0].step.key].to_pylist()):
        states = {b.step.name: ShardState(store, b.location, shard).refresh().items for b in bound}
        unfinished = []
        for key in keys:
            reached = _finished_states(bound, states, key, max_attempts)
            if reached is None:
                unfinished.append(key)
                plan.n_outcomes += sum(key in items for items in states.values())
                continue
            for name, item in reached.items():
                plan.finished[name].count(key, item.status, item.reason, before=True)
        for start in range(0, len(unfinished), TASK_ITEMS):
            plan.tasks.append(Task(shard, tuple(unfinished[start : start + TASK_ITEMS])))
    return plan


def group_by_shard(keys: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield (logical shard, its ids sorted and without duplicates), in the order of the shards."""
    by_shard: dict[int, set[str]] = defaultdict(set)
    for key in keys:
        by_shard[shard_of(key)].add(key)
    for shard in sorted(by_shard):
        yield shard, sorted(by_shard[shard])


def _finished_states(
    bound: Sequence[BoundStep], states: Mapping[str, Mapping[str, ItemState]], key: str, max_attempts: int
) -> dict[str, ItemState] | None:
    """Return the item's state in each step that it reached; None if a step must still process it."""
    reached: dict[str, ItemState] = {}
    for b in bound:
        if b.upstream is not None and (b.upstream.name not in reached or not reached[b.upstream.name].is_ok):
            continue
        item = states[b.step.name].get(key)
        if item is None or not item.finished(max_attempts):
            return None
        reached[b.step.name] = item
    return reached


def read_outcomes(store: Store, location: StepLocation) -> pa.Table:
    """Read the newest outcome of every item of a step.

    Only four columns of each part are read, and no image; the parts are not verified against their digests.

    Args:
        store: The corpus.
        location: The step's location.

    Returns:
        One row per item, schema ``OUTCOME``, in no particular order.
    """
    columns = [location.key, "status", "reason", ATTEMPT]
    owner_of = {part.prefix: part for part in location.family}

    def read(marker: Marker) -> pa.Table:
        with store.filesystem.open(store.url(marker.data), "rb") as stream:
            table = pq.ParquetFile(stream).read(columns, use_threads=False)
        keeps = next(part.keeps for prefix, part in owner_of.items() if marker.data.startswith(prefix))
        stale = pc.invert(pc.is_in(table["status"], value_set=pa.array(keeps, pa.string())))
        return table.select(columns).append_column("stale", stale).rename_columns(OUTCOME.names).cast(OUTCOME)

    with ThreadPoolExecutor(READER_THREADS) as pool:
        tables = list(pool.map(read, read_family_markers(store, location).values()))
    table = pa.concat_tables([OUTCOME.empty_table(), *tables]).combine_chunks()
    if pc.count_distinct(table["item_id"]).as_py() == table.num_rows:
        return table
    rows = table.append_column("_row", pa.array(np.arange(table.num_rows)))  # the markers are sorted by shard and part
    newest = rows.group_by("item_id").aggregate([("_row", "max")])["_row_max"]
    return table.take(newest)


def select_finished(outcomes: pa.Table, max_attempts: int) -> pa.Table:
    """Select the outcomes of items that are not processed again (``ItemState.finished``).

    Args:
        outcomes: ``OUTCOME`` rows.
        max_attempts: Number of attempts after which a failed item counts as finished.
    """
    is_final = pc.or_(pc.not_equal(outcomes["status"], FAILED), pc.greater_equal(outcomes["attempt"], max_attempts))
    return outcomes.filter(pc.and_not(is_final, outcomes["stale"]))


def failed_items(store: Store, bound: Sequence[BoundStep], uri_of: Mapping[str, str]) -> pa.Table:
    """List every item whose newest outcome in a step is a failure, quarantined or not.

    Args:
        store: The corpus.
        bound: The steps.
        uri_of: Item id to the URI of its source; the URI of an item that it lacks is empty in the result.

    Returns:
        One row per failed item and step, sorted by uri and step: item_id, uri, step, reason, attempts, error (traceback
        of the last attempt).
    """
    errors = {
        (row["item_id"], row["step"], row["fingerprint"]): row["error"]
        for row in read_attempts(store).to_pylist()
        if row["status"] == FAILED
    }
    rows = []
    for b in bound:
        table = read_outcomes(store, b.location)
        for row in table.filter(pc.equal(table["status"], FAILED)).to_pylist():
            item = row["item_id"]
            rows.append(
                {
                    "item_id": item,
                    "uri": uri_of.get(item, ""),
                    "step": b.step.name,
                    "reason": row["reason"],
                    "attempts": row["attempt"],
                    "error": errors.get((item, b.step.name, b.location.fingerprint)) or "",
                }
            )
    names = ("item_id", "uri", "step", "reason")
    schema = pa.schema([*((name, pa.string()) for name in names), ("attempts", pa.int32()), ("error", pa.string())])
    return pa.Table.from_pylist(sorted(rows, key=lambda row: (row["uri"], row["step"])), schema=schema)
