"""Files of a corpus written again without what is to go. Every step can be cut off and done again."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mfhq.parquet import to_parquet
from mfhq.pruning import references
from mfhq.store import Store
from mfhq.takedowns import Denied
from pipelines.engine.commits import Marker

log = logging.getLogger(__name__)


@dataclass
class Changes:
    """What a sweep did; nothing where all was clean."""

    files: int = 0
    """Files written again or deleted."""
    picture_bytes: int = 0
    """Bytes of pictures that were overwritten or deleted."""
    snapshots: list[str] = field(default_factory=list)
    """Those that were redacted."""

    def __bool__(self) -> bool:
        return bool(self.files or self.picture_bytes or self.snapshots)

    def add(self, other: Changes) -> None:
        """Count another's changes too."""
        self.files += other.files
        self.picture_bytes += other.picture_bytes
        self.snapshots += [name for name in other.snapshots if name not in self.snapshots]


def read_table(store: Store, path: str) -> pa.Table:
    """A Parquet file as it is stored."""
    return pq.read_table(io.BytesIO(store.read(path)))


def without(table: pa.Table, denied: Denied) -> pa.Table:
    """The table without what is to go, tracebacks that quote it included; itself where it holds nothing of it."""
    pruned = _without_in_json(denied.without(table), denied)
    if "error" in pruned.column_names and pruned["error"].null_count < pruned.num_rows:
        # a traceback may quote an id or a URI of another row
        words = [set(_WORD.findall(text or "")) for text in pruned["error"].to_pylist()]
        hit = {word for word in set().union(*words) if denied.names(word)}
        if any(found & hit for found in words):
            texts = pruned["error"].to_pylist()
            clean = [None if found & hit else text for text, found in zip(texts, words, strict=True)]
            index = pruned.schema.get_field_index("error")
            pruned = pruned.set_column(index, pruned.schema.field(index), pa.array(clean, pa.string()))
    return pruned


def _without_in_json(table: pa.Table, denied: Denied) -> pa.Table:
    """The table without what is to go in texts that are JSON lists or objects (a step's input may hold ids so)."""
    for index, f in enumerate(table.schema):
        if not pa.types.is_string(f.type):
            continue
        texts = table[f.name].to_pylist()
        clean = [_clean_json(text, denied) if text and text[0] in "[{" else text for text in texts]
        if clean != texts:
            table = table.set_column(index, f, pa.array(clean, pa.string()))
    return table


def _clean_json(text: str, denied: Denied) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    kept, clean = _kept(value, denied)
    return text if clean == value else json.dumps(clean if kept else None)


def _kept(value: Any, denied: Denied) -> tuple[bool, Any]:
    """(whether a JSON value stays in the list or object that it is in, what stays of it)."""
    if isinstance(value, str):
        return not denied.names(value), value
    if isinstance(value, list):
        return True, [clean for kept, clean in (_kept(v, denied) for v in value) if kept]
    if isinstance(value, dict):
        inside = {name: _kept(v, denied) for name, v in value.items()}
        named = any(denied.names(name) for name in value)
        gone = named or any(isinstance(value[name], str) and not kept for name, (kept, _) in inside.items())
        return not gone, {} if gone else {name: clean for name, (_, clean) in inside.items()}
    return True, value


_WORD = re.compile(r"[^\s'\"`,;()\[\]{}<>]+(?<![.:])")
"""What can be an id or a URI in a traceback: no space or quote, no full stop or colon at its end."""


def erase(store: Store, ranges: Iterable[tuple[str, int, int]]) -> Changes:
    """Overwrite byte ranges of packed files with zeros: what else lies there keeps its place, for every reader."""
    done = Changes()
    by_file: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for path, offset, length in ranges:
        by_file[path].append((offset, length))
    for path, places in sorted(by_file.items()):
        try:
            data = bytearray(store.read(path))
        except FileNotFoundError:
            continue
        erased = 0
        for offset, length in places:
            held = data[offset : offset + length]
            if any(held):
                data[offset : offset + length] = bytes(len(held))
                erased += len(held)
        if erased:
            store.write(path, bytes(data))
            done.picture_bytes += erased
            done.files += 1
    return done


def rewrite_part(store: Store, path: str, denied: Denied) -> Changes:
    """One part of a step's output: pictures erased, rows written anew, then the marker, and the old rows deleted."""
    marker = Marker.from_json(store.read(path))
    table = read_table(store, marker.data)
    pruned = without(table, denied)
    if pruned is table:
        return Changes()
    left = references(pruned)
    done = erase(store, references(table) - left)
    data = to_parquet(pruned)
    sha = hashlib.sha256(data).hexdigest()
    folder = path.rpartition("/")[0]
    rows = f"{folder}/{marker.part:04d}-{sha[:16]}.parquet"
    store.write(rows, data)
    fresh = replace(marker, data=rows, rows=pruned.num_rows, n_bytes=len(data), sha256=sha)
    if marker.blobs:
        pictures = store.read(marker.blobs) if left else b""
        fresh = replace(
            fresh,
            blobs=marker.blobs if left else "",
            blobs_n_bytes=len(pictures),
            blobs_sha256=hashlib.sha256(pictures).hexdigest() if left else "",
        )
    store.write(path, fresh.to_json())
    for old in {marker.data, marker.blobs} - {fresh.data, fresh.blobs, ""}:
        store.delete(old)
    return replace(done, files=done.files + 2)


def rewrite_folder(store: Store, paths: Iterable[str], denied: Denied, published: Callable[[], set[str]]) -> Changes:
    """A shard of a step's output: its parts, and what writers that were killed left beside them.

    ``published`` gives the packed files that snapshots refer to.
    """
    done, known = Changes(), list(paths)
    for path in known:
        if path.endswith(".json"):
            done.add(rewrite_part(store, path, denied))
    used: set[str] = set()
    for path in known:
        if path.endswith(".json"):
            marker = Marker.from_json(store.read(path))
            used |= {marker.data, marker.blobs}
    for path in known:
        if path.endswith(".json") or path in used or not store.exists(path):
            continue
        # rows with no marker: those to go are deleted; pictures that nothing refers to may be anybody's
        if path.endswith(".parquet") and without(table := read_table(store, path), denied) is table:
            continue
        if path.endswith(".blobs") and path in published():
            continue
        done.picture_bytes += store.size(path) if path.endswith(".blobs") else 0
        store.delete(path)
        done.files += 1
    return done


def rewrite_renamed(store: Store, path: str, denied: Denied) -> Changes:
    """A file of the ledger, named by its content: written under its new name, then deleted under the old."""
    table = read_table(store, path)
    pruned = without(table, denied)
    if pruned is table:
        return Changes()
    if pruned.num_rows:
        data = to_parquet(pruned)
        stem = path.rpartition("-")[0]
        store.write(f"{stem}-{hashlib.sha256(data).hexdigest()[:12]}.parquet", data)
    store.delete(path)
    return Changes(files=1)


def rewrite_in_place(store: Store, path: str, denied: Denied) -> Changes:
    """A Parquet file whose name is a number, or a key that nothing checks: replaced, or deleted if no row is left."""
    table = read_table(store, path)
    pruned = without(table, denied)
    if pruned is table:
        return Changes()
    done = erase(store, references(table) - references(pruned))
    if pruned.num_rows or not _is_cache(path):
        store.write(path, to_parquet(pruned))
    else:
        store.delete(path)
    return replace(done, files=done.files + 1)


def _is_cache(path: str) -> bool:
    return path.startswith("cache/")
