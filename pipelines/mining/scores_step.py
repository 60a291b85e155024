"""Step ``scores``: mesh, matte, pose, exposure and occlusion of each candidate's crop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mfhq.schema import OK
from pipelines.engine.step import Resources, Step
from pipelines.mining.schemas import SCORED, TRACKED

MESH_UNSURE = "mesh_unsure"
"""Reason: the mesh model finds no face in the crop (probability below one half); mesh and pose are missing."""

MESH_WEIGHTS = ("face_landmark", "selfie_segmentation")


@dataclass
class ScoreTools:
    """Resource of the step: mesh and matte models of one worker (``MeshDetector``, ``MatteModel``)."""

    mesh: Any
    matte: Any


def scores_step() -> Step:
    """Return the step from tracks (``TRACKED``) to scores of their candidates (``SCORED``)."""
    from pipelines.faces.weight_files import WEIGHTS

    return Step(
        name="scores",
        version=2,
        key="video_id",
        input=TRACKED,
        output=SCORED,
        load=load_score_tools,
        fn=score_videos,
        resources=Resources(cpus=1, batch=4),
        weights={name: WEIGHTS[name].sha256 for name in MESH_WEIGHTS},
    )


def load_score_tools() -> ScoreTools:
    """Load both models from the weight cache."""
    from pipelines.faces.matte import MatteModel
    from pipelines.faces.mesh_detector import MeshDetector

    return ScoreTools(MeshDetector.load(), MatteModel.load())


def score_videos(tools: ScoreTools, videos: pa.Table) -> pa.Table:
    """Score every candidate's crop.

    Args:
        tools: The models.
        videos: ``TRACKED`` rows with crops.

    Returns:
        ``SCORED`` rows.
    """
    rows = [
        {
            "video_id": row["video_id"],
            "status": OK,
            "reason": "",
            "faces": [score_face(tools, face) for track in row["tracks"] or () for face in track["faces"]],
        }
        for row in videos.to_pylist()
    ]
    return pa.Table.from_pylist(rows, schema=SCORED)


def score_face(tools: ScoreTools, face: dict[str, Any]) -> dict[str, Any]:
    """Score one candidate.

    Args:
        tools: The models.
        face: A row of ``schemas.CANDIDATE``.

    Returns:
        A row of ``schemas.SCORES``; the mesh is in pixels of the crop, the pose is relative to the frame.
    """
    from pipelines.faces import quality
    from pipelines.faces.align import crop_transform
    from pipelines.faces.pose import head_pose
    from pipelines.media.image_codec import decode_image, encode_png

    crop = decode_image(face["crop"])
    matte = tools.matte.matte(crop)
    mesh, score = tools.mesh.detect(crop)
    grey = quality.aligned_grey(crop, np.asarray(face["landmarks5_crop"]).reshape(5, 2))
    row: dict[str, Any] = {
        "face_id": face["face_id"],
        "exposure": round(quality.exposure(grey), 3),
        "reason": "" if score >= 0.5 else MESH_UNSURE,
        "matte": encode_png(matte),
    }
    if score >= 0.5:
        mesh = np.round(mesh.astype(np.float64), 2)
        # computed from the stored landmarks, it is exactly the transform that step `tracks` used for the crop
        to_crop = crop_transform(face["landmarks5"], crop.shape[0])
        yaw, pitch, roll = head_pose(mesh, to_crop)
        row |= {
            "mesh468": mesh.ravel().tolist(),
            "yaw_deg": round(yaw, 2),
            "pitch_deg": round(pitch, 2),
            "roll_deg": round(roll, 2),
            "occlusion": round(quality.occlusion(mesh, matte), 3),
        }
    return row
