"""Rewriting of a corpus's files without the removed content; every function can be interrupted and repeated."""

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
from mfhq.pruning import collect_references
from mfhq.store import Store
from mfhq.takedowns import DenyList
from pipelines.engine.commits import Marker

log = logging.getLogger(__name__)


@dataclass
class Changes:
    """Counts of a sweep's changes; its truth value is False if nothing changed."""

    files: int = 0
    """Number of files that were rewritten or deleted."""
    image_bytes: int = 0
    """Number of bytes of images that were overwritten or deleted."""
    snapshots: list[str] = field(default_factory=list)
    """Names of the snapshots that were redacted."""

    def __bool__(self) -> bool:
        return bool(self.files or self.image_bytes or self.snapshots)

    def add(self, other: Changes) -> None:
        """Add the counts of another sweep."""
        self.files += other.files
        self.image_bytes += other.image_bytes
        self.snapshots += [name for name in other.snapshots if name not in self.snapshots]


def read_table(store: Store, path: str) -> pa.Table:
    """Read a Parquet file as it is stored."""
    return pq.read_table(io.BytesIO(store.read(path)))


def redact_table(table: pa.Table, denied: DenyList) -> pa.Table:
    """Remove the rows that take-downs name, tracebacks that quote them, and the parts of JSON texts that name them.

    Args:
        table: Any table of the corpus.
        denied: The take-downs.

    Returns:
        The redacted table; ``table`` itself if there is nothing to remove.
    """
    pruned = _without_in_json(denied.prune(table), denied)
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


def _without_in_json(table: pa.Table, denied: DenyList) -> pa.Table:
    """Remove the parts that take-downs name from JSON lists and objects (a step's input may hold ids in this form)."""
    for index, f in enumerate(table.schema):
        if not pa.types.is_string(f.type):
            continue
        texts = table[f.name].to_pylist()
        clean = [_clean_json(text, denied) if text and text[0] in "[{" else text for text in texts]
        if clean != texts:
            table = table.set_column(index, f, pa.array(clean, pa.string()))
    return table


def _clean_json(text: str, denied: DenyList) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    kept, clean = _kept(value, denied)
    return text if clean == value else json.dumps(clean if kept else None)


def _kept(value: Any, denied: DenyList) -> tuple[bool, Any]:
    """Return (True if a JSON value stays in its list or object, the part of the value that stays)."""
    if isinstance(value, str):
        return not denied.names(value), value
    if isinstance(value, list):
        return True, [clean for kept, clean in (_kept(v, denied) for v in value) if kept]
    if isinstance(value, dict):
        inside = {name: _kept(v, denied) for name, v in value.items()}
        named = any(denied.names(name) for name in value)
        removed = named or any(isinstance(value[name], str) and not kept for name, (kept, _) in inside.items())
        return not removed, {} if removed else {name: clean for name, (_, clean) in inside.items()}
    return True, value


_WORD = re.compile(r"[^\s'\"`,;()\[\]{}<>]+(?<![.:])")
"""Pattern of an id or a URI in a traceback: no spaces, quotes or brackets, no full stop or colon at the end."""


def erase_ranges(store: Store, ranges: Iterable[tuple[str, int, int]]) -> Changes:
    """Overwrite (path, offset, length) ranges of packed files with zeros; the other bytes keep their offsets."""
    done = Changes()
    by_file: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for path, offset, length in ranges:
        by_file[path].append((offset, length))
    for path, ranges_of_file in sorted(by_file.items()):
        try:
            data = bytearray(store.read(path))
        except FileNotFoundError:
            continue
        erased = 0
        for offset, length in ranges_of_file:
            held = data[offset : offset + length]
            if any(held):
                data[offset : offset + length] = bytes(len(held))
                erased += len(held)
        if erased:
            store.write(path, bytes(data))
            done.image_bytes += erased
            done.files += 1
    return done


def rewrite_part(store: Store, path: str, denied: DenyList) -> Changes:
    """Rewrite one part of a step's output: erase images, write new rows, then the marker, and delete the old rows.

    Args:
        store: The corpus.
        path: Path of the part's marker.
        denied: The take-downs.
    """
    marker = Marker.read(store, path)
    table = read_table(store, marker.data)
    pruned = redact_table(table, denied)
    if pruned is table:
        return Changes()
    left = collect_references(pruned)
    done = erase_ranges(store, collect_references(table) - left)
    data = to_parquet(pruned)
    sha = hashlib.sha256(data).hexdigest()
    folder = path.rpartition("/")[0]
    rows = f"{folder}/{marker.part:04d}-{sha[:16]}.parquet"
    store.write(rows, data)
    fresh = replace(marker, data=rows, rows=pruned.num_rows, n_bytes=len(data), sha256=sha)
    if marker.blobs:
        images = store.read(marker.blobs) if left else b""
        fresh = replace(
            fresh,
            blobs=marker.blobs if left else "",
            blobs_n_bytes=len(images),
            blobs_sha256=hashlib.sha256(images).hexdigest() if left else "",
        )
    store.write(path, fresh.to_json())
    for old in {marker.data, marker.blobs} - {fresh.data, fresh.blobs, ""}:
        store.delete(old)
    return replace(done, files=done.files + 2)


def rewrite_folder(store: Store, paths: Iterable[str], denied: DenyList, published: Callable[[], set[str]]) -> Changes:
    """Rewrite a shard of a step's output: its parts, and the files without a marker that killed writers left.

    Args:
        store: The corpus.
        paths: Files of the shard.
        denied: The take-downs.
        published: Returns the packed files that snapshots refer to.
    """
    done, known = Changes(), list(paths)
    for path in known:
        if path.endswith(".json"):
            done.add(rewrite_part(store, path, denied))
    used: set[str] = set()
    for path in known:
        if path.endswith(".json"):
            marker = Marker.read(store, path)
            used |= {marker.data, marker.blobs}
    for path in known:
        if path.endswith(".json") or path in used or not store.exists(path):
            continue
        # no marker names it: rows are deleted if a take-down names one, images unless a snapshot refers to the file,
        # since they may show anybody
        if path.endswith(".parquet") and redact_table(table := read_table(store, path), denied) is table:
            continue
        if path.endswith(".blobs") and path in published():
            continue
        done.image_bytes += store.size(path) if path.endswith(".blobs") else 0
        store.delete(path)
        done.files += 1
    return done


def rewrite_renamed(store: Store, path: str, denied: DenyList) -> Changes:
    """Rewrite a file of the ledger, which is named by its content: write the new file, then delete the old one.

    Args:
        store: The corpus.
        path: The file.
        denied: The take-downs.
    """
    table = read_table(store, path)
    pruned = redact_table(table, denied)
    if pruned is table:
        return Changes()
    if pruned.num_rows:
        data = to_parquet(pruned)
        stem = path.rpartition("-")[0]
        store.write(f"{stem}-{hashlib.sha256(data).hexdigest()[:12]}.parquet", data)
    store.delete(path)
    return Changes(files=1)


def rewrite_in_place(store: Store, path: str, denied: DenyList) -> Changes:
    """Replace a Parquet file whose name does not depend on its content; delete a cache file that has no row left.

    Args:
        store: The corpus.
        path: The file.
        denied: The take-downs.
    """
    table = read_table(store, path)
    pruned = redact_table(table, denied)
    if pruned is table:
        return Changes()
    done = erase_ranges(store, collect_references(table) - collect_references(pruned))
    if pruned.num_rows or not path.startswith("cache/"):
        store.write(path, to_parquet(pruned))
    else:
        store.delete(path)
    return replace(done, files=done.files + 1)
