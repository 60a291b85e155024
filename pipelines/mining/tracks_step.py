"""Step ``tracks``: shots, number of decodable frames, and face tracks of each shot, found while a video is decoded."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from mfhq.schema import FAILED, OK, REJECTED
from pipelines.engine.step import Former, Resources, Step
from pipelines.engine.unfinished import UnfinishedItems
from pipelines.media.decoder import DecodeSummary
from pipelines.media.frame_hash import FrameHashes
from pipelines.media.shots import find_shots
from pipelines.media.survey import SurveyConfig
from pipelines.mining.config import DECODERS, MiningConfig, former_track_settings
from pipelines.mining.schemas import PROBED, TRACKED, TRACKED_BEFORE_5
from pipelines.mining.segment_parts import SegmentParts
from pipelines.mining.shot_tracks import Segment, follow_shots, match_segments
from pipelines.mining.video_tools import SOURCE_CHANGED, SourceChanged, VideoTools, video_tools

NO_FACE = "no_face"
"""Reason: the sampled frames show no face."""
DECODED_IN_PART = "decoded_in_part"
"""Reason: frames are damaged or cut off; the decoded ones are used."""
NO_FRAME_DECODED = "no_frame_decoded"
"""Reason: the container opens, but none of its frames decodes."""


@dataclass
class TrackTools:
    """Resource of the step: decoder and face pack (``FaceAnalyzer``) of one worker."""

    videos: VideoTools
    detector: Any


def tracks_step(config: MiningConfig, pack_name: str | None = None, filesystem: Any = None) -> Step:
    """Return the step from probed videos (``PROBED``) to shots, tracks and candidate faces (``TRACKED``).

    Args:
        config: Settings of the shots and the tracks.
        pack_name: Name or folder of a face pack; None for ``embedded``, the project's own.
        filesystem: fsspec, for sources that are not local; must be picklable.

    Raises:
        WeightsError: The pack is not available.
    """
    from pipelines.faces.pack import face_pack

    settings = {"shots": asdict(config.shots), "tracks": asdict(config.tracks)}
    current = {**settings, "decoder": config.decoder}
    others = [{**settings, "decoder": name} for name in DECODERS if name != config.decoder]
    return Step(
        name="tracks",
        version=5,
        continues=(
            *(Former(version=5, config=other) for other in others),
            *(Former(version=4, config=settings_then, output=TRACKED_BEFORE_5) for settings_then in (current, *others)),
            Former(
                version=3,
                config={**settings, "tracks": former_track_settings(settings["tracks"])},
                output=TRACKED_BEFORE_5,
            ),
        ),
        key="video_id",
        input=PROBED,
        output=TRACKED,
        load=partial(load_track_tools, config, pack_name, filesystem),
        fn=partial(track_videos, config),
        resources=Resources(cpus=1, gpus=config.gpus, batch=1),
        config=current,
        weights=face_pack(pack_name).files,
        in_parts=True,
    )


def load_track_tools(config: MiningConfig, pack_name: str | None, filesystem: Any) -> TrackTools:
    """Open the decoder, and load the pack with its detector at the config's threshold.

    Args:
        config: Limits of the decoder, threshold and input size of the detector.
        pack_name: As in ``tracks_step``.
        filesystem: As in ``tracks_step``.
    """
    from pipelines.faces.analysis import FaceAnalyzer
    from pipelines.faces.pack import face_pack

    detector = FaceAnalyzer(
        face_pack(pack_name),
        det_thresh=config.tracks.detector_threshold,
        min_input=config.tracks.detector_input_px,
        device=config.device,
    )
    return TrackTools(video_tools(config, filesystem), detector)


def track_videos(
    config: MiningConfig, tools: TrackTools, videos: pa.Table, unfinished: UnfinishedItems | None = None
) -> pa.Table:
    """Find the shots and tracks of each video.

    Args:
        config: Settings of the shots and the tracks.
        tools: The decoder and the detector.
        videos: ``PROBED`` rows.
        unfinished: Keeps the finished shots of a long video; by default nothing is kept.

    Returns:
        ``TRACKED`` rows; a video without a face is rejected with reason ``no_face``.
    """
    unfinished = unfinished or UnfinishedItems()
    rows = [_track_video(config, tools, row, unfinished) for row in videos.to_pylist()]
    return pa.Table.from_pylist(rows, schema=TRACKED)


def _track_video(
    config: MiningConfig, tools: TrackTools, row: dict[str, Any], unfinished: UnfinishedItems
) -> dict[str, Any]:
    promised = row["n_frames"]
    try:
        with tools.videos.local(row["uri"], row["video_id"]) as path:
            tools.videos.set_limit(path, row["duration_s"])
            result = _survey(config, tools, row, path, unfinished)
        tools.videos.release(row["uri"], row["video_id"])
    except SourceChanged:
        return {"video_id": row["video_id"], "status": FAILED, "reason": SOURCE_CHANGED}
    out = {
        "video_id": row["video_id"],
        "n_frames": promised if promised is not None else result.summary.n_indexed,
        "n_frames_decoded": result.n_decoded,
        "shots": result.shots,
        "tracks": result.tracks,
    }
    if not result.n_decoded:
        return out | {"status": REJECTED, "reason": NO_FRAME_DECODED}
    if not result.tracks:
        return out | {"status": REJECTED, "reason": NO_FACE}
    return out | {"status": OK, "reason": "" if result.summary.is_complete else DECODED_IN_PART}


@dataclass
class _Survey:
    """Shots and tracks of one video, as rows of ``TRACKED``."""

    shots: list[dict[str, Any]]
    tracks: list[dict[str, Any]]
    n_decoded: int
    summary: DecodeSummary


def _survey(
    config: MiningConfig, tools: TrackTools, row: dict[str, Any], path: Path, unfinished: UnfinishedItems
) -> _Survey:
    """Decode a video, and find its shots and tracks.

    Faces are tracked while the frames are decoded, from hard cut to hard cut. If a gradual transition is found in
    between afterwards, the sampled frames of the shots on both sides of it are decoded and tracked once more. Shots
    that an earlier attempt finished are decoded, but no network runs on them again.
    """
    decoder, video_id = tools.videos.decoder, row["video_id"]
    segments, hashes = SegmentParts(unfinished, video_id, config.part_s), FrameHashes()
    sampled_frames = decoder.survey(path, SurveyConfig(per_second=config.tracks.samples_per_second, shots=config.shots))
    for frame in sampled_frames:
        unfinished.report(video_id, frame.time_s / (row["duration_s"] or math.inf))
        hashes.add(frame)
        if frame.frame_index <= segments.last_frame:
            continue
        if frame.after_cut:
            segments.begin(Segment(config.tracks, video_id))
        segments.follow(frame, tools.detector)
    summary = decoder.summary
    shots = find_shots(decoder.features, config.shots)
    finished = segments.finish()
    segment_of = match_segments(finished, shots)
    unmatched = [shot for number, shot in enumerate(shots) if number not in segment_of]
    sampled = [index for segment in finished for index in segment.frames]
    sampled = [index for index in sampled if any(shot.start_frame <= index < shot.end_frame for shot in unmatched)]
    if sampled:
        frames = decoder.frames(path, indices=sampled)
        segment_of |= follow_shots(config.tracks, tools.detector, video_id, shots, frames)
    return _Survey(
        shots=[
            {"shot_index": i, **asdict(shot), **hashes.between(shot.start_frame, shot.end_frame)}
            for i, shot in enumerate(shots)
        ],
        tracks=[track for i in sorted(segment_of) for track in segment_of[i].rows_of_shot(i)],
        n_decoded=len(decoder.features),
        summary=summary,
    )
