"""Ranges that lie beside one another are one read."""

from __future__ import annotations

import random

import pytest

from ffavatar_model.data.prefetch import GAP, RangeReader


def test_every_range_has_its_own_bytes_however_they_are_read() -> None:
    draw = random.Random(3)
    files = {name: draw.randbytes(3 * GAP) for name in "ab"}
    reads: list[tuple[str, int, int]] = []

    def read(uri: str, offset: int, length: int) -> bytes:
        reads.append((uri, offset, length))
        return files[uri][offset : offset + length]

    ranges = [(draw.choice("ab"), draw.randrange(2 * GAP), draw.randrange(1, 5000)) for _ in range(60)]
    reader = RangeReader(read, 4)
    for _ in range(2):
        reads.clear()
        reader.begin(ranges)
        for uri, offset, length in [*ranges, ranges[7]]:
            assert reader(uri, offset, length) == files[uri][offset : offset + length]
        assert len(reads) <= 6
    assert reader("a", 1, 2) == files["a"][1:3], "what was not announced is read by itself"


def test_an_error_is_raised_where_the_bytes_are_wanted() -> None:
    def read(uri: str, offset: int, length: int) -> bytes:
        raise FileNotFoundError(uri)

    reader = RangeReader(read, 2)
    reader.begin([("gone", 0, 5), ("gone", 5, 5)])
    with pytest.raises(FileNotFoundError, match="gone"):
        reader("gone", 5, 5)
