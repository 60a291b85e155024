"""Segments of a corpus: the videos that are published in files of their own, which later snapshots use again.

A segment is a set of parts of the step ``tracks``. The first publication packs all parts into segments whose files are
large. Later ones keep these segments, and pack the parts that are new into further ones; so a corpus that grows by one
per cent rewrites about as much. When there are more than ``MOST_SMALL`` small segments, these alone are packed anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.engine.commits import Marker

SEGMENT_BYTES = 192 << 20
"""Bytes of the parts of ``tracks`` in a segment: those of about a million faces."""
MOST_SMALL = 16
"""Number of segments of less than half of ``SEGMENT_BYTES`` above which they are packed anew."""


@dataclass(frozen=True)
class VideoSegment:
    """Parts of the step ``tracks`` whose videos are published together."""

    parts: tuple[str, ...]
    """Paths of the parts' markers, in the order of shard and part."""

    def ranges(self) -> list[list[Any]]:
        """Return the parts as [folder, first part, last part], for the manifest."""
        found: list[list[Any]] = []
        for path in self.parts:
            folder, number = _split(path)
            if found and found[-1][0] == folder and found[-1][2] == number - 1:
                found[-1][2] = number
            else:
                found.append([folder, number, number])
        return found


def plan_segments(markers: Mapping[str, Marker], former: Iterable[Sequence[Sequence[Any]]]) -> list[VideoSegment]:
    """Divide the parts of the step ``tracks`` into segments.

    Args:
        markers: Path of a part's marker to the marker, in the order of shard and part.
        former: ``VideoSegment.ranges`` of each segment of the snapshot before.

    Returns:
        The segments of the snapshot before, as far as their parts are still there and they are not packed anew; then
        those of the other parts.
    """
    by_place = {_split(path): path for path in markers}
    kept: list[VideoSegment] = []
    for ranges in former:
        numbers = ((folder, n) for folder, first, last in ranges for n in range(first, last + 1))
        parts = tuple(by_place.pop(place) for place in numbers if place in by_place)
        kept += [VideoSegment(parts)] if parts else []
    sizes = [sum(markers[path].n_bytes for path in segment.parts) for segment in kept]
    small = [n for n, size in enumerate(sizes) if size < SEGMENT_BYTES // 2]
    if len(small) > MOST_SMALL:
        by_place |= {_split(path): path for n in small for path in kept[n].parts}
        kept = [segment for n, segment in enumerate(kept) if n not in set(small)]
    rest = [path for path in markers if _split(path) in by_place]
    return kept + _pack(rest, markers)


def _pack(paths: Sequence[str], markers: Mapping[str, Marker]) -> list[VideoSegment]:
    """Pack parts, in their order, into segments of about the same size, at most about ``SEGMENT_BYTES``."""
    total = sum(markers[path].n_bytes for path in paths)
    limit = total / max(1, -(-total // SEGMENT_BYTES))
    segments: list[list[str]] = []
    filled = 0.0
    for path in paths:
        if not segments or filled >= limit:
            segments.append([])
            filled = 0.0
        segments[-1].append(path)
        filled += markers[path].n_bytes
    return [VideoSegment(tuple(parts)) for parts in segments]


def _split(path: str) -> tuple[str, int]:
    """Return the folder of a part's marker and the part's number."""
    folder, _, name = path.rpartition("/")
    return folder, int(name.removesuffix(".json"))
