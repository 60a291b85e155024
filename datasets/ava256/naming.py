"""Names, paths, sizes and classes of Ava-256, for the reader and the writer.

::

    256_ids.csv                                              mcd, sid, mct: the captures of the data set
    {mcd}--{mct}--{sid}/decoder/
      camera_calibration.json                                KRT: cameraId, K, distortion, T; transposed, millimetres
      frame_list.csv                                         seg_id, frame_id
      head_pose/head_pose.zip                                {frame:06d}.txt, 3 x 4, head to world, millimetres
      image/cam{camera}.zip                                  cam{camera}/{frame:06d}.avif
      keypoints_3d/keypoints_3d.zip                          {frame:06d}.npy, (N <= 274, 6), world, millimetres
      kinematic_tracking/registration_vertices.zip           {frame:06d}.ply, 7306 vertices, head, millimetres
      kinematic_tracking/registration_vertices_{mean.npy,variance.txt}
      segmentation_parts/cam{camera}.zip                     cam{camera}/{frame:06d}.png, one class per pixel
      uv_image/color_{mean.png,variance.txt}, color.zip      color/{frame:06d}.avif, 1000 x 1000

The zips are stored, not compressed. The size of images is 4096 x 2668 (height x width) divided by a factor that depends
on the release.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LICENCE = "CC-BY-NC-4.0"
FULL_HEIGHT, FULL_WIDTH = 4096, 2668
"""Size of the image to which ``K`` of the calibration belongs, pixels."""
N_VERTICES, N_KEYPOINTS = 7306, 274
"""Numbers of the mesh's vertices and of the keypoints."""
UV_SIZE = 1000
"""Side of a texture, pixels."""
MILLIMETRE = 1e-3
"""A millimetre in metres."""
HELD_OUT_SEGMENT = "EXP_free_face"
"""Segment that the datasheet recommends to hold out for reconstruction of a single person."""

HAIR, BODY, CHAIR, APPAREL, LENSES, UPPER_LIP, LOWER_LIP, UPPER_TEETH, LOWER_TEETH, TONGUE = range(1, 11)
"""Classes of ``segmentation_parts``; 0 is the background."""

IDS_FILE = "256_ids.csv"
CALIBRATION, FRAME_LIST = "camera_calibration.json", "frame_list.csv"
HEAD_POSE, KEYPOINTS = "head_pose/head_pose.zip", "keypoints_3d/keypoints_3d.zip"
VERTICES = "kinematic_tracking/registration_vertices.zip"
VERTICES_MEAN = "kinematic_tracking/registration_vertices_mean.npy"
VERTICES_VARIANCE = "kinematic_tracking/registration_vertices_variance.txt"
UV_COLOUR, UV_MEAN, UV_VARIANCE = "uv_image/color.zip", "uv_image/color_mean.png", "uv_image/color_variance.txt"

_FOLDER = re.compile(r"^(?:m--)?(\d{8})--(\d{4})--([A-Za-z]{3}\d{3})(?:--GHS)?$")
_CAMERA_ZIP = re.compile(r"^cam(\w+)\.zip$")


@dataclass(frozen=True, order=True)
class CaptureName:
    """Name of a capture: date, time and pseudonymous subject."""

    mcd: str
    """Date, yyyymmdd."""
    mct: str
    """Time, hhmm."""
    sid: str
    """Subject: three letters and three digits."""

    @property
    def folder(self) -> str:
        """Name of the capture's folder, as made by the download script."""
        return f"{self.mcd}--{self.mct}--{self.sid}"

    @classmethod
    def of_folder(cls, name: str) -> CaptureName | None:
        """Parse a capture's folder name, also in the datasheet's form ``m--...--GHS``; None for any other name."""
        match = _FOLDER.match(name)
        return cls(*match.groups()) if match else None


def image_zip(camera: str) -> str:
    """Return the path of the zip of a camera's images, below ``decoder``."""
    return f"image/cam{camera}.zip"


def parts_zip(camera: str) -> str:
    """Return the path of the zip of a camera's segmentations, below ``decoder``."""
    return f"segmentation_parts/cam{camera}.zip"


def camera_of_zip(name: str) -> str | None:
    """Return the camera in the file name of a zip; None if the name has another form."""
    match = _CAMERA_ZIP.match(name)
    return match[1] if match else None


def image_member(camera: str, frame: int) -> str:
    """Return the name of an image inside ``image_zip``.

    Args:
        camera: Id of the camera.
        frame: Number of the frame.
    """
    return f"cam{camera}/{frame:06d}.avif"


def parts_member(camera: str, frame: int) -> str:
    """Return the name of a segmentation inside ``parts_zip``.

    Args:
        camera: Id of the camera.
        frame: Number of the frame.
    """
    return f"cam{camera}/{frame:06d}.png"


def uv_member(frame: int) -> str:
    """Return the name of a texture inside ``UV_COLOUR``."""
    return f"color/{frame:06d}.avif"


def frame_member(frame: int, extension: str) -> str:
    """Return the name of a frame's member in the zips of head poses, keypoints and vertices.

    Args:
        frame: Number of the frame.
        extension: Extension of the member: txt for a head pose, npy for keypoints, ply for vertices.
    """
    return f"{frame:06d}.{extension}"
