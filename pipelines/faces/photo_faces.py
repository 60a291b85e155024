"""Finding of faces in photographs: at any size, turned by any angle, with one detection for each face."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.faces.align import Matrix, crop_transform, transform_points, warp_crop
from pipelines.faces.analysis import Detection, FaceAnalyzer
from pipelines.faces.mesh_detector import MeshDetector, face_square

Image = npt.NDArray[np.uint8]

INPUTS = (320, 640)
"""Lengths of the longer side of the detector's input, pixels, before the length that suits small faces.

A face of 300 pixels or more in the input is detected as several false faces, so large faces are found in small inputs.
"""
SAME_FACE = 0.3
"""Share of the smaller of two boxes that lies in the other, from which both are detections of one face."""
MIN_MESH = 0.5
"""Least probability, from the face mesh, that a detection is a face that stands upright in its crop."""
MESH_PX = 256
"""Pixels per side of the crop for the face mesh."""
UPRIGHT_DEG = 20.0
"""Angle up to which a face counts as upright; a face that is turned further is detected again in a turned photo."""
TURNS_DEG = (0.0, 90.0, 180.0, 270.0, 45.0, 135.0, 225.0, 315.0)
"""Angles by which a photograph is turned, in this order, until a face is certain."""
CERTAIN = 0.88
"""Score of the detector from which a face is upright.

The detector finds turned faces too, but takes them for upright ones. Of one face at 18 angles, upright ones had scores
of 0.90 to 0.96, and those that were taken for upright ones at most 0.83, whatever the face mesh said.
"""


@dataclass(frozen=True, eq=False)
class PhotoFace:
    """One face of a photograph."""

    detection: Detection
    """The face in the photograph."""
    roll_deg: float
    """Angle by which the face is turned clockwise in the photograph, degrees."""


@dataclass(frozen=True, eq=False)
class PhotoFaces:
    """The faces of a photograph, and the photograph turned such that they are upright."""

    image: Image
    """(H, W, 3) RGB."""
    alpha: Image | None
    """(H, W) alpha of ``image``, 0 where nothing is known; None if everything is known."""
    faces: tuple[PhotoFace, ...]
    """Faces in ``image``, from left to right."""
    turned_deg: float
    """Angle by which the photograph was turned anticlockwise, degrees."""


class PhotoFaceFinder:
    """Finder of the faces of photographs, which are detected in several sizes and checked by the face mesh."""

    def __init__(self, analyzer: FaceAnalyzer, mesh: MeshDetector) -> None:
        self._analyzer, self._mesh = analyzer, mesh

    def find(self, image: Image, alpha: Image | None = None) -> PhotoFaces:
        """Find the faces of a photograph, turning it until a face is upright.

        Args:
            image: (H, W, 3) RGB.
            alpha: (H, W) alpha of the image, or None.

        Returns:
            The faces, in the photograph as it was turned; no faces if there are none at any angle.
        """
        best, best_score = PhotoFaces(image, alpha, (), 0.0), 0.0
        for degrees in TURNS_DEG:
            turned, mask = _turn(image, alpha, degrees)
            faces = self._find_upright(turned)
            score = max((face.detection.score for face in faces), default=0.0)
            if score > best_score:
                best, best_score = PhotoFaces(turned, mask, faces, degrees), score
            if best_score >= CERTAIN:
                break
        return best

    def level(self, photo: PhotoFaces, face: PhotoFace) -> tuple[PhotoFaces, PhotoFace]:
        """Turn a photograph such that a face is upright, and detect this face again; other faces are dropped.

        Args:
            photo: Faces from ``find``.
            face: One of these faces.

        Returns:
            The turned photograph with this face alone, and the face; unchanged if the face is upright, or is not found
            in the turned photograph.
        """
        refined = self._refine(photo.image, face)
        if abs(refined.roll_deg) <= UPRIGHT_DEG:
            return photo, refined
        image, alpha = _turn(photo.image, photo.alpha, refined.roll_deg)
        matrix, _ = _turn_about_centre(photo.image, refined.roll_deg)
        centre = transform_points(matrix, _centre(face.detection))
        near = [found for found in self._find_upright(image) if _holds(found.detection, centre)]
        if not near or _least_roll(near) > UPRIGHT_DEG:
            return photo, refined
        found = min(near, key=lambda other: abs(other.roll_deg))
        return PhotoFaces(image, alpha, (found,), photo.turned_deg + refined.roll_deg), self._refine(image, found)

    def _find_upright(self, image: Image) -> tuple[PhotoFace, ...]:
        """Detect faces in inputs of several sizes, small ones first, and keep one detection of each face."""
        height, width = image.shape[:2]
        longest = max(self._analyzer.input_size(width, height))
        kept: list[PhotoFace] = []
        for side in (*(side for side in INPUTS if side < longest), longest):
            for found in self._analyzer.detect_area(image, (0, 0, width, height), side):
                if not any(_are_same(found, other.detection) for other in kept):
                    face = self._check(image, found)
                    kept += [face] if face else []
        return tuple(sorted(kept, key=lambda face: float(face.detection.box[0])))

    def _refine(self, image: Image, face: PhotoFace) -> PhotoFace:
        """Detect a face once more in the part of the photograph around it, where its landmarks are exact."""
        left, top, right, bottom = face.detection.box.tolist()
        reach = max(right - left, bottom - top)
        height, width = image.shape[:2]
        area = (
            max(0, int(left - reach)),
            max(0, int(top - reach)),
            min(width, math.ceil(right + reach)),
            min(height, math.ceil(bottom + reach)),
        )
        again = [
            checked
            for found in self._analyzer.detect_area(image, area, INPUTS[0])
            if _holds(found, _centre(face.detection)) and (checked := self._check(image, found))
        ]
        return min(again, key=lambda other: _distance(other, face), default=face)

    def _check(self, image: Image, found: Detection) -> PhotoFace | None:
        """Return a detection with the face's angle; None if the face mesh says that it is no face."""
        transform = crop_transform(found.landmarks5, MESH_PX)
        mesh, score = self._mesh.detect(warp_crop(image, transform, MESH_PX))
        if score < MIN_MESH:
            return None
        crop_turn = math.atan2(-transform[1, 0], transform[0, 0])
        roll = math.degrees(crop_turn + face_square(mesh)[2])
        return PhotoFace(found, (roll + 180.0) % 360.0 - 180.0)


