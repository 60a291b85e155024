"""Search of the shots of a corpus that may be copies of each other, without comparing each with each.

A hash is divided into four bands of 16 bits. Two frames whose hashes agree in two whole bands meet in a table of keys
in DuckDB, which spills to disk; so the memory does not grow with the corpus. The pairs that meet are compared frame by
frame (``matching``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.duplicates.matching import HashedShot, ShotMatch, compare_shots
from pipelines.media.frame_hash import WINDOWS

if TYPE_CHECKING:
    import duckdb

MOST_SHOTS = 64
"""Number of shots with the same key above which the key says nothing (a test card, a logo), and is left out."""
MOST_OFFSETS = 8
"""Number of offsets in time at which a pair is compared: those at which most keys meet."""
_EVERY_S = 1.0
"""Least time between the frames whose parts of the picture are looked up; the whole picture is at every frame."""
_BANDS, _BAND_BITS = 4, 16
_BIN_S = 0.2
_ROWS = 512

_KEYS = pa.schema([("shot", pa.int32()), ("time_s", pa.float32()), ("is_whole", pa.bool_()), ("key", pa.int64())])
_SHOTS = pa.schema([("shot", pa.int32()), ("times_s", pa.list_(pa.float32())), ("hashes", pa.list_(pa.int64()))])
_MEETINGS = f"""CREATE TABLE candidates AS
WITH common AS (SELECT key FROM keys GROUP BY key HAVING count(DISTINCT shot) BETWEEN 2 AND {MOST_SHOTS}),
k AS (SELECT keys.* FROM keys JOIN common USING (key)),
votes AS (SELECT least(x.shot, y.shot) AS a, greatest(x.shot, y.shot) AS b, CAST(round(
    CASE WHEN x.shot < y.shot THEN x.time_s - y.time_s ELSE y.time_s - x.time_s END / {_BIN_S}) AS INTEGER) AS bin,
    count(*) AS n FROM k x JOIN k y USING (key) WHERE x.is_whole AND x.shot <> y.shot GROUP BY ALL)
SELECT a, b, list(bin ORDER BY n DESC, bin)[1:{MOST_OFFSETS}] AS bins FROM votes GROUP BY a, b"""
_PAIRS = """SELECT c.a, c.b, c.bins, x.times_s AS times_a, x.hashes AS hashes_a, y.times_s AS times_b,
y.hashes AS hashes_b FROM candidates c JOIN hashed x ON x.shot = c.a JOIN hashed y ON y.shot = c.b"""


@dataclass(frozen=True)
class Copy:
    """Two shots of which one is a copy of the other or of a part of it."""

    one: int
    """Number of a shot."""
    other: int
    """Number of the other shot, the larger one."""
    match: ShotMatch


class CopySearch:
    """Search in tables of a DuckDB connection, to which shots are added in any number."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Create the tables.

        Args:
            connection: A connection with a limit on its memory, and a folder to spill to.
        """
        self._connection = connection
        for name, schema in (("keys", _KEYS), ("hashed", _SHOTS)):
            self._insert(name, schema.empty_table(), create=True)

    def add(self, numbers: Sequence[int], shots: Sequence[HashedShot]) -> None:
        """Add shots.

        Args:
            numbers: A number for each shot, which no other shot has.
            shots: Their hashes.
        """
        keys = [_keys_of(number, shot) for number, shot in zip(numbers, shots, strict=True)]
        if keys:
            columns = [pa.array(np.concatenate(column)) for column in zip(*keys, strict=True)]
            self._insert("keys", pa.table(columns, schema=_KEYS))
        rows = {
            "shot": list(numbers),
            "times_s": [shot.times_s.astype(np.float32) for shot in shots],
            "hashes": [shot.hashes.ravel().view(np.int64) for shot in shots],
        }
        self._insert("hashed", pa.table(rows, schema=_SHOTS))

    def copies(self) -> Iterator[Copy]:
        """Yield the pairs of which one shot is a copy of the other, in no particular order."""
        self._connection.execute(_MEETINGS)
        for batch in self._connection.cursor().sql(_PAIRS).to_arrow_reader(_ROWS):
            rows = {name: batch[name].to_pylist() for name in ("a", "b", "bins")}
            ones, others = (shots_of(batch, side) for side in "ab")
            for a, b, bins, one, other in zip(*rows.values(), ones, others, strict=True):
                match = compare_shots(one, other, _offsets(one, other, bins))
                if match is not None and match.is_copy:
                    yield Copy(a, b, match)

    def _insert(self, name: str, rows: pa.Table, create: bool = False) -> None:
        self._connection.register("_rows", rows)
        begin = f"CREATE TABLE {name} AS" if create else f"INSERT INTO {name}"
        self._connection.execute(f"{begin} SELECT * FROM _rows")
        self._connection.unregister("_rows")


def _keys_of(number: int, shot: HashedShot) -> tuple[npt.NDArray[np.generic], ...]:
    """Return the columns of ``_KEYS`` for a shot: the frames at which the picture's hash, or a second, is a new one."""
    whole, times = shot.hashes[:, 0], shot.times_s
    changed = np.flatnonzero(np.r_[True, whole[1:] != whole[:-1]])
    second = np.floor((times - times[0]) / _EVERY_S) if len(times) else times
    parts_at = np.flatnonzero(np.r_[True, second[1:] != second[:-1]])
    values = np.concatenate([whole[changed], shot.hashes[parts_at, 1:].ravel()])
    at = np.concatenate([times[changed], np.repeat(times[parts_at], len(WINDOWS) - 1)])
    bands = (values[:, None] >> np.arange(0, _BANDS * _BAND_BITS, _BAND_BITS, dtype=np.uint64)) & np.uint64(0xFFFF)
    pairs = list(combinations(range(_BANDS), 2))
    keys = [
        np.uint64(n) << np.uint64(32) | bands[:, i] << np.uint64(_BAND_BITS) | bands[:, j]
        for n, (i, j) in enumerate(pairs)
    ]
    times_of_keys = np.tile(at, len(pairs)).astype(np.float32)
    is_whole = np.tile(np.arange(len(values)) < len(changed), len(pairs))
    return np.full(len(is_whole), number, np.int32), times_of_keys, is_whole, np.concatenate(keys).astype(np.int64)


def _offsets(one: HashedShot, other: HashedShot, bins: Sequence[int]) -> list[float]:
    """Return the offsets at which to compare: where keys meet, and where the shots begin or end together."""
    ends = [float(one.times_s[at] - other.times_s[at]) for at in (0, -1)]
    offsets = [*(number * _BIN_S for number in bins), *ends]
    return sorted({round(offset + shift, 2) for offset in offsets for shift in (-_BIN_S / 2, 0, _BIN_S / 2)})


def shots_of(batch: pa.RecordBatch, side: str) -> list[HashedShot]:
    """Return the shots of the columns ``times_`` and ``hashes_`` of a side, ``a`` or ``b``."""
    times, hashes = batch[f"times_{side}"], batch[f"hashes_{side}"]
    return [
        HashedShot(
            np.asarray(t.values, np.float64), np.asarray(h.values, np.int64).view(np.uint64).reshape(-1, len(WINDOWS))
        )
        for t, h in zip(times, hashes, strict=True)
    ]
