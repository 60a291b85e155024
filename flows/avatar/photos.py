"""From a photo or a video frame to the aligned crop that the model sees."""

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
from pipelines.media.image_codec import decode_picture

Picture = npt.NDArray[np.uint8]

CROP_PX = 512


@dataclass(frozen=True, eq=False)
class AlignedFace:
    """One aligned face."""

    crop: Picture
    """(S, S, 3) RGB."""
    matte: Picture
    """(S, S); 255 is the person."""
    mesh: npt.NDArray[np.float32]
    """(468, 3) face mesh, pixels of the crop."""
    transform: Matrix
    """(2, 3) similarity from frame pixels to crop pixels (pixel centres at whole numbers)."""


class FaceAligner:
    """Detector, matte and mesh, loaded once."""

    def __init__(self, pack: str | None = None) -> None:
        self._analyzer = FaceAnalyzer(face_pack(pack))
        self._matte = MatteModel.load()
        self._mesh = MeshDetector.load()

    def find(self, picture: Picture) -> list[Detection]:
        """Faces of an RGB picture, from left to right."""
        return sorted(self._analyzer.detect(picture), key=lambda face: float(face.box[0]))

    def take(self, picture: Picture, face: Detection) -> AlignedFace:
        """The aligned crop of a face, with its matte and mesh."""
        size = crop_size(face.landmarks5, CROP_PX)
        transform = crop_transform(face.landmarks5, size)
        crop = warp_crop(picture, transform, size)
        mesh, _ = self._mesh.detect(crop)
        return AlignedFace(crop, self._matte.matte(crop), mesh, transform)

    def from_photo(self, path: Path, which: int | None = None) -> AlignedFace:
        """The one face of a photo, or the ``which``-th from the left (from 1).

        Raises:
            CallError: no such file, not a picture, no face, or several and ``which`` does not choose one.
        """
        picture = read_photo(path)
        faces = self.find(picture)
        if not faces:
            size = f"{picture.shape[1]} x {picture.shape[0]}"
            raise CallError(f"{path}: no face found in this {size} photo; use one that shows a face whole")
        if which is None and len(faces) > 1:
            way_out = f"choose one with --face 1 to {len(faces)} (from the left), or crop the photo"
            raise CallError(f"{path}: {len(faces)} faces; {way_out}")
        if which is not None and which > len(faces):
            raise CallError(f"{path}: --face {which}, but there are {len(faces)} faces")
        return self.take(picture, faces[(which or 1) - 1])


def read_photo(path: Path) -> Picture:
    """An image file as RGB (H, W, 3). Raises ``CallError`` naming the file when it is missing or no picture."""
    try:
        return decode_picture(path.read_bytes())
    except OSError as error:
        raise CallError(f"{path}: cannot be read ({error.strerror}); name an image file") from error
    except ValueError as error:
        raise CallError(f"{path}: not a picture that can be read; use JPEG, PNG or WebP") from error


def follow(faces: Sequence[Detection], before: Detection | None) -> Detection | None:
    """The face that continues ``before`` (the nearest centre), or the largest at a start; None without faces."""
    if not faces:
        return None
    if before is None:
        return max(faces, key=lambda face: float((face.box[2] - face.box[0]) * (face.box[3] - face.box[1])))
    centre = (before.box[:2] + before.box[2:]) / 2
    return min(faces, key=lambda face: float(np.linalg.norm((face.box[:2] + face.box[2:]) / 2 - centre)))
