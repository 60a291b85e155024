"""The output of all conversion steps: the cameras and views of one item, nested, with images as bytes.

An item is a part of a capture whose views fit into memory together, for example one camera over a run of frames. Its
row is ``ok`` when it could be converted at all. Each of its views has a status and a reason of its own, so that a frame
that is listed and missing, or does not decode, is a row and affects no other view. An item is rejected when nothing of
it can be converted (a camera without calibration or without images); a failed item raised an error and is tried again.
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
"""A camera, as in ``mfhq.schema.CAMERAS``: OpenCV axes, metres, pixels of the full image."""
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
"""A view, as in ``mfhq.schema.VIEWS``. ``split`` may hold out a view of a training person, never the opposite."""
CAPTURE_FIELDS = (
    pa.field("capture_id", pa.string()),
    pa.field("identity_id", pa.string()),
    pa.field("dataset", pa.string()),
    pa.field("licence", pa.string()),
    pa.field("split", pa.string()),
    pa.field("cameras", pa.list_(CAMERA)),
    pa.field("views", pa.list_(VIEW)),
)
"""Columns that ``pipelines.conversion.capture_tables`` reads. ``split`` is the person's."""
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
    """Return the id of a view: the hash of its capture, camera and frame."""
    return digest([capture_id, camera_id, int(frame_index)])


def camera_row(camera_id: str, camera: Camera, distortion: Array | None = None) -> dict[str, Any]:
    """Return a ``CAMERA``.

    Args:
        camera_id: The camera's name.
        camera: The camera of the full image.
        distortion: Coefficients in OpenCV's order; None for an image without distortion.
    """
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
    **values: Any,
) -> dict[str, Any]:
    """Return a ``VIEW``.

    Args:
        capture_id: The capture's id.
        camera_id: The camera's name.
        frame_index: Number of the frame.
        segment: The segment's name.
        split: The view's split.
        time_s: Seconds since the start; None where it is not known.
        status: ``ok``, ``rejected`` or ``failed``.
        reason: A reason code; empty for none.
        **values: ``image`` and ``matte`` (encoded), ``K`` (3, 3) and ``head_to_world`` (3, 4), as far as there are.
    """
    empty: Mapping[str, Any] = {"image": None, "matte": None, "K": None, "head_to_world": None}
    row = {name: np.ravel(value) if isinstance(value, np.ndarray) else value for name, value in values.items()}
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
