"""Ranges that lie near each other are one read."""

from __future__ import annotations

import pytest

from infra.storage import open_store
from mfhq.byte_ranges import CoalescedRead, coalesce, read_ranges

GAP, LONGEST = 128 << 10, 4 << 20


def test_near_ranges_are_one_read_and_distant_ones_or_another_file_are_not() -> None:
    ranges = [("b", 10, 5), ("a", 100 + GAP, 50), ("a", 0, 100), ("a", 20, 10), ("a", 151 + 2 * GAP, 1), ("b", 10, 5)]
    assert coalesce(ranges, GAP, LONGEST) == [
        CoalescedRead("b", 10, 15, [("b", 10, 5)]),
        CoalescedRead("a", 0, 150 + GAP, [("a", 0, 100), ("a", 20, 10), ("a", 100 + GAP, 50)]),
        CoalescedRead("a", 151 + 2 * GAP, 152 + 2 * GAP, [("a", 151 + 2 * GAP, 1)]),
    ], "in the order of the request"
    adjacent = [("a", i * (1 << 20), 1 << 20) for i in range(9)]
    assert [read.end - read.begin for read in coalesce(adjacent, GAP, LONGEST)] == [LONGEST, LONGEST, 1 << 20]
    assert len(coalesce(adjacent, -1)) == 9 and len(coalesce(adjacent, 0)) == 1


def test_a_range_inside_one_that_is_too_long_is_read_by_itself() -> None:
    reads = coalesce([("a", 0, 100), ("a", 20, 10)], GAP, longest=50)
    assert reads == [CoalescedRead("a", 0, 100, [("a", 0, 100)]), CoalescedRead("a", 20, 30, [("a", 20, 10)])]


def test_near_ranges_are_read_in_one_go(tmp_path):
    store = open_store(tmp_path)
    store.write("a", bytes(range(200)))
    reads = []

    class Counting:
        def read(self, path, offset=0, length=None):
            reads.append((path, offset, length))
            return store.read(path, offset, length)

    ranges = [("a", 10, 5), ("a", 100, 3), ("a", 12, 2)]
    assert read_ranges(Counting(), ranges) == {
        ("a", 10, 5): bytes(range(10, 15)),
        ("a", 12, 2): bytes([12, 13]),
        ("a", 100, 3): bytes([100, 101, 102]),
    }
    assert reads == [("a", 10, 93)]


def test_a_missing_packed_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone"):
        read_ranges(open_store(tmp_path), [("gone.blobs", 0, 1)])
