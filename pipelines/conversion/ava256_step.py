"""The step ``convert_ava256``, which converts a run of frames of one camera of a capture to views with a status."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import AvifImagePlugin

from ava256 import naming
from ava256.archive import ArchiveError
from ava256.camera_calibration import CalibratedCamera, CalibrationError
from ava256.naming import CaptureName
from ava256.reader import Ava256Capture, CaptureError, find_captures, read_listed_captures
from ava256.values import ValueDamaged
from mfhq.ids import digest
from mfhq.schema import FAILED, OK, REJECTED
from pipelines.conversion.ava256_config import (
    Ava256Config,
    head_model_frame,
    select_frames,
    split_of_person,
    split_of_view,
)
from pipelines.conversion.capture_schemas import CONVERTED, camera_row, view_row
from pipelines.conversion.conversion_plan import CaptureSourceError, ConversionPlan, MissingItem
from pipelines.conversion.head_crops import aligned_crop, resample, resized_camera, visible_share
from pipelines.engine.step import Resources, Step
from pipelines.media.cameras import Camera, compose
from pipelines.media.image_codec import encode_png, encode_webp

DATASET = "ava256"
ITEM_FRAMES = 64
"""Number of frames per item. They are in memory together, and a killed process loses at most this many."""
MIN_VISIBLE_SHARE = 0.4
"""Smallest share of a head's crop that must lie inside the image."""
OPEN_CAPTURES = 2
"""Number of captures that a worker keeps open."""
CAPTURE_FOLDER = "<date>--<time>--<subject>/decoder"
"""Pattern of a capture's path, for messages."""

ITEMS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("folder", pa.string(), nullable=False),
        pa.field("capture_id", pa.string(), nullable=False),
        pa.field("sid", pa.string(), nullable=False),
        pa.field("camera_id", pa.string(), nullable=False),
        pa.field("first", pa.int32(), nullable=False),
        pa.field("count", pa.int32(), nullable=False),
    ]
)
"""Items of the conversion.

``folder`` is the path of a capture's folder ``decoder``. The item holds ``count`` of the capture's selected frames,
beginning with number ``first``.
"""


def plan_ava256(source: str, config: Ava256Config, filesystem: Any = None) -> ConversionPlan:
    """Plan the conversion of every capture below a folder.

    A camera without calibration or without images also becomes an item. The step rejects this item, so that there is a
    row with the reason.

    Args:
        source: Folder of the captures.
        config: Settings.
        filesystem: fsspec file system that reads ``source``; None for the local one.

    Returns:
        The plan.

    Raises:
        CaptureSourceError: The folder does not exist or holds no capture.
    """
    from fsspec.implementations.local import LocalFileSystem

    filesystem = filesystem or LocalFileSystem()
    root = source.removeprefix("file://")
    if not filesystem.isdir(root):
        raise CaptureSourceError(f"{source}: no such folder; name the one that holds the captures, {CAPTURE_FOLDER}")
    captures = find_captures(root, filesystem)
    if not captures:
        raise CaptureSourceError(
            f"{source}: no Ava-256 capture in it; name the folder that holds the captures, {CAPTURE_FOLDER}"
        )
    missing = [
        MissingItem(name.folder, "capture_absent")
        for name in read_listed_captures(root, filesystem)
        if name not in captures
    ]
    rows: list[dict[str, Any]] = []
    for name, folder in captures.items():
        items, lacking = _items(name, Ava256Capture(folder, filesystem), config)
        rows += items
        missing += lacking
    return ConversionPlan(convert_step(config, filesystem), pa.Table.from_pylist(rows, schema=ITEMS), tuple(missing))


def convert_step(config: Ava256Config, filesystem: Any) -> Step:
    """Return the step ``convert_ava256``.

    Args:
        config: Settings, which are all part of the fingerprint.
        filesystem: fsspec file system that reads the captures.
    """
    return Step(
        name="convert_ava256",
        version=1,
        key="item_id",
        input=ITEMS,
        output=CONVERTED,
        load=partial(_Captures, config, filesystem),
        fn=convert_items,
        resources=Resources(cpus=1, batch=1),
        config=asdict(config),
    )


