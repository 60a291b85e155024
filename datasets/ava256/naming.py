"""Names, paths, sizes and classes of Ava-256: the one list, for reader and writer.

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
      segmentation_parts/cam{camera}.zip                     cam{camera}/{frame:06d}.png, a class each pixel
      uv_image/color_{mean.png,variance.txt}, color.zip      color/{frame:06d}.avif, 1000 x 1000

Zips are stored, not compressed. Images are 4096 x 2668 (height x width) divided by a factor of the release.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LICENCE = "CC-BY-NC-4.0"
FULL_HEIGHT, FULL_WIDTH = 4096, 2668
"""Pixels of the picture that ``K`` of the calibration is for."""
N_VERTICES, N_KEYPOINTS = 7306, 274
UV_SIZE = 1000
MILLIMETRE = 1e-3
"""Metres."""
HELD_OUT_SEGMENT = "EXP_free_face"
"""What the datasheet recommends to withhold where one person is reconstructed."""

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
    """What names a capture: date, time and pseudonymous subject."""

    mcd: str
    """yyyymmdd."""
    mct: str
    """hhmm."""
    sid: str
    """Three letters, three digits."""

    @property
    def folder(self) -> str:
        """The capture's folder, as the download script makes it."""
        return f"{self.mcd}--{self.mct}--{self.sid}"

    @classmethod
    def of_folder(cls, name: str) -> CaptureName | None:
        """From a folder's name (the datasheet's spelling ``m--...--GHS`` too); None for any other folder."""
        found = _FOLDER.match(name)
        return cls(*found.groups()) if found else None


def image_zip(camera: str) -> str:
    """Path of a camera's pictures, below ``decoder``."""
    return f"image/cam{camera}.zip"


def parts_zip(camera: str) -> str:
    """Path of a camera's segmentations, below ``decoder``."""
    return f"segmentation_parts/cam{camera}.zip"


def camera_of_zip(name: str) -> str | None:
    """The camera of a zip's file name; None for another file."""
    found = _CAMERA_ZIP.match(name)
    return found[1] if found else None


def image_member(camera: str, frame: int) -> str:
    """A picture inside ``image_zip``."""
    return f"cam{camera}/{frame:06d}.avif"


def parts_member(camera: str, frame: int) -> str:
    """A segmentation inside ``parts_zip``."""
    return f"cam{camera}/{frame:06d}.png"


def uv_member(frame: int) -> str:
    """A texture inside ``UV_COLOUR``."""
    return f"color/{frame:06d}.avif"


def frame_member(frame: int, extension: str) -> str:
    """A member of the other zips: ``txt`` head pose, ``npy`` keypoints, ``ply`` vertices."""
    return f"{frame:06d}.{extension}"
