"""The step ``convert_ava256``: one camera of a capture over a run of frames, from its zips to views with status."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import asdict
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
from ava256.reader import Ava256Capture, CaptureError, find_captures, listed_captures
from ava256.values import ValueDamaged
from mfhq.ids import digest
from mfhq.schema import FAILED, OK, REJECTED
from pipelines.conversion.ava256_frames import (
    Ava256Config,
    head_model_frame,
    select_frames,
    split_of_person,
    split_of_view,
)
from pipelines.conversion.capture_schemas import CONVERTED, camera_row, view_row
from pipelines.conversion.conversion_plan import Absent, CaptureSourceError, ConversionPlan
from pipelines.conversion.head_crops import aligned_crop, fitted, resample, seen_share
from pipelines.engine.step import Resources, Step
from pipelines.media.cameras import Camera, compose
from pipelines.media.image_codec import encode_png, encode_webp

DATASET = "ava256"
ITEM_FRAMES = 64
"""Frames of one item: what is in memory at a time, and what a kill can cost."""
LEAST_SEEN = 0.4
"""Share of a head's crop that must lie inside the picture."""
OPEN_CAPTURES = 2
CAPTURE_FOLDER = "<date>--<time>--<subject>/decoder"

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
"""``folder`` is a capture's ``decoder``; ``first`` and ``count`` name a run of its selected frames."""


def plan_ava256(source: str, config: Ava256Config, filesystem: Any = None) -> ConversionPlan:
    """Every capture below ``source``: a local folder, or what ``filesystem`` (fsspec) reads.

    A camera without calibration or without pictures is an item, too: one that comes out rejected, so that there is a
    row that says so. Raises ``CaptureSourceError`` where there is no such folder, or no capture in it.
    """
    filesystem = filesystem or _local()
    root = source.removeprefix("file://")
    if not filesystem.isdir(root):
        raise CaptureSourceError(f"{source}: no such folder; name the one that holds the captures, {CAPTURE_FOLDER}")
    captures = find_captures(root, filesystem)
    if not captures:
        raise CaptureSourceError(f"{source}: no Ava-256 capture in it; folders named {CAPTURE_FOLDER} are looked for")
    absent = [
        Absent(name.folder, "capture_absent") for name in listed_captures(root, filesystem) if name not in captures
    ]
    rows: list[dict[str, Any]] = []
    for name, folder in captures.items():
        found, missing = _items(name, Ava256Capture(folder, filesystem), config)
        rows += found
        absent += missing
    return ConversionPlan(convert_step(config, filesystem), pa.Table.from_pylist(rows, schema=ITEMS), tuple(absent))


def convert_step(config: Ava256Config, filesystem: Any) -> Step:
    """The step; its configuration is the whole of ``config``."""
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


def _local() -> Any:
    from fsspec.implementations.local import LocalFileSystem

    return LocalFileSystem()


def _items(
    name: CaptureName, capture: Ava256Capture, config: Ava256Config
) -> tuple[list[dict[str, Any]], list[Absent]]:
    """One capture's items, and what it lacks beside whole cameras."""
    files, absent = capture.files(), []
    base = {"folder": capture.folder, "capture_id": f"{DATASET}-{name.folder}", "sid": name.sid}
    try:
        calibrated, frames = set(capture.calibration), select_frames(capture.frames, config)
    except CaptureError:
        stamp = digest(sorted(files.items()), 8)
        return [base | {"item_id": f"{name.folder}-{stamp}", "camera_id": "", "first": 0, "count": 0}], []
    pictured = {
        camera
        for path in files
        if path.startswith("image/") and (camera := naming.camera_of_zip(path.rpartition("/")[2])) is not None
    }
    wanted = sorted(calibrated | pictured)
    if config.cameras:
        wanted = [camera for camera in wanted if camera in config.cameras]
        absent += [Absent(f"{name.folder}: camera {c}", "camera_absent") for c in config.cameras if c not in wanted]
    absent += [
        Absent(f"{name.folder}/decoder/{path}", reason)
        for path, reason in ((naming.HEAD_POSE, "pose_absent"), (naming.VERTICES_MEAN, "mesh_absent"))
        if path not in files
    ]
    rows = []
    for camera in wanted:
        parts, whole = naming.parts_zip(camera), camera in calibrated & pictured
        if whole and parts not in files:
            absent.append(Absent(f"{name.folder}/decoder/{parts}", "matte_absent"))
        shared = (naming.CALIBRATION, naming.FRAME_LIST, naming.HEAD_POSE, naming.VERTICES_MEAN)
        stamp = digest([files.get(path) for path in (*shared, naming.image_zip(camera), parts)], 8)
        for first in range(0, len(frames) if whole else 1, ITEM_FRAMES):
            item = f"{name.folder}/{camera}/{first:06d}-{stamp}"
            count = min(ITEM_FRAMES, len(frames) - first)
            rows.append(base | {"item_id": item, "camera_id": camera, "first": first, "count": count})
    return rows, absent


