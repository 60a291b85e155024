"""Aligned crops of faces from photos and video frames: detection, alignment, matte and mesh."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from infra.console import CallError
from pipelines.faces.align import Matrix, crop_size, crop_transform, warp_crop
from pipelines.faces.analysis import Detection, FaceAnalyzer
from pipelines.faces.matte import MatteModel
from pipelines.faces.mesh_detector import MeshDetector
from pipelines.faces.pack import face_pack
from pipelines.media.image_codec import ImageFileError, read_photograph

Image = npt.NDArray[np.uint8]

CROP_PX = 512
"""Most pixels per side of an aligned crop."""


@dataclass(frozen=True, eq=False)
class AlignedFace:
    """One aligned face: its crop, matte, mesh, and the transform of the crop."""

    crop: Image
    """(S, S, 3) RGB image of the face."""
    matte: Image
    """(S, S) matte of the crop: 255 for the person, 0 for the background."""
    mesh: npt.NDArray[np.float32]
    """(468, 3) points of the face mesh, in pixels of the crop."""
    transform: Matrix
    """(2, 3) similarity transform from frame pixels to crop pixels; pixel centres are at whole numbers."""


class FaceAligner:
    """Aligner of faces; its networks (detector, matte and mesh) are loaded once."""

    def __init__(self, pack: str | None = None) -> None:
        """Load the networks; ``pack`` is the name or folder of the detector's face pack, None for the default pack."""
        self._analyzer = FaceAnalyzer(face_pack(pack))
        self._matte = MatteModel.load()
        self._mesh = MeshDetector.load()

    def detect_faces(self, image: Image) -> list[Detection]:
        """Detect the faces of an RGB image, ordered from left to right."""
        return sorted(self._analyzer.detect(image), key=lambda face: float(face.box[0]))

    def align(self, image: Image, face: Detection) -> AlignedFace:
        """Crop and align a detected face, and compute its matte and mesh."""
        size = crop_size(face.landmarks5, CROP_PX)
        transform = crop_transform(face.landmarks5, size)
        crop = warp_crop(image, transform, size)
        mesh, _ = self._mesh.detect(crop)
        return AlignedFace(crop, self._matte.matte(crop), mesh, transform)

    def align_photo(self, path: Path, number: int | None = None) -> AlignedFace:
        """Align the face of a photo.

        Args:
            path: An image file.
            number: Number of the face counted from the left, beginning with 1; required if the photo shows several.

        Returns:
            The aligned face.

        Raises:
            CallError: The file is missing or not an image, it shows no face or fewer than ``number``, or it shows
                several and ``number`` is None.
        """
        image = read_photo(path)
        faces = self.detect_faces(image)
        if not faces:
            size = f"{image.shape[1]} x {image.shape[0]}"
            raise CallError(f"{path}: no face found in this {size} photo; use one that shows a complete face")
        if number is None and len(faces) > 1:
            way_out = f"choose one with --face 1 to {len(faces)} (from the left), or crop the photo"
            raise CallError(f"{path}: {len(faces)} faces; {way_out}")
        if number is not None and number > len(faces):
            raise CallError(f"{path}: --face {number}, but there are {len(faces)} faces")
        return self.align(image, faces[(number or 1) - 1])


def read_photo(path: Path) -> Image:
    """Read a user's photograph as upright (H, W, 3) RGB.

    Raises:
        CallError: The file is missing, or is not an image.
    """
    try:
        return read_photograph(path)
    except ImageFileError as error:
        raise CallError(str(error)) from error


def follow_face(faces: Sequence[Detection], last: Detection | None) -> Detection | None:
    """Choose the face that continues a track.

    Args:
        faces: Faces of this frame.
        last: Last face of the track; None at the start of the track.

    Returns:
        The face whose centre is nearest to that of ``last``, or the largest face if ``last`` is None; None if the frame
        has no faces.
    """
    if not faces:
        return None
    if last is None:
        return max(faces, key=lambda face: float((face.box[2] - face.box[0]) * (face.box[3] - face.box[1])))
    centre = (last.box[:2] + last.box[2:]) / 2
    return min(faces, key=lambda face: float(np.linalg.norm((face.box[:2] + face.box[2:]) / 2 - centre)))
