"""Ids and seeds that depend on content, never on the order of processing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from io import BufferedIOBase

N_SHARDS = 64
"""Number of logical shards of a corpus.

A shard is a range of hashes of ids, independent of the cluster's size and of Ray's blocks."""

_BLOCK_BYTES = 1 << 20


def digest(value: object, length: int = 32) -> str:
    """Return the sha256 of a JSON-serialisable value with sorted keys.

    Args:
        value: The value.
        length: Number of hexadecimal characters to keep.
    """
    encoded = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()
    return hashlib.sha256(encoded).hexdigest()[:length]


def digest_file(stream: BufferedIOBase, n_bytes: int | None = None) -> str:
    """Return the sha256 of a stream's bytes, hexadecimal; for a source file this is its ``video_id``.

    Args:
        stream: The stream.
        n_bytes: Most bytes that it may have; None for any number.

    Raises:
        OSError: It has more bytes.
    """
    if n_bytes is None:
        return hashlib.file_digest(stream, "sha256").hexdigest()
    whole, left = hashlib.sha256(), n_bytes
    while block := stream.read(min(_BLOCK_BYTES, left + 1)):
        whole.update(block)
        if (left := left - len(block)) < 0:
            raise OSError(f"more bytes come than the {n_bytes} of its size")
    return whole.hexdigest()


def child_id(parent_id: str, frame_index: int, box: Sequence[float]) -> str:
    """Return the id of a track or a face.

    Args:
        parent_id: Id of the track's video, or of the face's track.
        frame_index: Frame index of the face, or of the track's first face.
        box: Box of this face (x0, y0, x1, y1), pixels; it is rounded to whole pixels.
    """
    return digest([parent_id, int(frame_index), [round(float(v)) for v in box]])


def shard_of(item_id: str, n_shards: int = N_SHARDS) -> int:
    """Return the logical shard of an id.

    Args:
        item_id: The id.
        n_shards: Number of shards; all have equal ranges of the sha256.
    """
    return int(hashlib.sha256(item_id.encode()).hexdigest()[:8], 16) * n_shards >> 32


def seed_of(item_id: str) -> int:
    """Return a 63-bit random seed that depends only on the id."""
    return int(hashlib.sha256(b"seed:" + item_id.encode()).hexdigest()[:16], 16) >> 1
