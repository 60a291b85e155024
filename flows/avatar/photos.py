"""Aligned crops of faces from photos and video frames: detection, alignment, matte and mesh."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from infra.console import CallError
from pipelines.faces.align import Matrix, crop_size, crop_transform, invert_transform, transform_points, warp_crop
from pipelines.faces.analysis import Detection, FaceAnalyzer
from pipelines.faces.matte import MatteModel
from pipelines.faces.mesh_detector import MeshDetector
from pipelines.faces.pack import face_pack
from pipelines.faces.photo_faces import UPRIGHT_DEG, PhotoFaceFinder, PhotoFaces
from pipelines.faces.quality import aligned_grey, sharpness
from pipelines.media.image_codec import ImageFileError, read_photograph, read_with_alpha

Image = npt.NDArray[np.uint8]

CROP_PX = 512
"""Most pixels per side of an aligned crop."""
MIN_FACE_PX = 40
"""Least width of a photo's face, pixels; a smaller one has no features that an avatar could have."""
MIN_SHARPNESS = 8.0
"""Least ``sharpness`` of a photo's face: a face of 90 pixels has 79, blurred by 2 pixels 16, by 3 pixels 6."""
MIN_KNOWN = 0.8
"""Least share of a photo's face that is inside the photo, and where alpha is not 0."""
MIN_MATTE = 0.1
"""Least share of a crop that the matte says is the person; a face alone is a fifth."""


@dataclass(frozen=True, eq=False)
class AlignedFace:
    """One aligned face: its crop, matte, mesh, and the transform of the crop."""

    crop: Image
    """(S, S, 3) RGB image of the face."""
    matte: Image
    """(S, S) matte of the crop: 255 for the person, 0 for the background and where the photo or frame shows nothing."""
    mesh: npt.NDArray[np.float32]
    """(468, 3) points of the face mesh, in pixels of the crop."""
    transform: Matrix
    """(2, 3) similarity transform from frame pixels to crop pixels; pixel centres are at whole numbers."""


@dataclass(frozen=True, eq=False)
class AlignedPhoto:
    """The aligned face of a photo, with what tells whose face it is."""

    face: AlignedFace
    """The aligned face."""
    embedding: npt.NDArray[np.float32]
    """(D,) embedding of the face, of unit length; it stays in memory."""
    turned_deg: float
    """Angle by which the photo was turned anticlockwise, degrees."""


