"""Ids from content, never from an order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from io import BufferedIOBase

N_SHARDS = 64
"""Logical shards of a corpus: a hash range of the id, independent of cluster size and of Ray's blocks."""


def digest(value: object, length: int = 32) -> str:
    """Hexadecimal sha256 of a JSON-serialisable value (keys sorted), cut to ``length`` characters."""
    encoded = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()
    return hashlib.sha256(encoded).hexdigest()[:length]


def digest_file(stream: BufferedIOBase) -> str:
    """sha256 of a stream's bytes: the ``video_id`` of a source file."""
    return hashlib.file_digest(stream, "sha256").hexdigest()


def child_id(parent_id: str, frame_index: int, box: Sequence[float]) -> str:
    """Id of a track or a face: hash of its parent's id, its (first) frame and its box, in whole pixels."""
    return digest([parent_id, int(frame_index), [round(float(v)) for v in box]])


def shard_of(item_id: str, n_shards: int = N_SHARDS) -> int:
    """The logical shard of an id: its place in the range of sha256."""
    return int(hashlib.sha256(item_id.encode()).hexdigest()[:8], 16) * n_shards >> 32


def seed_of(item_id: str) -> int:
    """A 63-bit random seed that depends on the item alone."""
    return int(hashlib.sha256(b"seed:" + item_id.encode()).hexdigest()[:16], 16) >> 1
