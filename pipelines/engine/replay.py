"""One step on one item, in this process: what is on record beside what comes out now."""

from __future__ import annotations

import hashlib
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mfhq.ids import shard_of
from mfhq.store import Store, StoreError
from pipelines.engine.commits import StepPlace, read_part, resolve
from pipelines.engine.state import BoundStep, ShardState

LONG = 16
"""Lists of more numbers are shown by their length and digest."""


@dataclass(frozen=True)
class Replay:
    """What a replay came to."""

    same: int
    """Values on record that came out again."""
    differing: list[tuple[str, Any, Any]]
    """(field, on record, now); None where one of the two has no such value."""
    seconds: float
    error: str
    """The traceback of the step, where it raised."""


def replay_item(store: Store, bound: BoundStep, item_id: str, source: pa.Table) -> Replay:
    """Fetch an item's input, run the step on it, and hold the output against the one on record. Nothing is written.

    ``source`` is the item's row of the sources. Of a private step's output only digests are shown.

    Raises:
        StoreError: the step before has no ok row of the item.
    """
    step = bound.step
    if bound.upstream is None:
        table = source.select(step.input.names).cast(step.input)
    else:
        before = _recorded(store, bound.upstream, item_id)
        if before is None or before["status"][0].as_py() != "ok":
            what = "nothing" if before is None else f"{before['status'][0].as_py()} ({before['reason'][0].as_py()})"
            raise StoreError(f"{store.uri}: step {bound.upstream.name} has {what} for {item_id}; replay that one")
        for name in bound.from_sources(source.schema):
            before = before.set_column(before.schema.get_field_index(name), step.input.field(name), source[name])
        table = resolve(before.select(step.input.names), step.input, store)
    recorded = _recorded(store, bound.at, item_id)
    was = resolve(recorded.select(step.output.names), step.output, store) if recorded is not None else None
    began, error, now = time.perf_counter(), "", None
    try:
        now = step.fn(step.load(), table).cast(step.output)
    except Exception:  # shown to whoever replays: that is what a replay is for
        error = traceback.format_exc()
    seconds = time.perf_counter() - began
    values = [dict(_leaves(t.to_pylist()[0], "", step.private)) if t is not None else {} for t in (was, now)]
    names = list(dict.fromkeys([*values[0], *values[1]]))
    differing = [(n, values[0].get(n), values[1].get(n)) for n in names if values[0].get(n) != values[1].get(n)]
    return Replay(len(names) - len(differing), differing, seconds, error)


def _recorded(store: Store, at: StepPlace, item_id: str) -> pa.Table | None:
    """The item's row, with references in the place of pictures."""
    state = ShardState(store, at, shard_of(item_id)).refresh()
    if item_id not in state.items:
        return None
    part = state.items[item_id].part
    marker = next(m for m in state.markers.values() if m.part == part)
    rows = read_part(store, at, marker)
    return rows.filter(pc.equal(rows[at.key], item_id))


def _leaves(value: Any, name: str, hidden: bool) -> Iterator[tuple[str, Any]]:
    """Every value at any depth with its path; bytes and long lists as length and digest."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else key, hidden)
    elif isinstance(value, bytes):
        yield name, _short(value, "bytes")
    elif isinstance(value, list) and (len(value) > LONG or hidden) and not any(isinstance(v, dict) for v in value):
        yield name, _short(repr(value).encode(), f"{len(value)} values")
    elif isinstance(value, list):
        yield f"{name}.length", len(value)
        for i, inner in enumerate(value):
            yield from _leaves(inner, f"{name}[{i}]", hidden)
    else:
        yield name, value


def _short(data: bytes, what: str) -> str:
    return f"{len(data)} {what} {hashlib.sha256(data).hexdigest()[:12]}"
