"""Replay of one step on one item, in this process: the recorded output is compared with the new one."""

from __future__ import annotations

import hashlib
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mfhq.ids import shard_of
from mfhq.store import Store, StoreError
from pipelines.engine.commits import StepLocation, fetch_blobs
from pipelines.engine.state import BoundStep, ShardState

MAX_LIST = 16
"""Length up to which a list is shown completely; a longer one is shown as its length and digest."""


@dataclass(frozen=True)
class Replay:
    """Result of a replay."""

    same: int
    """Number of values that are equal in the recorded and the new output."""
    differing: list[tuple[str, Any, Any]]
    """(field, recorded value, new value) of each difference; None if one of the outputs lacks the field."""
    seconds: float
    error: str
    """Traceback of the exception that the step raised; empty if it raised none."""


def replay_item(store: Store, bound: BoundStep, item_id: str, source: pa.Table) -> Replay:
    """Run a step on one item and compare the output with the recorded one. Nothing is written.

    Lists in a private step's output (embeddings) are shown as length and digest only.

    Args:
        store: The corpus.
        bound: The step.
        item_id: Id of the item.
        source: The item's row of the sources.

    Raises:
        StoreError: The upstream step has no row of the item with status ``ok``.
    """
    step = bound.step
    if bound.upstream is None:
        table = source.select(step.input.names).cast(step.input)
    else:
        upstream = _recorded_row(store, bound.upstream, item_id)
        if upstream is None or upstream["status"][0].as_py() != "ok":
            state = (
                "nothing" if upstream is None else f"{upstream['status'][0].as_py()} ({upstream['reason'][0].as_py()})"
            )
            raise StoreError(f"{store.uri}: step {bound.upstream.name} has {state} for {item_id}; replay that one")
        for name in bound.from_sources(source.schema):
            upstream = upstream.set_column(upstream.schema.get_field_index(name), step.input.field(name), source[name])
        table = fetch_blobs(upstream.select(step.input.names), step.input, store)
    row = _recorded_row(store, bound.location, item_id)
    recorded = fetch_blobs(row.select(step.output.names), step.output, store) if row is not None else None
    started, error, replayed = time.perf_counter(), "", None
    try:
        replayed = step.call(step.load(), table)
    except Exception:  # the replay then results in the traceback
        error = traceback.format_exc()
    seconds = time.perf_counter() - started
    before, now = (
        dict(_leaves(table.to_pylist()[0], "", step.private)) if table is not None else {}
        for table in (recorded, replayed)
    )
    names = list(dict.fromkeys([*before, *now]))
    differing = [(name, before.get(name), now.get(name)) for name in names if before.get(name) != now.get(name)]
    return Replay(len(names) - len(differing), differing, seconds, error)


def _recorded_row(store: Store, location: StepLocation, item_id: str) -> pa.Table | None:
    """Return the item's newest row with references instead of images; None for an unknown item."""
    state = ShardState(store, location, shard_of(item_id)).refresh()
    if item_id not in state.items:
        return None
    return state.read([item_id])[0]


def _leaves(value: Any, name: str, hidden: bool) -> Iterator[tuple[str, Any]]:
    """Yield (path, value) of every leaf; bytes and long lists (if ``hidden``, all lists) as length and digest."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else key, hidden)
    elif isinstance(value, bytes):
        yield name, _shortened(value, "bytes")
    elif isinstance(value, list) and (len(value) > MAX_LIST or hidden) and not any(isinstance(v, dict) for v in value):
        yield name, _shortened(repr(value).encode(), f"{len(value)} values")
    elif isinstance(value, list):
        yield f"{name}.length", len(value)
        for i, inner in enumerate(value):
            yield from _leaves(inner, f"{name}[{i}]", hidden)
    else:
        yield name, value


def _shortened(data: bytes, unit: str) -> str:
    return f"{len(data)} {unit} {hashlib.sha256(data).hexdigest()[:12]}"
