"""Reading of Ava-256 captures, local or remote, complete or partly downloaded."""

from __future__ import annotations

import csv
import io
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ava256 import naming, values
from ava256.archive import Archive, ArchiveError
from ava256.camera_calibration import CalibratedCamera, CalibrationError, read_calibration
from ava256.naming import CaptureName

MEGABYTE = 1 << 20
IMAGE_LIMIT, PARTS_LIMIT, SMALL_LIMIT, MESH_LIMIT = 48 * MEGABYTE, 12 * MEGABYTE, 64 << 10, 4 * MEGABYTE
"""Largest unpacked sizes, bytes, of an image, a segmentation, a pose or keypoint file, and a mesh.

Official files are smaller.
"""
TEXT_LIMIT = 16 * MEGABYTE
"""Largest size of a text file, bytes."""
OPEN_ZIPS = 8
"""Largest number of zips that a capture keeps open."""


class CaptureError(ValueError):
    """Error for a capture whose calibration or frame list is missing or damaged.

    ``reason`` is a code: capture_incomplete (a file is missing) or capture_damaged.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class ListedFrame:
    """A row of ``frame_list.csv``."""

    segment: str
    """Name of the segment."""
    frame: int
    """Number of the frame."""


def find_captures(root: str, filesystem: Any) -> dict[CaptureName, str]:
    """Find the captures below a folder, without opening a file.

    Args:
        root: Path of the folder of all captures, or of the folder of one capture.
        filesystem: fsspec filesystem of ``root``.

    Returns:
        Name of the capture → path of its folder ``decoder``.
    """
    root = root.rstrip("/")
    here = CaptureName.of_folder(root.rsplit("/", 1)[-1])
    if here is not None:
        return {here: f"{root}/decoder"} if filesystem.isdir(f"{root}/decoder") else {}
    captures = {}
    for path in sorted(filesystem.ls(root, detail=False)):
        path = str(path).rstrip("/")
        name = CaptureName.of_folder(path.rsplit("/", 1)[-1])
        if name is not None and filesystem.isdir(f"{path}/decoder"):
            captures[name] = f"{path}/decoder"
    return captures


def read_listed_captures(root: str, filesystem: Any) -> list[CaptureName]:
    """Read the captures that ``256_ids.csv`` lists; empty if the file is missing.

    Args:
        root: Path of the folder of all captures.
        filesystem: fsspec filesystem of ``root``.

    Raises:
        CaptureError: The table lacks a column.
    """
    path = f"{root.rstrip('/')}/{naming.IDS_FILE}"
    if not filesystem.exists(path):
        return []
    with filesystem.open(path, "rb") as stream:
        text = stream.read(TEXT_LIMIT).decode("utf-8-sig")
    try:
        return [CaptureName(row["mcd"], row["mct"].zfill(4), row["sid"]) for row in csv.DictReader(io.StringIO(text))]
    except (KeyError, AttributeError) as error:
        raise CaptureError("capture_damaged", f"{path}: lacks the column {error}; it needs mcd, sid and mct") from error


@dataclass
class Ava256Capture:
    """One capture; all lengths are in metres.

    Methods return None for a missing value, for example if a zip was not downloaded. They raise ``ArchiveError`` if a
    zip cannot be read, and ``ValueDamaged`` if a value is damaged.
    """

    folder: str
    """Path of the folder ``decoder``."""
    filesystem: Any
    """fsspec filesystem of ``folder``."""
    _zips: OrderedDict[str, Archive | ArchiveError | None] = field(default_factory=OrderedDict, repr=False)

    @cached_property
    def calibration(self) -> dict[str, CalibratedCamera | CalibrationError]:
        """Camera id → camera, or an error if its entry does not describe a camera.

        Raises:
            CaptureError: The file is missing or is not a calibration.
        """
        try:
            return read_calibration(self._text(naming.CALIBRATION))
        except CalibrationError as error:
            raise CaptureError("capture_damaged", f"{self.folder}/{naming.CALIBRATION}: {error}") from error

    @cached_property
    def frames(self) -> list[ListedFrame]:
        """All listed frames, in the order of the list.

        Raises:
            CaptureError: The list is missing or damaged.
        """
        text = self._text(naming.FRAME_LIST).decode("utf-8-sig", "replace")
        try:
            return [ListedFrame(row["seg_id"], int(row["frame_id"])) for row in csv.DictReader(io.StringIO(text))]
        except (KeyError, ValueError, TypeError) as error:
            way_out = "it needs columns seg_id and frame_id"
            raise CaptureError(
                "capture_damaged", f"{self.folder}/{naming.FRAME_LIST}: no list of frames ({error}); {way_out}"
            ) from error

    def files(self) -> dict[str, tuple[int, str]]:
        """Return path below ``folder`` → (size, stamp) of each file.

        The stamp is an entity tag or a modification time.
        """
        files = self.filesystem.find(self.folder, detail=True)
        return {
            str(path).rpartition("/decoder/")[2]: (
                int(info["size"]),
                str(info.get("ETag") or info.get("mtime") or info.get("LastModified") or ""),
            )
            for path, info in files.items()
        }

    def image(self, camera: str, frame: int) -> NDArray[np.uint8] | None:
        """Read an image (H, W, 3) RGB.

        Args:
            camera: Id of the camera.
            frame: Number of the frame.
        """
        data = self._member(naming.image_zip(camera), naming.image_member(camera, frame), IMAGE_LIMIT)
        return None if data is None else values.decode_avif(data)

    def parts(self, camera: str, frame: int) -> NDArray[np.uint8] | None:
        """Read a segmentation (H, W), whose values are the classes of ``naming``, for example ``naming.HAIR``.

        Args:
            camera: Id of the camera.
            frame: Number of the frame.
        """
        data = self._member(naming.parts_zip(camera), naming.parts_member(camera, frame), PARTS_LIMIT)
        return None if data is None else values.decode_classes(data)

    def head_to_world(self, frame: int) -> NDArray[np.float64] | None:
        """Read the transform (3, 4) to the world from the head's frame, which is also the frame of ``vertices``."""
        data = self._member(naming.HEAD_POSE, naming.frame_member(frame, "txt"), SMALL_LIMIT)
        return None if data is None else values.read_pose(data)

    def keypoints(self, frame: int) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]] | None:
        """Read keypoints: indices (N,), world points (N, 3), and summed confidence and count of inliers (N, 2)."""
        data = self._member(naming.KEYPOINTS, naming.frame_member(frame, "npy"), SMALL_LIMIT)
        return None if data is None else values.read_keypoints(data)

    def vertices(self, frame: int) -> NDArray[np.float64] | None:
        """Read the vertices (7306, 3) of the registered mesh, in the head's frame."""
        data = self._member(naming.VERTICES, naming.frame_member(frame, "ply"), MESH_LIMIT)
        return None if data is None else values.read_vertices(data)

    @cached_property
    def mean_vertices(self) -> NDArray[np.float64] | None:
        """Mean (7306, 3) of ``vertices`` over the capture."""
        path = f"{self.folder}/{naming.VERTICES_MEAN}"
        if not self.filesystem.exists(path):
            return None
        with self.filesystem.open(path, "rb") as stream:
            return values.read_mean_vertices(stream.read(MESH_LIMIT))

    def has_zip(self, path: str) -> bool:
        """Return True if a zip exists.

        Args:
            path: Path below the folder ``decoder``.

        Raises:
            ArchiveError: The zip exists but cannot be read.
        """
        return self._archive(path) is not None

    def close(self) -> None:
        """Close every open zip."""
        while self._zips:
            archive = self._zips.popitem()[1]
            if isinstance(archive, Archive):
                archive.close()

    def _text(self, name: str) -> bytes:
        try:
            with self.filesystem.open(f"{self.folder}/{name}", "rb") as stream:
                data = stream.read(TEXT_LIMIT + 1)
        except FileNotFoundError as error:
            raise CaptureError(
                "capture_incomplete", f"{self.folder}/{name}: missing; fetch it, every capture has one"
            ) from error
        if len(data) > TEXT_LIMIT:
            raise CaptureError("capture_damaged", f"{self.folder}/{name}: more than {TEXT_LIMIT} bytes; another file?")
        return data

    def _member(self, path: str, member: str, limit: int) -> bytes | None:
        archive = self._archive(path)
        return None if archive is None else archive.read(member, limit)

    def _archive(self, path: str) -> Archive | None:
        """Return a zip, which stays open; None if it does not exist."""
        if path not in self._zips:
            self._zips[path] = self._open(path)
            while len(self._zips) > OPEN_ZIPS:
                oldest = self._zips.popitem(last=False)[1]
                if isinstance(oldest, Archive):
                    oldest.close()
        self._zips.move_to_end(path)
        archive = self._zips[path]
        if isinstance(archive, ArchiveError):
            raise archive
        return archive

    def _open(self, path: str) -> Archive | ArchiveError | None:
        try:
            return Archive(path, self.filesystem.open(f"{self.folder}/{path}", "rb"))
        except FileNotFoundError:
            return None
        except ArchiveError as error:
            return error
