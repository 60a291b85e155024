"""What every conversion step gives: the cameras and views of one item, nested, with pictures as bytes.

An item is a piece of a capture whose views fit into memory together: one camera over a run of frames, say. Its row is
``ok`` when it could be worked on at all; each of its views has a status and a reason of its own, so that a frame that
is listed and absent, or does not decode, is a row and harms nothing else. Rejected items are those of which nothing
can be converted (a camera without calibration, without pictures); failed ones raised, and are tried again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from mfhq.ids import digest
from mfhq.schema import MATRIX_3X3, MATRIX_3X4, OK
from pipelines.media.cameras import Array, Camera

CAMERA = pa.struct(
    [
        pa.field("camera_id", pa.string()),
        pa.field("K", MATRIX_3X3),
        pa.field("distortion", pa.list_(pa.float64())),
        pa.field("world_to_camera", MATRIX_3X4),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
    ]
)
"""As ``mfhq.schema.CAMERAS``: OpenCV axes, metres, pixels of the full image."""
VIEW = pa.struct(
    [
        pa.field("view_id", pa.string()),
        pa.field("camera_id", pa.string()),
        pa.field("frame_index", pa.int64()),
        pa.field("time_s", pa.float64()),
        pa.field("image", pa.large_binary()),
        pa.field("matte", pa.large_binary()),
        pa.field("K", MATRIX_3X3),
        pa.field("head_to_world", MATRIX_3X4),
        pa.field("segment", pa.string()),
        pa.field("split", pa.string()),
        pa.field("status", pa.string()),
        pa.field("reason", pa.string()),
    ]
)
"""As ``mfhq.schema.VIEWS``. ``split`` may hold a view of a training person out, never the other way round."""
CAPTURE_FIELDS = (
    pa.field("capture_id", pa.string()),
    pa.field("identity_id", pa.string()),
    pa.field("dataset", pa.string()),
    pa.field("licence", pa.string()),
    pa.field("split", pa.string()),
    pa.field("cameras", pa.list_(CAMERA)),
    pa.field("views", pa.list_(VIEW)),
)
"""What ``pipelines.conversion.capture_tables`` reads of a row. ``split`` is the person's."""
CONVERTED = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        *CAPTURE_FIELDS,
    ]
)
"""Output of a conversion step; a step may add columns of its own."""


def view_id(capture_id: str, camera_id: str, frame_index: int) -> str:
    """The id of a view: hash of capture, camera and frame."""
    return digest([capture_id, camera_id, int(frame_index)])


def camera_row(camera_id: str, camera: Camera, distortion: Array | None = None) -> dict[str, Any]:
    """A ``CAMERA`` of a full image's camera."""
    return {
        "camera_id": camera_id,
        "K": camera.K.ravel(),
        "distortion": [] if distortion is None else np.asarray(distortion).ravel(),
        "world_to_camera": camera.world_to_camera.ravel(),
        "width": camera.width,
        "height": camera.height,
    }


def view_row(
    capture_id: str,
    camera_id: str,
    frame_index: int,
    *,
    segment: str,
    split: str,
    time_s: float | None = None,
    status: str = OK,
    reason: str = "",
    **found: Any,
) -> dict[str, Any]:
    """A ``VIEW``; ``found`` may hold ``image`` and ``matte`` (encoded), ``K`` (3, 3) and ``head_to_world`` (3, 4)."""
    empty: Mapping[str, Any] = {"image": None, "matte": None, "K": None, "head_to_world": None}
    row = {name: np.ravel(value) if isinstance(value, np.ndarray) else value for name, value in found.items()}
    return {
        **empty,
        **row,
        "view_id": view_id(capture_id, camera_id, frame_index),
        "camera_id": camera_id,
        "frame_index": int(frame_index),
        "time_s": time_s,
        "segment": segment,
        "split": split,
        "status": status,
        "reason": reason,
    }
