"""Step ``recrop``: crops and mattes of published faces, cut again from their source files at another size."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mfhq.ids import digest
from mfhq.schema import FACES, FAILED, OK
from pipelines.engine.step import Resources, Step
from pipelines.faces.align import crop_size, crop_transform, warp_crop
from pipelines.media.image_codec import encode_png, encode_webp
from pipelines.mining.config import MiningConfig
from pipelines.mining.probe_step import UNREACHABLE
from pipelines.mining.video_tools import SOURCE_CHANGED, SourceChanged, VideoTools, video_tools

TO_RECROP = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("faces", pa.string(), nullable=False),
    ]
)
"""Schema of a video to crop: ``faces`` is a JSON list of face_id, frame_index, time_s, landmarks5, sorted by frame."""

RECROPPED = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field(
            "faces",
            pa.list_(
                pa.struct(
                    [
                        pa.field("face_id", pa.string(), nullable=False),
                        pa.field("size", pa.int32(), nullable=False),
                        pa.field("crop", pa.large_binary(), nullable=False),
                        pa.field("matte", pa.large_binary(), nullable=False),
                    ]
                )
            ),
        ),
    ]
)
"""Schema of the output: crop (WebP, RGB) and matte (PNG, grey) of each face, ``size`` pixels wide and high."""


FRAME_MISSING = "frame_missing"
"""Reason: a frame does not decode, or is shown at another time than when the source was mined."""

TIME_SLACK_S = 0.02
"""Largest difference between the times of a frame when it was mined and now, seconds."""


@dataclass
class RecropTools:
    """Resource of the step: a worker's decoder and its matte model (``MatteModel``)."""

    videos: VideoTools
    matte: Any


def faces_to_recrop(faces: pa.Table, videos: pa.Table) -> pa.Table:
    """Return the videos of a snapshot's ok faces, with the faces to crop.

    Args:
        faces: ``mfhq.schema.FACES`` rows.
        videos: Rows with ``video_id`` and ``uri`` of the faces' videos.

    Returns:
        ``TO_RECROP`` rows ordered by ``video_id``.
    """
    faces_of: dict[str, list[dict[str, Any]]] = defaultdict(list)
    columns = ["video_id", "face_id", "frame_index", "time_s", "landmarks5"]
    used = faces.filter(pc.equal(faces["status"], OK)).select(columns)
    for row in used.to_pylist():
        faces_of[row.pop("video_id")].append(row)
    uri_of = dict(zip(videos["video_id"].to_pylist(), videos["uri"].to_pylist(), strict=True))
    rows = [
        {
            "video_id": video,
            "uri": uri_of[video],
            "faces": json.dumps(sorted(members, key=lambda face: (face["frame_index"], face["face_id"]))),
        }
        for video, members in sorted(faces_of.items())
    ]
    return pa.Table.from_pylist(rows, schema=TO_RECROP)


def recrop_step(videos: pa.Table, size: int, config: MiningConfig | None = None, filesystem: Any = None) -> Step:
    """Return the step from videos (``TO_RECROP``) to new crops and mattes (``RECROPPED``).

    The faces are part of the fingerprint, so the output for another snapshot is computed anew.

    Args:
        videos: All ``TO_RECROP`` rows of the run.
        size: Side of a crop, pixels; smaller if ``max_upscale`` demands it.
        config: Limits of the decoder, quality of the crops; by default ``MiningConfig()``.
        filesystem: fsspec, for sources that are not local; must be picklable.
    """
    from pipelines.faces.weight_files import WEIGHTS

    config = config or MiningConfig()
    config = replace(config, tracks=replace(config.tracks, crop_px=size))
    return Step(
        name="recrop",
        version=2,
        key="video_id",
        input=TO_RECROP,
        output=RECROPPED,
        load=partial(load_recrop_tools, config, filesystem),
        fn=partial(recrop_videos, config),
        resources=Resources(cpus=1, batch=1),
        config={
            "size": size,
            "faces": digest(videos["faces"].to_pylist()),
            "max_upscale": config.tracks.max_upscale,
            "webp_quality": config.tracks.webp_quality,
        },
        weights={"selfie_segmentation": WEIGHTS["selfie_segmentation"].sha256},
    )