def _items(
    name: CaptureName, capture: Ava256Capture, config: Ava256Config
) -> tuple[list[dict[str, Any]], list[MissingItem]]:
    """Return the items of a capture, and the files and requested cameras that are missing."""
    files, missing = capture.files(), []
    base = {"folder": capture.folder, "capture_id": f"{DATASET}-{name.folder}", "sid": name.sid}
    try:
        calibrated, frames = set(capture.calibration), select_frames(capture.frames, config)
    except CaptureError:
        stamp = digest(sorted(files.items()), 8)
        return [base | {"item_id": f"{name.folder}-{stamp}", "camera_id": "", "first": 0, "count": 0}], []
    with_images = {
        camera
        for path in files
        if path.startswith("image/") and (camera := naming.camera_of_zip(path.rpartition("/")[2])) is not None
    }
    cameras = sorted(calibrated | with_images)
    if config.cameras:
        cameras = [camera for camera in cameras if camera in config.cameras]
        missing += [
            MissingItem(f"{name.folder}: camera {c}", "camera_absent") for c in config.cameras if c not in cameras
        ]
    missing += [
        MissingItem(f"{name.folder}/decoder/{path}", reason)
        for path, reason in ((naming.HEAD_POSE, "pose_absent"), (naming.VERTICES_MEAN, "mesh_absent"))
        if path not in files
    ]
    rows = []
    for camera in cameras:
        parts, convertible = naming.parts_zip(camera), camera in calibrated & with_images
        if convertible and parts not in files:
            missing.append(MissingItem(f"{name.folder}/decoder/{parts}", "matte_absent"))
        shared = (naming.CALIBRATION, naming.FRAME_LIST, naming.HEAD_POSE, naming.VERTICES_MEAN)
        stamp = digest([files.get(path) for path in (*shared, naming.image_zip(camera), parts)], 8)
        for first in range(0, len(frames) if convertible else 1, ITEM_FRAMES):
            item = f"{name.folder}/{camera}/{first:06d}-{stamp}"
            count = min(ITEM_FRAMES, len(frames) - first)
            rows.append(base | {"item_id": item, "camera_id": camera, "first": first, "count": count})
    return rows, missing


class _Captures:
    """The open captures of a worker: the ``OPEN_CAPTURES`` most recently used ones."""

    def __init__(self, config: Ava256Config, filesystem: Any) -> None:
        AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # the engine reserves one processor per worker
        self.config, self.filesystem = config, filesystem
        self._open: OrderedDict[str, Ava256Capture] = OrderedDict()

    def open(self, folder: str) -> Ava256Capture:
        """Return the capture in a ``decoder`` folder, and keep it open."""
        if folder not in self._open:
            self._open[folder] = Ava256Capture(folder, self.filesystem)
            if len(self._open) > OPEN_CAPTURES:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(folder)
        return self._open[folder]


def convert_items(captures: _Captures, items: pa.Table) -> pa.Table:
    """Convert items to views.

    Args:
        captures: Open captures of the worker.
        items: Rows of ``ITEMS``.

    Returns:
        Rows of ``CONVERTED``, in the order of the items.
    """
    return pa.Table.from_pylist([_convert(captures, item) for item in items.to_pylist()], schema=CONVERTED)


