"""Which step reads which, and what is left to do: from the markers alone, with no executor."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from mfhq.ids import shard_of
from mfhq.schema import FAILED, OK, REJECTED
from mfhq.store import Store
from pipelines.parts import ItemState, ShardState, StepPlace
from pipelines.step import Step

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
class Tally:
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

    def copy(self) -> Tally:
        """The same counts, to be added to."""
        fresh = Tally()
        fresh.add(self)
        return fresh

    def add(self, other: Tally) -> None:
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
    finished: dict[str, Tally] = field(default_factory=dict)
    """For each step: outcomes of the items that are in no task."""


def make_plan(bound: Sequence[BoundStep], sources: pa.Table, store: Store, max_attempts: int) -> Plan:
    """Compare the sources with the markers, one logical shard after the other.

    An item is in a task when any step has still to work on it.
    """
    plan = Plan(finished={b.step.name: Tally() for b in bound})
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
