"""Segments of a video in work, of which the finished ones are kept for another attempt at the video."""

from __future__ import annotations

import time
from itertools import count, takewhile
from typing import Any

import pyarrow as pa

from pipelines.engine.unfinished import UnfinishedItems
from pipelines.mining.schemas import SEGMENT
from pipelines.mining.shot_tracks import FinishedSegment, Frame, Segment


class SegmentParts:
    """The segments of one video, in their order: those of earlier attempts, then those that are followed now."""

    def __init__(self, unfinished: UnfinishedItems, video_id: str, part_s: float) -> None:
        """Read the segments that earlier attempts finished.

        Args:
            unfinished: Keeps the parts.
            video_id: The video.
            part_s: Time after which the segments finished since then are kept, seconds.
        """
        self._unfinished, self._video_id, self._part_s = unfinished, video_id, part_s
        rows = [row for part in unfinished.read(video_id, SEGMENT) for row in part.to_pylist()]
        kept = {row["number"]: FinishedSegment(row["frames"], row["tracks"]) for row in rows}
        # attempts at the same time may have left a gap
        self._finished = [kept[number] for number in takewhile(kept.__contains__, count())]
        self._n_kept, self._kept_at = len(self._finished), time.monotonic()
        self._current: Segment | None = None
        self.last_frame = self._finished[-1].frames[-1] if self._finished else -1
        """Last sampled frame of the segments that earlier attempts finished; -1 if there are none."""

    def begin(self, segment: Segment) -> None:
        """Begin the next segment, and keep the finished ones if it is time.

        Args:
            segment: The new segment.
        """
        self._finish_current()
        self._current = segment
        if time.monotonic() - self._kept_at >= self._part_s:
            self._keep()

    def follow(self, frame: Frame, detector: Any) -> None:
        """Track the faces of the next sampled frame in the current segment (``Segment.follow``)."""
        assert self._current is not None
        self._current.follow(frame, detector)

    def finish(self) -> list[FinishedSegment]:
        """Return all segments of the video."""
        self._finish_current()
        return self._finished

    def _finish_current(self) -> None:
        if self._current is not None:
            self._finished.append(self._current.finish())
            self._current = None

    def _keep(self) -> None:
        fresh = self._finished[self._n_kept :]
        if fresh:
            rows = [
                {"video_id": self._video_id, "number": self._n_kept + i, "frames": s.frames, "tracks": s.tracks}
                for i, s in enumerate(fresh)
            ]
            self._unfinished.save(self._video_id, pa.Table.from_pylist(rows, schema=SEGMENT))
            self._n_kept = len(self._finished)
        self._kept_at = time.monotonic()