def _convert(captures: _Captures, item: dict[str, Any]) -> dict[str, Any]:
    config, camera_id = captures.config, item["camera_id"]
    split = split_of_person(item["sid"], config)
    row = {
        "item_id": item["item_id"],
        "status": OK,
        "reason": "",
        "capture_id": item["capture_id"],
        "identity_id": f"{DATASET}-{item['sid']}",
        "dataset": DATASET,
        "licence": naming.LICENCE,
        "split": split,
        "cameras": [],
        "views": [],
    }
    try:
        capture = captures.open(item["folder"])
        camera = capture.calibration.get(camera_id)
        frames = select_frames(capture.frames, config)[item["first"] : item["first"] + item["count"]]
        if camera is None:
            return row | {"status": REJECTED, "reason": "camera_uncalibrated"}
        if isinstance(camera, CalibrationError):
            return row | {"status": REJECTED, "reason": "calibration_invalid"}
        if not capture.has_zip(naming.image_zip(camera_id)):
            return row | {"status": REJECTED, "reason": "camera_absent"}
        if capture.mean_vertices is None:
            return row | {"status": REJECTED, "reason": "mesh_absent"}
        to_mesh = head_model_frame(capture.mean_vertices)
    except CaptureError as error:
        status = REJECTED if error.reason == "capture_incomplete" else FAILED
        return row | {"status": status, "reason": error.reason}
    except (ArchiveError, ValueDamaged) as error:
        return row | {"status": FAILED, "reason": error.reason}
    converter = _ViewConverter(capture, camera_id, camera, config, to_mesh)
    full = Camera(camera.K, camera.world_to_camera, naming.FULL_WIDTH, naming.FULL_HEIGHT)
    row["cameras"] = [camera_row(camera_id, full, None if config.undistort else camera.distortion)]
    row["views"] = [
        view_row(
            item["capture_id"],
            camera_id,
            listed.frame,
            segment=listed.segment,
            split=split_of_view(split, listed.segment, config),
            **converter.convert(listed.frame),
        )
        for listed in frames
    ]
    return row


@dataclass(frozen=True)
class _ViewConverter:
    """Converter of the views of one camera."""

    capture: Ava256Capture
    camera_id: str
    camera: CalibratedCamera
    config: Ava256Config
    to_mesh: NDArray[np.float64]
    """(3, 4) transform from the head model's frame to the registered mesh's frame, metres."""

    def convert(self, frame: int) -> dict[str, Any]:
        """Convert the view of a frame; return those values for ``view_row`` that are known, with status and reason."""
        fields: dict[str, Any] = {}
        try:
            pose = self.capture.head_to_world(frame)
            if pose is None:
                return fields | {"status": REJECTED, "reason": "pose_absent"}
            head_to_world = fields["head_to_world"] = compose(pose, self.to_mesh)
            image = self.capture.image(self.camera_id, frame)
            if image is None:
                return fields | {"status": REJECTED, "reason": "frame_absent"}
            height, width = image.shape[:2]
            # Every size with the aspect ratio of the full images (4096 x 2668) is accepted.
            if abs(width - naming.FULL_WIDTH * height / naming.FULL_HEIGHT) > 1:
                return fields | {"status": FAILED, "reason": "size_unexpected"}
            camera = Camera(self.camera.sized(width, height), self.camera.world_to_camera, width, height)
            target = self._target(camera, head_to_world)
            if target is None:
                return fields | {"status": REJECTED, "reason": "head_out_of_picture"}
            fields["K"] = target.K
            fields["image"] = encode_webp(self._resample(image, camera, target), self.config.quality)
            parts = self.capture.parts(self.camera_id, frame)
            if parts is not None:
                fields["matte"] = encode_png(self._matte(parts, target))
            elif self.config.matte_needed:
                return fields | {"status": REJECTED, "reason": "matte_absent"}
            else:
                fields["reason"] = "matte_absent"
        except (ArchiveError, ValueDamaged) as error:
            return fields | {"status": FAILED, "reason": error.reason}
        return fields

    def _target(self, camera: Camera, head_to_world: NDArray[np.float64]) -> Camera | None:
        """Return the camera of the converted image; None if too little of the head is in the image."""
        if self.config.crop == "full":
            return resized_camera(camera, self.config.size)
        if camera.project(head_to_world[:, 3][None])[1][0] <= 0:
            return None
        crop = aligned_crop(camera, head_to_world, self.config.size)
        return crop if visible_share(camera, crop) >= MIN_VISIBLE_SHARE else None

    def _resample(self, image: NDArray[np.uint8], camera: Camera, target: Camera) -> NDArray[np.uint8]:
        return resample(image, camera, target, distortion=self.camera.distortion if self.config.undistort else None)

    def _matte(self, parts: NDArray[np.uint8], target: Camera) -> NDArray[np.uint8]:
        """Return the matte of ``target``, 255 is the person; the segmentation may have another size than the image."""
        table = np.zeros(256, np.uint8)
        table[list(self.config.person_classes)] = 255
        height, width = parts.shape
        camera = Camera(self.camera.sized(width, height), self.camera.world_to_camera, width, height)
        return self._resample(table[parts], camera, target)
