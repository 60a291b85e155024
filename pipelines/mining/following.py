"""Faces of sampled frames, followed through the shots of one video, the best few of each track kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np

from mfhq.ids import child_id
from mfhq.schema import OK, REJECTED
from pipelines.faces.align import ARCFACE_112
from pipelines.media.shots import Shot
from pipelines.mining.candidates import SpreadBest
from pipelines.mining.config import TrackConfig
from pipelines.mining.crops import FaceSeen, FramePatch, cut_candidate, is_alignable, look_at, rank_of, take_cutting
from pipelines.mining.tracker import Tracker

Frame = Any
"""``frame_index``, ``time_s``, ``rgb``: a ``DecodedFrame`` or a ``SampledFrame``."""


@dataclass
class FollowedFace:
    """What is known of a track while its shot goes by."""

    track_id: str
    candidates: SpreadBest[tuple[FaceSeen, FramePatch]]
    frames: list[int] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    widths: list[float] = field(default_factory=list)

    def kept(self, config: TrackConfig) -> list[tuple[FaceSeen, FramePatch]]:
        """The faces that are kept, in the order of their frames."""
        stretches = math.ceil(round((self.times_s[-1] - self.times_s[0]) / config.candidate_spacing_s, 3))
        return self.candidates.best(max(config.fewest_candidates, stretches))

    def row(self, shot_index: int, config: TrackConfig) -> dict[str, Any]:
        """The track as ``TRACKED.tracks`` has it; only now are the kept faces' crops cut."""
        kept = [cut_candidate(cutting, face, self.track_id, config) for face, cutting in self.kept(config)]
        faces = [candidate.row(config.webp_quality) for candidate in kept]
        reasons = [face["reason"] for face in faces]
        usable = any(face["status"] == OK for face in faces)
        return {
            "track_id": self.track_id,
            "shot_index": shot_index,
            "start_frame": self.frames[0],
            "end_frame": self.frames[-1] + 1,
            "n_faces": len(self.frames),
            "status": OK if usable else REJECTED,
            "reason": "" if usable else max(sorted(set(reasons)), key=reasons.count),
            "mean_width_px": round(float(np.mean(self.widths)), 2),
            "mean_sharpness": round(float(np.mean([face["sharpness"] for face in faces])), 2),
            "faces": faces,
        }


@dataclass
class Segment:
    """Sampled frames between two hard cuts, and the faces followed through them."""

    config: TrackConfig
    video_id: str
    frames: list[int] = field(default_factory=list)
    tracks: dict[int, FollowedFace] = field(default_factory=dict)
    _linker: Tracker | None = None

    def follow(self, frame: Frame, detector: Any) -> None:
        """Take in the next sampled frame. ``detector.detect(rgb)`` gives its faces, and
        ``detector.embed(rgb, landmarks5)`` tells them apart where their places do not."""
        self._linker = self._linker or Tracker(self.config)
        self.frames.append(frame.frame_index)
        seen = [look_at(frame.rgb, found, self.config) for found in detector.detect(frame.rgb) if is_alignable(found)]
        seen.sort(key=lambda face: face.box)
        looks = [cache(partial(detector.embed, face.aligned, ARCFACE_112)) for face in seen]
        for face, number in zip(seen, self._linker.link(frame.time_s, [f.box for f in seen], looks), strict=True):
            if number not in self.tracks:
                track_id = child_id(self.video_id, frame.frame_index, face.box)
                self.tracks[number] = FollowedFace(track_id, SpreadBest(self.config.candidates))
            track, rank = self.tracks[number], rank_of(face)
            track.frames.append(frame.frame_index)
            track.times_s.append(frame.time_s)
            track.widths.append(face.width)
            if track.candidates.wants(frame.frame_index, rank):
                track.candidates.put(frame.frame_index, rank, (face, take_cutting(frame, face, self.config)))

    def is_within(self, shot: Shot) -> bool:
        """Whether all of its frames belong to the shot."""
        return shot.start_frame <= self.frames[0] and self.frames[-1] < shot.end_frame

    def touches(self, shot: Shot) -> bool:
        """Whether one of its frames may belong to the shot."""
        return self.frames[0] < shot.end_frame and shot.start_frame <= self.frames[-1]


def settled(stretches: Sequence[Segment], shots: Sequence[Shot]) -> dict[int, Segment]:
    """Shot number to its stretch, where the two are the same: no gradual transition cuts into either.

    A shot without a single sampled frame has an empty stretch.
    """
    found: dict[int, Segment] = {}
    for number, shot in enumerate(shots):
        near = [stretch for stretch in stretches if stretch.touches(shot)]
        if len(near) == 1 and near[0].is_within(shot):
            found[number] = near[0]
    return found


def follow_shots(
    config: TrackConfig, detector: Any, video_id: str, shots: Sequence[Shot], frames: Iterable[Frame]
) -> dict[int, Segment]:
    """Shot number to what was followed through it, for frames, ascending, of shots that are known; others are passed
    over. One frame is in memory at a time."""
    found: dict[int, Segment] = {}
    for frame in frames:
        at = next((i for i, shot in enumerate(shots) if shot.start_frame <= frame.frame_index < shot.end_frame), None)
        if at is not None:
            found.setdefault(at, Segment(config, video_id)).follow(frame, detector)
    return found
