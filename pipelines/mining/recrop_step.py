"""Step ``recrop``: the crops and mattes of published faces once more from their source files, at another size."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mfhq.ids import digest
from mfhq.schema import FACES, OK
from pipelines.engine.step import Resources, Step
from pipelines.faces.align import crop_size, crop_transform, warp_crop
from pipelines.media.image_codec import encode_png, encode_webp
from pipelines.mining.config import MiningConfig
from pipelines.mining.video_tools import VideoTools, video_tools

TO_RECROP = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("faces", pa.string(), nullable=False),
    ]
)
"""A video, and the faces in it whose crops are wanted: a JSON list of face_id, frame_index, landmarks5, by frame."""

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


class FrameMissing(RuntimeError):
    """The source no longer gives a frame that it gave when it was mined."""


@dataclass
class RecropTools:
    """A worker's decoders and its matte model (``MatteModel``)."""

    videos: VideoTools
    matte: Any


def faces_to_recrop(faces: pa.Table, videos: pa.Table) -> pa.Table:
    """``TO_RECROP`` rows of a snapshot's ok faces (``mfhq.schema.FACES``) and their videos."""
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    used = faces.filter(pc.equal(faces["status"], OK)).select(["video_id", "face_id", "frame_index", "landmarks5"])
    for row in used.to_pylist():
        rows[row.pop("video_id")].append(row)
    uri_of = dict(zip(videos["video_id"].to_pylist(), videos["uri"].to_pylist(), strict=True))
    made = [
        {
            "video_id": video,
            "uri": uri_of[video],
            "faces": json.dumps(sorted(found, key=_by_frame)),
        }
        for video, found in sorted(rows.items())
    ]
    return pa.Table.from_pylist(made, schema=TO_RECROP)


def _by_frame(face: dict[str, Any]) -> tuple[int, str]:
    return face["frame_index"], face["face_id"]


def recrop_step(wanted: pa.Table, size: int, config: MiningConfig | None = None, filesystem: Any = None) -> Step:
    """Crops of ``size`` pixels, or less where ``max_upscale`` says so, for these ``TO_RECROP`` rows.

    Which faces are wanted is part of the fingerprint: another snapshot's are worked on anew.
    """
    from pipelines.faces.weight_files import WEIGHTS

    config = config or MiningConfig()
    config = replace(config, tracks=replace(config.tracks, crop_px=size))
    ids = digest(wanted["faces"].to_pylist())
    return Step(
        name="recrop",
        version=1,
        key="video_id",
        input=TO_RECROP,
        output=RECROPPED,
        load=partial(_load, config, filesystem),
        fn=partial(recrop_videos, config),
        resources=Resources(cpus=1, batch=1),
        config={
            "size": size,
            "faces": ids,
            "max_upscale": config.tracks.max_upscale,
            "webp_quality": config.tracks.webp_quality,
        },
        weights={"selfie_segmentation": WEIGHTS["selfie_segmentation"].sha256},
    )


def _load(config: MiningConfig, filesystem: Any) -> RecropTools:
    from pipelines.faces.matte import MatteModel

    return RecropTools(video_tools(config, filesystem), MatteModel.load())


def recrop_videos(config: MiningConfig, tools: RecropTools, rows: pa.Table) -> pa.Table:
    """``RECROPPED`` of each video."""
    return pa.Table.from_pylist([_recrop(config, tools, row) for row in rows.to_pylist()], schema=RECROPPED)


def _recrop(config: MiningConfig, tools: RecropTools, row: dict[str, Any]) -> dict[str, Any]:
    at: dict[int, list[dict[str, Any]]] = defaultdict(list)
    wanted = json.loads(row["faces"])
    for face in wanted:
        at[face["frame_index"]].append(face)
    made: dict[tuple[int, str], dict[str, Any]] = {}
    with tools.videos.local(row["uri"]) as path:
        for decoder in (tools.videos.first, tools.videos.second):
            for frame in decoder.frames(path, indices=sorted(set(at) - {i for i, _ in made})):
                for face in at[frame.frame_index]:
                    made[frame.frame_index, face["face_id"]] = _cut(config, tools, frame.rgb, face)
            if len(made) == len(wanted):
                break
    if len(made) < len(wanted):
        raise FrameMissing(
            f"{row['uri']}: {len(wanted) - len(made)} faces of {len(wanted)} are in frames that are gone"
        )
    return {"video_id": row["video_id"], "status": OK, "reason": "", "faces": [made[key] for key in sorted(made)]}


def _cut(config: MiningConfig, tools: RecropTools, rgb: np.ndarray, face: dict[str, Any]) -> dict[str, Any]:
    size = crop_size(face["landmarks5"], config.tracks.crop_px, config.tracks.max_upscale)
    crop = warp_crop(rgb, crop_transform(face["landmarks5"], size), size)
    return {
        "face_id": face["face_id"],
        "size": size,
        "crop": encode_webp(crop, config.tracks.webp_quality),
        "matte": encode_png(tools.matte.matte(crop)),
    }


def recropped_faces(faces: pa.Table, made: pa.Table, crop_px: int) -> pa.Table:
    """``faces`` with the new crops and mattes where ``made`` (``RECROPPED``, as references) has them.

    The mesh is in pixels of the crop, so it is scaled along; ``crop_px`` is what the crops were cut at before.
    """
    new = {face["face_id"]: face for row in made.to_pylist() for face in row["faces"] or ()}
    most = MiningConfig().tracks.max_upscale
    columns = {name: faces[name].to_pylist() for name in ("crop", "matte", "mesh468")}
    for i, (face_id, landmarks) in enumerate(zip(faces["face_id"].to_pylist(), faces["landmarks5"], strict=True)):
        if face_id in new:
            columns["crop"][i], columns["matte"][i] = new[face_id]["crop"], new[face_id]["matte"]
            if columns["mesh468"][i] is not None:
                scale = new[face_id]["size"] / crop_size(landmarks.as_py(), crop_px, most)
                columns["mesh468"][i] = np.round(np.asarray(columns["mesh468"][i]) * scale, 2)
    for name, values in columns.items():
        index = FACES.get_field_index(name)
        faces = faces.set_column(index, FACES.field(name), pa.array(values, FACES.field(name).type))
    return faces