def _turn(image: Image, alpha: Image | None, degrees: float) -> tuple[Image, Image | None]:
    """Turn an image and its alpha anticlockwise; alpha is 0 where the turned image shows nothing of the image."""
    if degrees % 90 == 0:
        k = int(degrees // 90)
        return np.ascontiguousarray(np.rot90(image, k)), None if alpha is None else np.rot90(alpha, k).copy()
    matrix, size = _turn_about_centre(image, degrees)
    known = np.full(image.shape[:2], 255, np.uint8) if alpha is None else alpha
    turned, mask = (cv2.warpAffine(plane, matrix, size) for plane in (image, known))
    return np.asarray(turned, np.uint8), np.asarray(mask, np.uint8)


def _turn_about_centre(image: Image, degrees: float) -> tuple[Matrix, tuple[int, int]]:
    """Return the transform (2, 3) that turns an image anticlockwise, and the size (width, height) that holds it."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    cosine, sine = abs(matrix[0, 0]), abs(matrix[0, 1])
    size = math.ceil(width * cosine + height * sine), math.ceil(width * sine + height * cosine)
    matrix[:, 2] += (size[0] - width) / 2, (size[1] - height) / 2
    return np.asarray(matrix, np.float64), size


def _least_roll(faces: tuple[PhotoFace, ...] | list[PhotoFace]) -> float:
    return min(abs(face.roll_deg) for face in faces)


def _centre(face: Detection) -> npt.NDArray[np.float64]:
    return np.asarray(face.box[:2] + face.box[2:], np.float64) / 2


def _distance(one: PhotoFace, other: PhotoFace) -> float:
    return float(np.linalg.norm(_centre(one.detection) - _centre(other.detection)))


def _holds(face: Detection, point: npt.ArrayLike) -> bool:
    point = np.asarray(point)
    return bool((face.box[:2] <= point).all() and (point <= face.box[2:]).all())


def _area(low: npt.NDArray[np.float32], high: npt.NDArray[np.float32]) -> float:
    return float(np.maximum(high - low, 0).prod())


def _are_same(one: Detection, other: Detection) -> bool:
    shared = _area(np.maximum(one.box[:2], other.box[:2]), np.minimum(one.box[2:], other.box[2:]))
    smaller = min(_area(face.box[:2], face.box[2:]) for face in (one, other))
    return shared > SAME_FACE * smaller
