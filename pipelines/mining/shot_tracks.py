"""Tracking of faces in the sampled frames of one video, shot by shot; the best few faces of each track are kept."""

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
from pipelines.mining.crops import FramePatch, MeasuredFace, copy_patch, crop_candidate, is_alignable, measure_face
from pipelines.mining.face_search import FaceSearch
from pipelines.mining.tracker import Tracker

Frame = Any
"""Frame with ``frame_index``, ``time_s`` and ``rgb``: a ``DecodedFrame`` or a ``SampledFrame``."""


@dataclass
class TrackBuilder:
    """Track that grows while the frames of its shot are read."""

    track_id: str
    candidates: SpreadBest[tuple[MeasuredFace, FramePatch]]
    frames: list[int] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    widths: list[float] = field(default_factory=list)
    """Widths of the face's boxes, pixels; one per frame, like ``frames`` and ``times_s``."""

    def add(self, frame: Frame, face: MeasuredFace, config: TrackConfig) -> None:
        """Add the track's face in the next sampled frame; its patch is copied only if it may become a candidate."""
        self.frames.append(frame.frame_index)
        self.times_s.append(frame.time_s)
        self.widths.append(face.width)
        if self.candidates.accepts(frame.frame_index, face.rank):
            self.candidates.put(frame.frame_index, face.rank, (face, copy_patch(frame, face, config)))

    def row(self, config: TrackConfig) -> dict[str, Any]:
        """Return the track as a row of ``TRACKED.tracks`` of shot 0, with the crops of its candidates.

        Args:
            config: Number, spacing, size and quality of the candidates' crops.
        """
        intervals = math.ceil(round((self.times_s[-1] - self.times_s[0]) / config.candidate_spacing_s, 3))
        best = self.candidates.best(max(config.fewest_candidates, intervals))
        crops = [crop_candidate(patch, face, self.track_id, config) for face, patch in best]
        faces = [candidate.row(config.webp_quality) for candidate in crops]
        reasons = [face["reason"] for face in faces]
        usable = any(face["status"] == OK for face in faces)
        return {
            "track_id": self.track_id,
            "shot_index": 0,
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
    """Sampled frames between two hard cuts, and the tracks through them."""

    config: TrackConfig
    video_id: str
    frames: list[int] = field(default_factory=list)
    tracks: dict[int, TrackBuilder] = field(default_factory=dict)
    """Track number to track; the numbers are in the order of the tracks' first faces."""
    _tracker: Tracker = field(init=False)
    _search: FaceSearch = field(init=False)

    def __post_init__(self) -> None:
        self._tracker, self._search = Tracker(self.config), FaceSearch(self.config)

    def follow(self, frame: Frame, detector: Any) -> None:
        """Detect and track the faces of the next sampled frame.

        Args:
            frame: The frame.
            detector: Finds the faces (``FaceSearch.find``); its ``embed(rgb, landmarks5)`` returns a face's embedding,
                and is called only for faces whose boxes are ambiguous.
        """
        self.frames.append(frame.frame_index)
        found = self._search.find(frame, self._tracker.known_faces(frame.time_s), detector)
        detections = [detection for detection in found if is_alignable(detection)]
        faces = [measure_face(frame.rgb, detection, self.config) for detection in detections]
        faces.sort(key=lambda face: face.box)
        embed = [cache(partial(detector.embed, face.aligned, ARCFACE_112)) for face in faces]
        numbers = self._tracker.update(frame.time_s, [face.box for face in faces], embed)
        for face, number in zip(faces, numbers, strict=True):
            if number not in self.tracks:
                track_id = child_id(self.video_id, frame.frame_index, face.box)
                self.tracks[number] = TrackBuilder(track_id, SpreadBest(self.config.candidates))
            self.tracks[number].add(frame, face, self.config)

    def finish(self) -> FinishedSegment:
        """Choose the candidates of the tracks, and crop them."""
        return FinishedSegment(self.frames, [track.row(self.config) for track in self.tracks.values()])


@dataclass(frozen=True)
class FinishedSegment:
    """Sampled frames between two hard cuts, and the tracks through them with their crops."""

    frames: list[int]
    tracks: list[dict[str, Any]]
    """Rows of ``TRACKED.tracks``, in the order of the tracks' first faces; ``shot_index`` is 0."""

    def rows_of_shot(self, shot_index: int) -> list[dict[str, Any]]:
        """Return the tracks as those of a shot.

        Args:
            shot_index: The shot's number in the video.
        """
        return [{**track, "shot_index": shot_index} for track in self.tracks]

    def is_within(self, shot: Shot) -> bool:
        """Return True if all frames belong to the shot."""
        return shot.start_frame <= self.frames[0] and self.frames[-1] < shot.end_frame

    def overlaps(self, shot: Shot) -> bool:
        """Return True if the range of the frames overlaps that of the shot."""
        return self.frames[0] < shot.end_frame and shot.start_frame <= self.frames[-1]


def match_segments(segments: Sequence[FinishedSegment], shots: Sequence[Shot]) -> dict[int, FinishedSegment]:
    """Match the segments to the shots that hold the same frames.

    Args:
        segments: The segments of a video, from hard cut to hard cut.
        shots: The shots of the video.

    Returns:
        Shot number to its segment. A shot is missing if a gradual transition lies within its segment, or if no frame
        of the shot was sampled.
    """
    matched: dict[int, FinishedSegment] = {}
    for number, shot in enumerate(shots):
        near = [segment for segment in segments if segment.overlaps(shot)]
        if len(near) == 1 and near[0].is_within(shot):
            matched[number] = near[0]
    return matched


def follow_shots(
    config: TrackConfig, detector: Any, video_id: str, shots: Sequence[Shot], frames: Iterable[Frame]
) -> dict[int, FinishedSegment]:
    """Track faces through known shots, with one frame in memory at a time.

    Args:
        config: Settings of the tracking.
        detector: As in ``Segment.follow``.
        video_id: The video.
        shots: The shots of the video.
        frames: Frames in ascending order; those that belong to no shot are skipped.

    Returns:
        Shot number to the segment of its frames; shots without a frame are missing.
    """
    segments: dict[int, Segment] = {}
    for frame in frames:
        index = frame.frame_index
        number = next((i for i, shot in enumerate(shots) if shot.start_frame <= index < shot.end_frame), None)
        if number is not None:
            segments.setdefault(number, Segment(config, video_id)).follow(frame, detector)
    return {number: segment.finish() for number, segment in segments.items()}
