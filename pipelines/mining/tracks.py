"""Step ``tracks``: faces found in sampled frames, followed through each shot, the best few of each kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np
import pyarrow as pa

from mfhq.ids import child_id
from mfhq.schema import OK, REJECTED
from pipelines.faces.align import ARCFACE_112
from pipelines.media.decoder import DecodedFrame, DecoderCrashed, DecodeTimeout
from pipelines.mining.candidates import SpreadBest
from pipelines.mining.config import MiningConfig, TrackConfig, settings
from pipelines.mining.crops import Candidate, FaceSeen, cut_candidate, is_alignable, look_at, rank_of
from pipelines.mining.linking import Linker
from pipelines.mining.sampling import sample_frames
from pipelines.mining.schemas import SHOTS_FOUND, TRACKED
from pipelines.mining.videos import VideoTools, video_tools
from pipelines.step import Resources, Step

NO_FACE = "no_face"
"""Not one face in the sampled frames."""


@dataclass
class TrackTools:
    """A worker's decoders, and the face pack (``FaceAnalyzer``)."""

    videos: VideoTools
    detector: Any


def tracks_step(config: MiningConfig, pack_name: str | None = None, filesystem: Any = None) -> Step:
    """One video's shots in (``SHOTS_FOUND``), its tracks and their candidate faces out (``TRACKED``)."""
    from pipelines.faces.pack import face_pack

    return Step(
        name="tracks",
        version=1,
        key="video_id",
        input=SHOTS_FOUND,
        output=TRACKED,
        load=partial(load_track_tools, config, pack_name, filesystem),
        fn=partial(tracks_of_videos, config.tracks),
        resources=Resources(cpus=1, batch=1),
        config=settings(config.tracks),
        weights=face_pack(pack_name).files,
    )


def load_track_tools(config: MiningConfig, pack_name: str | None, filesystem: Any) -> TrackTools:
    """Decoders, and the pack with its detector at the config's threshold."""
    from pipelines.faces.analysis import FaceAnalyzer
    from pipelines.faces.pack import face_pack

    detector = FaceAnalyzer(face_pack(pack_name), det_thresh=config.tracks.detector_threshold)
    return TrackTools(video_tools(config, filesystem), detector)


def tracks_of_videos(config: TrackConfig, tools: TrackTools, videos: pa.Table) -> pa.Table:
    """Tracks of each video; a video without a face is rejected with reason ``no_face``."""
    return pa.Table.from_pylist([_tracks(config, tools, row) for row in videos.to_pylist()], schema=TRACKED)


def _tracks(config: TrackConfig, tools: TrackTools, row: dict[str, Any]) -> dict[str, Any]:
    shots = [(shot["start_frame"], shot["end_frame"]) for shot in row["shots"]]
    decoders = [tools.videos.first, tools.videos.second]
    if row["n_frames_decoded"] != row["n_frames"]:
        decoders.pop(0)  # the shots were found by the second: decord does not go on after damage
    tracks: list[dict[str, Any]] = []
    with tools.videos.local(row["uri"]) as path:
        for decoder in decoders:
            try:
                sampled = sample_frames(decoder.times(path), shots, config.samples_per_second)
                frames = decoder.frames(path, indices=sampled)
                tracks = track_faces(config, tools.detector, row["video_id"], shots, frames)
            except (DecodeTimeout, DecoderCrashed):
                if decoder is decoders[-1]:
                    raise
                continue
            if not decoder.summary.error:
                break
    found = {"status": OK, "reason": ""} if tracks else {"status": REJECTED, "reason": NO_FACE}
    return {"video_id": row["video_id"], "tracks": tracks, **found}


@dataclass
class _Track:
    """What is known of a track while its shot goes by."""

    track_id: str
    shot_index: int
    candidates: SpreadBest[Candidate]
    frames: list[int] = field(default_factory=list)
    widths: list[float] = field(default_factory=list)


def track_faces(
    config: TrackConfig, detector: Any, video_id: str, shots: list[tuple[int, int]], frames: Iterable[DecodedFrame]
) -> list[dict[str, Any]]:
    """Tracks (rows of ``TRACKED.tracks``) of sampled frames, ascending, one in memory at a time.

    ``shots`` are (start, end) frames, end exclusive; a frame of no shot is passed over. ``detector.detect(rgb)``
    gives the faces of a frame, ``detector.embed(rgb, landmarks5)`` tells them apart where their places do not.
    """
    done: list[_Track] = []
    shot_index, linker, running = -1, Linker(config), dict[int, _Track]()
    for frame in frames:
        at = next((i for i, (start, end) in enumerate(shots) if start <= frame.frame_index < end), None)
        if at is None:
            continue
        if at != shot_index:  # nothing is followed across a cut
            done.extend(running.values())
            shot_index, linker, running = at, Linker(config), {}
        seen = [look_at(frame.rgb, found, config) for found in detector.detect(frame.rgb) if is_alignable(found)]
        seen.sort(key=lambda face: face.box)
        looks = [cache(partial(detector.embed, face.aligned, ARCFACE_112)) for face in seen]
        for face, number in zip(seen, linker.link(frame.time_s, [face.box for face in seen], looks), strict=True):
            if number not in running:
                track_id = child_id(video_id, frame.frame_index, face.box)
                running[number] = _Track(track_id, shot_index, SpreadBest(config.candidates))
            _follow(running[number], frame, face, config)
    done.extend(running.values())
    return [_row(track, config) for track in done]


def _follow(track: _Track, frame: DecodedFrame, face: FaceSeen, config: TrackConfig) -> None:
    track.frames.append(frame.frame_index)
    track.widths.append(face.width)
    rank = rank_of(face)
    if track.candidates.wants(frame.frame_index, rank):
        candidate = cut_candidate(frame, face, track.track_id, config)
        track.candidates.put(frame.frame_index, rank, candidate)


def _row(track: _Track, config: TrackConfig) -> dict[str, Any]:
    faces = [candidate.row(config.webp_quality) for candidate in track.candidates.best()]
    reasons = [face["reason"] for face in faces]
    usable = any(face["status"] == OK for face in faces)
    return {
        "track_id": track.track_id,
        "shot_index": track.shot_index,
        "start_frame": track.frames[0],
        "end_frame": track.frames[-1] + 1,
        "n_faces": len(track.frames),
        "status": OK if usable else REJECTED,
        "reason": "" if usable else max(sorted(set(reasons)), key=reasons.count),
        "mean_width_px": round(float(np.mean(track.widths)), 2),
        "mean_sharpness": round(float(np.mean([face["sharpness"] for face in faces])), 2),
        "faces": faces,
    }
