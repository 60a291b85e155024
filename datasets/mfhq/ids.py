"""Ids and seeds that depend on content, never on an order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from io import BufferedIOBase

N_SHARDS = 64
"""Logical shards of a corpus: hash ranges of the ids, independent of the cluster's size and of Ray's blocks."""


def digest(value: object, length: int = 32) -> str:
    """Return the sha256 of a JSON-serialisable value with sorted keys.

    Args:
        value: The value.
        length: Hexadecimal characters to keep.
    """
    encoded = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()
    return hashlib.sha256(encoded).hexdigest()[:length]


def digest_file(stream: BufferedIOBase) -> str:
    """Return the sha256 of a stream's bytes, hexadecimal: the ``video_id`` of a source file."""
    return hashlib.file_digest(stream, "sha256").hexdigest()


def child_id(parent_id: str, frame_index: int, box: Sequence[float]) -> str:
    """Return the id of a track or a face.

    Args:
        parent_id: Id of the video or the track.
        frame_index: Frame of the face; of a track the first one.
        box: Face box x0, y0, x1, y1, pixels; it is rounded.
    """
    return digest([parent_id, int(frame_index), [round(float(v)) for v in box]])


def shard_of(item_id: str, n_shards: int = N_SHARDS) -> int:
    """Return the logical shard of an id.

    Args:
        item_id: The id.
        n_shards: Number of shards; each holds an equal range of sha256.
    """
    return int(hashlib.sha256(item_id.encode()).hexdigest()[:8], 16) * n_shards >> 32


def seed_of(item_id: str) -> int:
    """Return a 63-bit random seed that depends on the id alone."""
    return int(hashlib.sha256(b"seed:" + item_id.encode()).hexdigest()[:16], 16) >> 1
