"""Byte ranges of files: ranges that lie near each other are coalesced into one read.

A request to a remote store costs as much as transferring some hundred kilobytes, and values of one item are packed
beside each other in one file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mfhq.store import Store

ByteRange = tuple[str, int, int]
"""(path, offset, length), in bytes."""

DEFAULT_GAP = 1 << 20
"""Bytes between two ranges of one file that ``read_ranges`` reads along rather than starting another read."""


@dataclass
class CoalescedRead:
    """One read of a file, and the requested ranges that it covers."""

    path: str
    begin: int
    end: int
    """Exclusive."""
    ranges: list[ByteRange] = field(default_factory=list)

    def slice(self, data: bytes, covered: ByteRange) -> bytes:
        """Return the bytes of one covered range from the bytes of the read."""
        _, offset, length = covered
        return data[offset - self.begin : offset - self.begin + length]


def coalesce(ranges: Iterable[ByteRange], gap: int, longest: int | None = None) -> list[CoalescedRead]:
    """Group ranges of one file that lie near each other into one read. Duplicates count once.

    Args:
        ranges: The requested ranges, in any order.
        gap: Most bytes between two ranges of one read; -1 keeps even adjacent ranges separate.
        longest: Most bytes of a read that covers several ranges; None sets no limit. A longer range is read alone.

    Returns:
        The reads, ordered by the first of their ranges in ``ranges``; each read's ranges ordered by offset.
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
    """Read byte ranges from a store, with one read for ranges that lie near each other.

    Args:
        store: The corpus; paths are relative to its root.
        ranges: The requested ranges, in any order.
        gap: Most bytes between two ranges of one read.

    Returns:
        The bytes of each range.

    Raises:
        FileNotFoundError: A file is missing.
        StoreError: The store cannot be read.
    """
    contents: dict[ByteRange, bytes] = {}
    for read in coalesce(ranges, gap):
        data = store.read(read.path, read.begin, read.end - read.begin)
        contents.update((covered, read.slice(data, covered)) for covered in read.ranges)
    return contents