class _Captures:
    """A worker's open captures."""

    def __init__(self, config: Ava256Config, filesystem: Any) -> None:
        AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # the engine reserves one processor for a worker
        self.config, self.filesystem = config, filesystem
        self._open: OrderedDict[str, Ava256Capture] = OrderedDict()

    def open(self, folder: str) -> Ava256Capture:
        """The capture in a ``decoder`` folder, kept open."""
        if folder not in self._open:
            self._open[folder] = Ava256Capture(folder, self.filesystem)
            if len(self._open) > OPEN_CAPTURES:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(folder)
        return self._open[folder]


def convert_items(captures: _Captures, items: pa.Table) -> pa.Table:
    """Rows of ``ITEMS`` to rows of ``CONVERTED``."""
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
        to_tracked = head_model_frame(capture.mean_vertices)
    except CaptureError as error:
        status = REJECTED if error.reason == "capture_incomplete" else FAILED
        return row | {"status": status, "reason": error.reason}
    except (ArchiveError, ValueDamaged) as error:
        return row | {"status": FAILED, "reason": error.reason}
    full = Camera(camera.K, camera.world_to_camera, naming.FULL_WIDTH, naming.FULL_HEIGHT)
    row["cameras"] = [camera_row(camera_id, full, None if config.undistort else camera.distortion)]
    row["views"] = [
        view_row(
            item["capture_id"],
            camera_id,
            listed.frame,
            segment=listed.segment,
            split=split_of_view(split, listed.segment, config),
            **_View(capture, camera_id, camera, config, to_tracked).convert(listed.frame),
        )
        for listed in frames
    ]
    return row


class _View:
    """One camera's view of a frame."""

    def __init__(
        self,
        capture: Ava256Capture,
        camera_id: str,
        camera: CalibratedCamera,
        config: Ava256Config,
        to_tracked: NDArray[np.float64],
    ) -> None:
        self.capture, self.camera_id, self.camera = capture, camera_id, camera
        self.config, self.to_tracked = config, to_tracked

    def convert(self, frame: int) -> dict[str, Any]:
        """What is known of the view: ``view_row``'s fields beyond the names."""
        found: dict[str, Any] = {}
        for status, reason in self._steps(frame, found):
            return found | {"status": status, "reason": reason}
        return found

    def _steps(self, frame: int, found: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """Fill ``found``; yields what is wrong as soon as something is."""
        try:
            pose = self.capture.head_to_world(frame)
            if pose is None:
                yield REJECTED, "pose_absent"
                return
            place = found["head_to_world"] = compose(pose, self.to_tracked)
            picture = self.capture.image(self.camera_id, frame)
            if picture is None:
                yield REJECTED, "frame_absent"
                return
            camera = self._sized(picture)
            if camera is None:
                yield FAILED, "size_unexpected"
                return
            wanted = self._wanted(camera, place)
            if wanted is None:
                yield REJECTED, "head_out_of_picture"
                return
            found["K"] = wanted.K
            found["image"] = encode_webp(self._resample(picture, camera, wanted), self.config.quality)
            parts = self.capture.parts(self.camera_id, frame)
            if parts is not None:
                found["matte"] = encode_png(self._matte(parts, wanted))
            elif self.config.matte_needed:
                yield REJECTED, "matte_absent"
            else:
                found["reason"] = "matte_absent"
        except (ArchiveError, ValueDamaged) as error:
            yield FAILED, error.reason

    def _sized(self, picture: NDArray[np.uint8]) -> Camera | None:
        """The camera of a picture of any size; None for another shape than 4096 x 2668 divided by a factor."""
        height, width = picture.shape[:2]
        if abs(width - naming.FULL_WIDTH * height / naming.FULL_HEIGHT) > 1:
            return None
        return Camera(self.camera.sized(width, height), self.camera.world_to_camera, width, height)

    def _wanted(self, camera: Camera, place: NDArray[np.float64]) -> Camera | None:
        if self.config.crop == "full":
            return fitted(camera, self.config.size)
        if camera.project(place[:, 3][None])[1][0] <= 0:
            return None
        crop = aligned_crop(camera, place, self.config.size)
        return crop if seen_share(camera, crop) >= LEAST_SEEN else None

    def _resample(self, picture: NDArray[np.uint8], camera: Camera, wanted: Camera) -> NDArray[np.uint8]:
        return resample(picture, camera, wanted, distortion=self.camera.distortion if self.config.undistort else None)

    def _matte(self, parts: NDArray[np.uint8], wanted: Camera) -> NDArray[np.uint8]:
        """(size, size) 255 where the person is; parts may be of another size than the picture."""
        table = np.zeros(256, np.uint8)
        table[list(self.config.person_classes)] = 255
        height, width = parts.shape
        camera = Camera(self.camera.sized(width, height), self.camera.world_to_camera, width, height)
        return self._resample(table[parts], camera, wanted)
