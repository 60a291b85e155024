"""Writing of captures in Ava-256's format: with the same paths, members, keys, shapes, dtypes and units."""

from __future__ import annotations

import csv
import io
import shutil
import uuid
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ava256 import naming, values
from ava256.camera_calibration import CalibratedCamera, write_calibration
from ava256.naming import CaptureName
from ava256.reader import ListedFrame

Points = NDArray[np.float64]
_STAMP = (2000, 1, 1, 0, 0, 0)
"""Time stamp of every member, which is constant so that the same content gives the same bytes."""


class CaptureWriter:
    """A context manager that writes one capture, frame by frame.

    The folder of the capture is created when the ``with`` block ends without an error. Arguments are in metres with
    OpenCV axes; the files hold millimetres and transposed matrices.
    """

    def __init__(
        self, root: Path, name: CaptureName, cameras: Mapping[str, CalibratedCamera], frames: Iterable[ListedFrame]
    ) -> None:
        """Begin a capture: write its calibration and its frame list.

        Args:
            root: Folder of all captures, which is made if it does not exist.
            name: Name of the capture.
            cameras: Camera id → camera.
            frames: Frames for the frame list, in order.

        Raises:
            FileExistsError: The capture exists already.
        """
        self.folder = root / name.folder
        if self.folder.exists():
            raise FileExistsError(f"{self.folder}: exists already; choose another folder, or remove it")
        root.mkdir(parents=True, exist_ok=True)
        self._temporary = Path(root, f".part-{uuid.uuid4().hex}")
        self._temporary.mkdir()  # with the mode that the umask gives, as it is renamed
        self._decoder = self._temporary / "decoder"
        self._zips: dict[str, zipfile.ZipFile] = {}
        self._sum: Points = np.zeros((naming.N_VERTICES, 3))
        self._squares, self._count = 0.0, 0
        self._text(naming.CALIBRATION, write_calibration(cameras))
        listed = io.StringIO()
        rows = csv.writer(listed, lineterminator="\n")
        rows.writerow(["seg_id", "frame_id"])
        rows.writerows([frame.segment, f"{frame.frame:06d}"] for frame in frames)
        self._text(naming.FRAME_LIST, listed.getvalue().encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for archive in self._zips.values():
            archive.close()
        if kind is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            return
        if self._count:
            mean = self._sum / self._count
            variance = (self._squares / (self._count * mean.size) - (mean**2).mean()) / naming.MILLIMETRE**2
            self._text(naming.VERTICES_MEAN, values.write_mean_vertices(mean))
            self._text(naming.VERTICES_VARIANCE, f"{max(variance, 0.0):.6f}\n".encode())
        self._temporary.rename(self.folder)

    @property
    def truth(self) -> Path:
        """Folder next to ``decoder`` for truth that the official data does not contain."""
        return self._temporary / "truth"

    def image(self, camera: str, frame: int, rgb: NDArray[np.uint8], quality: int = 85) -> None:
        """Encode and add an image.

        Args:
            camera: Id of the camera.
            frame: Number of the frame.
            rgb: (H, W, 3) RGB.
            quality: Quality of the AVIF image, 0 to 100.
        """
        self.add_image(camera, frame, values.encode_avif(rgb, quality))

    def add_image(self, camera: str, frame: int, avif: bytes) -> None:
        """Add an image that is already encoded.

        Args:
            camera: Id of the camera.
            frame: Number of the frame.
            avif: Bytes of the AVIF image.
        """
        self._add(naming.image_zip(camera), naming.image_member(camera, frame), avif)

    def parts(self, camera: str, frame: int, classes: NDArray[np.uint8]) -> None:
        """Add a segmentation.

        Args:
            camera: Id of the camera.
            frame: Number of the frame.
            classes: (H, W) classes of ``naming``, for example ``naming.HAIR``.
        """
        self._add(naming.parts_zip(camera), naming.parts_member(camera, frame), values.encode_lossless(classes))

    def head_pose(self, frame: int, head_to_world: Points) -> None:
        """Add the pose of the head's frame, which is also the frame of ``vertices``.

        Args:
            frame: Number of the frame.
            head_to_world: (3, 4) transform from the head to the world, metres.
        """
        self._add(naming.HEAD_POSE, naming.frame_member(frame, "txt"), values.write_pose(head_to_world))

    def keypoints(self, frame: int, index: NDArray[np.integer], points: Points, inliers: Points) -> None:
        """Add the keypoints of a frame.

        Args:
            frame: Number of the frame.
            index: (N,) indices of the keypoints.
            points: (N, 3) positions in the world, metres.
            inliers: (N, 2) summed confidence and count of the inliers.
        """
        data = values.write_keypoints(index, points, inliers)
        self._add(naming.KEYPOINTS, naming.frame_member(frame, "npy"), data)

    def vertices(self, frame: int, vertices: Points) -> None:
        """Add the vertices of a frame.

        Args:
            frame: Number of the frame.
            vertices: (7306, 3) positions in the head's frame, metres.

        Raises:
            ValueError: The vertices have another shape.
        """
        if vertices.shape != (naming.N_VERTICES, 3):
            raise ValueError(f"vertices of shape {vertices.shape}: the mesh has ({naming.N_VERTICES}, 3)")
        self._sum += vertices
        self._squares += float((vertices**2).sum())
        self._count += 1
        self._add(naming.VERTICES, naming.frame_member(frame, "ply"), values.write_vertices(vertices))

    def textures(self, frames: Iterable[int], rgb: NDArray[np.uint8]) -> None:
        """Add the same texture for all frames, and the files of the textures' mean and variance.

        Args:
            frames: Numbers of the frames.
            rgb: (H, W, 3) RGB texture.
        """
        data = values.encode_avif(rgb)
        for frame in frames:
            self._add(naming.UV_COLOUR, naming.uv_member(frame), data)
        self._text(naming.UV_MEAN, values.encode_lossless(rgb))
        self._text(naming.UV_VARIANCE, f"{float(np.var(rgb.astype(np.float64), axis=(0, 1)).mean()):.6f}\n".encode())

    def _add(self, path: str, member: str, data: bytes) -> None:
        if path not in self._zips:
            (self._decoder / path).parent.mkdir(parents=True, exist_ok=True)
            self._zips[path] = zipfile.ZipFile(self._decoder / path, "w", zipfile.ZIP_STORED)
        self._zips[path].writestr(zipfile.ZipInfo(member, _STAMP), data)

    def _text(self, path: str, data: bytes) -> None:
        (self._decoder / path).parent.mkdir(parents=True, exist_ok=True)
        (self._decoder / path).write_bytes(data)


def write_ids(root: Path, names: Iterable[CaptureName]) -> None:
    """Add captures to ``256_ids.csv``.

    Args:
        root: Folder of all captures.
        names: Names of the captures.
    """
    path = root / naming.IDS_FILE
    known = {line for line in path.read_text().splitlines()[1:] if line} if path.exists() else set()
    rows = sorted(known | {f"{name.mcd},{name.sid},{name.mct}" for name in names}, key=lambda row: row.split(",")[1])
    path.write_text("\n".join(["mcd,sid,mct", *rows]) + "\n")
