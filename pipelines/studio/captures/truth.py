"""Writing of the truth of a rendered capture: cameras, performance, shape and posed vertices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from mfhq.schema import MATRIX_3X4
from pipelines.conversion.capture_schemas import CAMERA, camera_row
from pipelines.studio.captures.camera_rig import RigCapture

if TYPE_CHECKING:
    from ffavatar_model.head import HeadModel

TIMESTEPS = pa.schema(
    [
        pa.field("frame_index", pa.int64(), nullable=False),
        pa.field("segment", pa.string(), nullable=False),
        pa.field("time_s", pa.float64(), nullable=False),
        pa.field("expression", pa.list_(pa.float32()), nullable=False),
        pa.field("rotations", pa.list_(pa.float32(), 15), nullable=False),
        pa.field("head_to_world", MATRIX_3X4, nullable=False),
        pa.field("vertices", pa.list_(pa.float32()), nullable=False),
    ]
)
"""Schema of ``moments.parquet``, which has one row per timestep.

A row holds the head model's parameters, its pose in the rig's world (metres), and its posed vertices (V x 3, in the
head's frame, metres).
"""


def write_truth(folder: Path, capture: RigCapture, head: HeadModel) -> None:
    """Write the truth of a capture into a folder.

    The files are ``moments.parquet`` (schema ``TIMESTEPS``), ``cameras.parquet`` (schema ``CAMERA``: full images,
    OpenCV axes, metres) and ``person.json`` (id, head model and shape of the person).

    Args:
        folder: The folder, which is made if it does not exist.
        capture: The planned capture, of which nothing is rendered.
        head: The open head.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "frame_index": timestep.frame_index,
            "segment": timestep.segment,
            "time_s": timestep.time_s,
            "expression": timestep.expression,
            "rotations": timestep.rotations.ravel(),
            "head_to_world": timestep.head_to_world.ravel(),
            "vertices": timestep.vertices.ravel(),
        }
        for timestep in capture.timesteps
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=TIMESTEPS), folder / "moments.parquet", compression="zstd")
    cameras = [camera_row(name, camera) for name, camera in capture.cameras.items()]
    pq.write_table(pa.Table.from_pylist(cameras, schema=pa.schema(list(CAMERA))), folder / "cameras.parquet")
    description = {
        "identity_id": capture.identity_id,
        "head": head.name,
        "head_digest": head.digest,
        "shape": capture.shape.tolist(),
    }
    (folder / "person.json").write_text(json.dumps(description, indent=1))
