"""Step ``tracks``: one decoding of a video gives its shots, its damage, and the faces followed through each shot."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from mfhq.schema import OK, REJECTED
from pipelines.engine.step import Resources, Step
from pipelines.media.decoder import DecoderCrashed, DecodeSummary, DecodeTimeout, ProcessDecoder
from pipelines.media.shots import find_shots
from pipelines.media.survey import SurveyConfig
from pipelines.mining.config import MiningConfig, settings
from pipelines.mining.following import Segment, follow_shots, settled
from pipelines.mining.schemas import PROBED, TRACKED
from pipelines.mining.video_tools import VideoTools, video_tools

NO_FACE = "no_face"
"""Not one face in the sampled frames."""
DECODED_IN_PART = "decoded_in_part"
"""Fewer frames decode than the container promises; those that do are used."""
NO_FRAME_DECODED = "no_frame_decoded"
"""A container that opens, and not one frame of it decodes."""


@dataclass
class TrackTools:
    """A worker's decoders, and the face pack (``FaceAnalyzer``)."""

    videos: VideoTools
    detector: Any


def tracks_step(config: MiningConfig, pack_name: str | None = None, filesystem: Any = None) -> Step:
    """One probed video in (``PROBED``), its shots, tracks and candidate faces out (``TRACKED``)."""
    from pipelines.faces.pack import face_pack

    return Step(
        name="tracks",
        version=3,
        key="video_id",
        input=PROBED,
        output=TRACKED,
        load=partial(load_track_tools, config, pack_name, filesystem),
        fn=partial(tracks_of_videos, config),
        resources=Resources(cpus=1, batch=1),
        config={"shots": settings(config.shots), "tracks": settings(config.tracks)},
        weights=face_pack(pack_name).files,
    )


def load_track_tools(config: MiningConfig, pack_name: str | None, filesystem: Any) -> TrackTools:
    """Decoders, and the pack with its detector at the config's threshold."""
    from pipelines.faces.analysis import FaceAnalyzer
    from pipelines.faces.pack import face_pack

    detector = FaceAnalyzer(
        face_pack(pack_name),
        det_thresh=config.tracks.detector_threshold,
        smallest_input=config.tracks.detector_input_px,
    )
    return TrackTools(video_tools(config, filesystem), detector)


def tracks_of_videos(config: MiningConfig, tools: TrackTools, videos: pa.Table) -> pa.Table:
    """Shots and tracks of each video; a video without a face is rejected with reason ``no_face``.

    What decord does not give whole is decoded again by PyAV, which goes on after damage.
    """
    return pa.Table.from_pylist([_tracks(config, tools, row) for row in videos.to_pylist()], schema=TRACKED)


def _tracks(config: MiningConfig, tools: TrackTools, row: dict[str, Any]) -> dict[str, Any]:
    promised = row["n_frames"]
    with tools.videos.local(row["uri"]) as path:
        survey = partial(_survey, config, tools, row["video_id"], path)
        try:
            found = survey(tools.videos.first, promised)
        except (DecodeTimeout, DecoderCrashed, _NotWhole):
            found = survey(tools.videos.second)
    out = {
        "video_id": row["video_id"],
        "n_frames": promised if promised is not None else found.summary.n_indexed,
        "n_frames_decoded": found.n_decoded,
        "shots": found.shots,
        "tracks": found.tracks,
    }
    if not found.n_decoded:
        return out | {"status": REJECTED, "reason": NO_FRAME_DECODED}
    if not found.tracks:
        return out | {"status": REJECTED, "reason": NO_FACE}
    return out | {"status": OK, "reason": "" if found.summary.is_whole(promised) else DECODED_IN_PART}


class _NotWhole(Exception):
    """The decoder did not give every frame that the container promises."""


@dataclass
class _Found:
    shots: list[dict[str, Any]]
    tracks: list[dict[str, Any]]
    n_decoded: int
    summary: DecodeSummary


def _survey(
    config: MiningConfig, tools: TrackTools, video_id: str, path: Path, decoder: ProcessDecoder, *whole: int | None
) -> _Found:
    """What one decoder gives of a video.

    Faces are followed while the frames go by, from hard cut to hard cut. Where a gradual transition turns out to lie
    in between, the sampled frames of the shots beside it are decoded and followed once more. With ``whole``, what the
    container promises, ``_NotWhole`` is raised where less than that was decoded.
    """
    stretches: list[Segment] = []
    for frame in decoder.survey(path, SurveyConfig(per_second=config.tracks.samples_per_second, shots=config.shots)):
        if frame.after_cut:
            stretches.append(Segment(config.tracks, video_id))
        stretches[-1].follow(frame, tools.detector)
    summary = decoder.summary
    if whole and not summary.is_whole(*whole):
        raise _NotWhole
    shots = find_shots(decoder.features, config.shots)
    found = settled(stretches, shots)
    again = [shot for number, shot in enumerate(shots) if number not in found]
    sampled = [index for stretch in stretches for index in stretch.frames]
    sampled = [index for index in sampled if any(shot.start_frame <= index < shot.end_frame for shot in again)]
    if sampled:
        frames = decoder.frames(path, indices=sampled)
        found |= follow_shots(config.tracks, tools.detector, video_id, shots, frames)
    return _Found(
        shots=[{"shot_index": i, **asdict(shot)} for i, shot in enumerate(shots)],
        tracks=[face.row(i, config.tracks) for i in sorted(found) for face in found[i].tracks.values()],
        n_decoded=len(decoder.features),
        summary=summary,
    )