def load_recrop_tools(config: MiningConfig, filesystem: Any) -> RecropTools:
    """Open the decoder and load the matte model.

    Args:
        config: Limits of the decoder.
        filesystem: fsspec, for sources that are not local.
    """
    from pipelines.faces.matte import MatteModel

    return RecropTools(video_tools(config, filesystem), MatteModel.load())


def recrop_videos(config: MiningConfig, tools: RecropTools, rows: pa.Table) -> pa.Table:
    """Cut the crops and mattes of each video's faces; a video fails as a whole, and alone.

    Args:
        config: Size and quality of the crops.
        tools: The decoder and the matte model.
        rows: ``TO_RECROP`` rows.

    Returns:
        ``RECROPPED`` rows. A video fails if its file is not there (``unreachable``), has other bytes
        (``source_changed``), or lacks a frame at its time (``frame_missing``).
    """
    return pa.Table.from_pylist([_recrop_video(config, tools, row) for row in rows.to_pylist()], schema=RECROPPED)


def _recrop_video(config: MiningConfig, tools: RecropTools, row: dict[str, Any]) -> dict[str, Any]:
    common = {"video_id": row["video_id"], "status": FAILED, "faces": None}
    faces = json.loads(row["faces"])
    try:
        with tools.videos.local(row["uri"], row["video_id"]) as path:
            tools.videos.set_limit(path, faces[-1]["time_s"])
            crops = _crop_faces(config, tools, path, faces)
    except OSError:
        return common | {"reason": UNREACHABLE}
    except SourceChanged:
        return common | {"reason": SOURCE_CHANGED}
    if len(crops) < len(faces):
        return common | {"reason": FRAME_MISSING}
    return common | {"status": OK, "reason": "", "faces": crops}


def _crop_faces(
    config: MiningConfig, tools: RecropTools, path: Path, faces: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the crops of the faces whose frames are found at their times, in the order of the frames."""
    faces_in: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for face in faces:
        faces_in[face["frame_index"]].append(face)
    return [
        _crop_face(config, tools, frame.rgb, face)
        for frame in tools.videos.decoder.frames(path, indices=sorted(faces_in))
        for face in faces_in[frame.frame_index]
        if abs(frame.time_s - face["time_s"]) <= TIME_SLACK_S
    ]


def _crop_face(config: MiningConfig, tools: RecropTools, rgb: np.ndarray, face: dict[str, Any]) -> dict[str, Any]:
    size = crop_size(face["landmarks5"], config.tracks.crop_px, config.tracks.max_upscale)
    crop = warp_crop(rgb, crop_transform(face["landmarks5"], size), size)
    return {
        "face_id": face["face_id"],
        "size": size,
        "crop": encode_webp(crop, config.tracks.webp_quality),
        "matte": encode_png(tools.matte.matte(crop)),
    }


def recropped_faces(
    faces: pa.Table, recropped: pa.Table, crop_px: int, kept: Mapping[str, int] | None = None
) -> pa.Table:
    """Replace crops and mattes by the new ones, and scale the meshes, which are in pixels of the crop.

    Args:
        faces: ``mfhq.schema.FACES`` rows.
        recropped: ``RECROPPED`` rows, with images as references; faces that it lacks stay as they are.
        crop_px: Side of the crops that are replaced (``TrackConfig.crop_px``), pixels.
        kept: ``video_id`` to another side of its crops, because an earlier recrop failed on the video.

    Returns:
        ``mfhq.schema.FACES`` rows in the same order.
    """
    new = {face["face_id"]: face for row in recropped.to_pylist() for face in row["faces"] or ()}
    max_upscale, kept = MiningConfig().tracks.max_upscale, kept or {}
    columns = {name: faces[name].to_pylist() for name in ("crop", "matte", "mesh468")}
    keys = zip(faces["face_id"].to_pylist(), faces["video_id"].to_pylist(), faces["landmarks5"], strict=True)
    for i, (face_id, video_id, landmarks) in enumerate(keys):
        if face_id in new:
            columns["crop"][i], columns["matte"][i] = new[face_id]["crop"], new[face_id]["matte"]
            if columns["mesh468"][i] is not None:
                former = crop_size(landmarks.as_py(), kept.get(video_id, crop_px), max_upscale)
                columns["mesh468"][i] = np.round(np.asarray(columns["mesh468"][i]) * new[face_id]["size"] / former, 2)
    for name, values in columns.items():
        index = FACES.get_field_index(name)
        faces = faces.set_column(index, FACES.field(name), pa.array(values, FACES.field(name).type))
    return faces