class FaceAligner:
    """Aligner of faces; its networks (detector, matte and mesh) are loaded once."""

    def __init__(self, pack: str | None = None) -> None:
        """Load the networks; ``pack`` is the name or folder of the detector's face pack, None for the default pack."""
        self._analyzer = FaceAnalyzer(face_pack(pack))
        self._matte = MatteModel.load()
        self._mesh = MeshDetector.load()
        self._finder = PhotoFaceFinder(self._analyzer, self._mesh)

    def detect_faces(self, image: Image) -> list[Detection]:
        """Detect the faces of an RGB image, ordered from left to right."""
        return sorted(self._analyzer.detect(image), key=lambda face: float(face.box[0]))

    def align(self, image: Image, face: Detection, alpha: Image | None = None) -> AlignedFace:
        """Crop and align a detected face, and compute its matte and mesh.

        Args:
            image: (H, W, 3) RGB.
            face: The face in the image.
            alpha: (H, W) alpha of the image, 0 where nothing is known; None if everything is known.

        Returns:
            The aligned face. Its matte is 0 outside the image, because nothing is known there.
        """
        size = crop_size(face.landmarks5, CROP_PX)
        transform = crop_transform(face.landmarks5, size)
        crop = warp_crop(image, transform, size)
        mesh, _ = self._mesh.detect(crop)
        known = np.full(image.shape[:2], 255, np.uint8) if alpha is None else alpha
        matte = np.minimum(self._matte.matte(crop), warp_crop(known, transform, size))
        return AlignedFace(crop, matte, mesh, transform)

    @property
    def least_similarity(self) -> float | None:
        """Least cosine similarity of two embeddings of one person; None if the pack is not calibrated."""
        threshold = self._analyzer.pack.threshold
        return None if threshold is None else 1.0 - threshold

    def embed(self, image: Image, face: Detection) -> npt.NDArray[np.float32]:
        """Return the embedding (D,) of a detected face, of unit length."""
        return self._analyzer.embed(image, face.landmarks5)

    def align_photo(self, path: Path, number: int | None = None) -> AlignedPhoto:
        """Align the face of a photo; a photo that is not upright is turned.

        Args:
            path: An image file.
            number: Number of the face counted from the left, beginning with 1; required if the photo shows several.

        Returns:
            The aligned face.

        Raises:
            CallError: The file is missing or not an image, it shows no face or fewer than ``number``, it shows several
                and ``number`` is None, or the face is too small, blurred, not upright, or not inside the photo.
        """
        try:
            image, alpha = read_with_alpha(path)
        except ImageFileError as error:
            raise CallError(str(error)) from error
        found = self._finder.find(image, alpha)
        photo, face = self._finder.level(found, found.faces[_chosen(path, image, found, number)])
        if abs(face.roll_deg) > 2 * UPRIGHT_DEG:
            raise CallError(f"{path}: the face is turned by {face.roll_deg:.0f} degrees; turn the photo upright")
        _check_detail(path, photo.image, face.detection)
        aligned = self.align(photo.image, face.detection, photo.alpha)
        _check_known(path, aligned, photo)
        return AlignedPhoto(aligned, self.embed(photo.image, face.detection), photo.turned_deg)


def _chosen(path: Path, image: Image, photo: PhotoFaces, number: int | None) -> int:
    """Return the index of the face of a photo that ``number`` chooses."""
    n = len(photo.faces)
    if not n:
        size = f"{image.shape[1]} x {image.shape[0]}"
        raise CallError(f"{path}: no face found in this {size} photo; use one that shows a complete face")
    if number is None and n > 1:
        way_out = f"choose one with --face 1 to {n} (from the left), name the photo {path}:1, or crop it"
        raise CallError(f"{path}: {n} faces; {way_out}")
    if number is not None and number > n:
        raise CallError(f"{path}: --face {number}, but there are {n} faces")
    return (number or 1) - 1


def _check_detail(path: Path, image: Image, face: Detection) -> None:
    """Raise a ``CallError`` if a face is too small or too blurred."""
    width = float(face.box[2] - face.box[0])
    if width < MIN_FACE_PX:
        raise CallError(f"{path}: the face is {width:.0f} pixels wide; at least {MIN_FACE_PX} are needed")
    sharp = sharpness(aligned_grey(image, face.landmarks5))
    if sharp < MIN_SHARPNESS:
        raise CallError(f"{path}: the face is blurred: sharpness {sharp:.1f}, at least {MIN_SHARPNESS:g} is needed")


def _check_known(path: Path, face: AlignedFace, photo: PhotoFaces) -> None:
    """Raise a ``CallError`` if a part of the face is not in the photo, or the matte found no person."""
    height, width = photo.image.shape[:2]
    points = np.rint(transform_points(invert_transform(face.transform), face.mesh[:, :2])).astype(int)
    points = points[((points >= 0) & (points < (width, height))).all(1)]
    if photo.alpha is not None:
        points = points[photo.alpha[points[:, 1], points[:, 0]] > 0]
    known = len(points) / len(face.mesh)
    if known < MIN_KNOWN:
        raise CallError(f"{path}: {100 * known:.0f} % of the face is in the photo; use one that shows a complete face")
    share = float((face.matte > 127).mean())
    if share < MIN_MATTE:
        raise CallError(
            f"{path}: {100 * share:.0f} % of the face's surroundings are recognised as a person, at least "
            f"{100 * MIN_MATTE:.0f} % are needed; use a photograph of a person, not a drawing"
        )


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
