"""The output of all conversion steps: one row per item, with nested cameras and views and with images as bytes.

An item is a part of a capture whose views fit into memory together, for example a run of frames of one camera. The row
is ``ok`` if any of the item could be converted. Each view has its own status and reason, so that a listed frame that is
missing or does not decode still has a row and does not affect other views. An item is rejected if nothing of it can be
converted, for example because its camera has no calibration or no images. An item fails if it raised an error; it is
then tried again.
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
"""A camera, as in ``mfhq.schema.CAMERAS``: OpenCV axes, translation in metres, K in pixels of the full image."""
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
"""A view, as in ``mfhq.schema.VIEWS``.

The ``split`` of a view can be held out although that of its person is train, but not the other way round.
"""
CAPTURE_FIELDS = (
    pa.field("capture_id", pa.string()),
    pa.field("identity_id", pa.string()),
    pa.field("dataset", pa.string()),
    pa.field("licence", pa.string()),
    pa.field("split", pa.string()),
    pa.field("cameras", pa.list_(CAMERA)),
    pa.field("views", pa.list_(VIEW)),
)
"""Columns that ``pipelines.conversion.capture_tables`` reads; ``split`` is the split of the person."""
CONVERTED = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        *CAPTURE_FIELDS,
    ]
)
"""Output of a conversion step; a step may add further columns."""


def view_id(capture_id: str, camera_id: str, frame_index: int) -> str:
    """Return the id of a view, a hash of its capture, camera and frame."""
    return digest([capture_id, camera_id, int(frame_index)])


def camera_row(camera_id: str, camera: Camera, distortion: Array | None = None) -> dict[str, Any]:
    """Return a camera as a value of type ``CAMERA``.

    Args:
        camera_id: Name of the camera.
        camera: Camera of the full image.
        distortion: Distortion coefficients in OpenCV's order; None if the image is not distorted.
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
    """Return a view as a value of type ``VIEW``.

    Args:
        capture_id: Id of the capture.
        camera_id: Name of the camera.
        frame_index: Index of the frame.
        segment: Name of the segment.
        split: Split of the view.
        time_s: Time since the start, seconds; None if unknown.
        status: ``ok``, ``rejected`` or ``failed``.
        reason: A reason code; empty if there is no reason.
        **values: Those of ``image`` and ``matte`` (encoded), ``K`` (3, 3) and ``head_to_world`` (3, 4) that exist.
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
