"""Reading of byte ranges; neighbouring ranges of a file are coalesced into one read.

A request to a remote store takes as long as the transfer of some hundred kilobytes, and the values of one item are
packed beside each other in one file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mfhq.store import Store

ByteRange = tuple[str, int, int]
"""(path, offset, length); offset and length in bytes."""

DEFAULT_GAP = 1 << 20
"""Largest gap (bytes) between two ranges of one file that ``read_ranges`` covers with one read."""


@dataclass
class CoalescedRead:
    """One read of a file, and the requested ranges that it covers."""

    path: str
    """Path of the file."""
    begin: int
    """Offset of the first byte of the read."""
    end: int
    """Offset after the last byte of the read."""
    ranges: list[ByteRange] = field(default_factory=list)
    """Requested ranges that the read covers."""

    def slice(self, data: bytes, covered: ByteRange) -> bytes:
        """Return the bytes of one covered range, given the bytes of the read."""
        _, offset, length = covered
        return data[offset - self.begin : offset - self.begin + length]


def coalesce(ranges: Iterable[ByteRange], gap: int, longest: int | None = None) -> list[CoalescedRead]:
    """Group neighbouring ranges of a file into one read; a range that occurs twice counts once.

    Args:
        ranges: The requested ranges, in any order.
        gap: Most bytes between two ranges of one read; -1 keeps even adjacent ranges separate.
        longest: Most bytes of a read that covers several ranges; None for no limit. A longer range is read alone.

    Returns:
        The reads, in the order in which ``ranges`` first lists one of their ranges; a read's ranges are ordered by
        offset.
    """
    rank = {requested: i for i, requested in enumerate(dict.fromkeys(ranges))}
    reads: list[CoalescedRead] = []
    for path, offset, length in sorted(rank):
        end = offset + length
        last = reads[-1] if reads and reads[-1].path == path else None
        if last is not None and offset - last.end <= gap:
            joined_end = max(last.end, end)
            if longest is None or joined_end - last.begin <= longest:
                last.end = joined_end
                last.ranges.append((path, offset, length))
                continue
        reads.append(CoalescedRead(path, offset, end, [(path, offset, length)]))
    return sorted(reads, key=lambda read: min(rank[covered] for covered in read.ranges))


def read_ranges(store: Store, ranges: Iterable[ByteRange], gap: int = DEFAULT_GAP) -> dict[ByteRange, bytes]:
    """Read byte ranges from a store, with one read for neighbouring ranges of a file.

    Args:
        store: The corpus; paths are relative to its root.
        ranges: The requested ranges, in any order.
        gap: Most bytes between two ranges of one read.

    Returns:
        The bytes of each range.

    Raises:
        FileNotFoundError: A file is missing.
        StoreError: The store cannot be reached or read.
    """
    contents: dict[ByteRange, bytes] = {}
    for read in coalesce(ranges, gap):
        data = store.read(read.path, read.begin, read.end - read.begin)
        contents.update((covered, read.slice(data, covered)) for covered in read.ranges)
    return contents
