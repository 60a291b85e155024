"""One face as the face stack sees it: the same path for a frame of a video and for a rendered image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.faces.align import arcface_transform, crop_transform, transform_points, warp_crop
from pipelines.faces.analysis import FaceAnalyzer
from pipelines.faces.mesh_detector import MeshDetector
from pipelines.faces.quality import aligned_grey, sharpness

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
CROP, FACE = 256, 112
"""Sides of the aligned crop and of the face that the classifier sees, pixels."""
MIN_EYES = 45.0
"""Least distance of the eyes in a frame, pixels: smaller faces would be enlarged."""
JPEG_QUALITY = 90
"""Quality of the compression that every crop goes through, so that no codec tells real from rendered."""


@dataclass(frozen=True)
class FaceSample:
    """One measured face."""

    person: str
    """Name of the person; samples of one person stay together in every split."""
    crop: Image
    """(256, 256, 3) aligned crop, compressed and decoded again."""
    face: Image
    """(112, 112, 3) face of the crop in ArcFace's alignment, grey outside an ellipse."""
    score: float
    """Score of the detector, 0 to 1."""
    mesh_score: float
    """Confidence of the mesh network, 0 to 1."""
    mesh: Floats
    """(468, 3) face mesh, pixels of the crop."""
    embedding: Floats
    """(D,) unit embedding; it stays in memory."""
    sharpness: float
    """Variance of the Laplacian, ``quality.sharpness``."""


class FaceJudge:
    """The networks that measure faces."""

    def __init__(self, analyzer: FaceAnalyzer, mesh: MeshDetector) -> None:
        self._analyzer, self._mesh = analyzer, mesh

    def measure(self, image: Image, person: str) -> FaceSample | None:
        """Measure the face of an image with exactly one.

        Args:
            image: (H, W, 3) RGB.
            person: Name of the person.

        Returns:
            The face; None if there is no face, more than one, or if its eyes are nearer than ``MIN_EYES``.
        """
        found = self._analyzer.detect(np.ascontiguousarray(image))
        if len(found) != 1 or math.dist(*found[0].landmarks5[:2].tolist()) < MIN_EYES:
            return None
        transform = crop_transform(found[0].landmarks5, CROP)
        crop = compressed(warp_crop(image, transform, CROP))
        five = transform_points(transform, found[0].landmarks5)
        mesh, mesh_score = self._mesh.detect(crop)
        return FaceSample(
            person=person,
            crop=crop,
            face=masked_face(crop, five),
            score=found[0].score,
            mesh_score=mesh_score,
            mesh=mesh,
            embedding=self._analyzer.embed(crop, five),
            sharpness=sharpness(aligned_grey(crop, five)),
        )


def compressed(image: Image) -> Image:
    """Return an RGB image after JPEG compression and decoding."""
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(decoded[..., ::-1])


def masked_face(crop: Image, landmarks5: NDArray[np.floating]) -> Image:
    """Return the face (112, 112, 3) in ArcFace's alignment, grey outside an ellipse: backgrounds do not count."""
    face = cv2.warpAffine(crop, arcface_transform(landmarks5, FACE), (FACE, FACE), flags=cv2.INTER_AREA)
    inside = np.zeros((FACE, FACE), np.uint8)
    cv2.ellipse(inside, (FACE // 2, 62), (44, 50), 0, 0, 360, 1, -1)
    return np.where(inside[..., None] > 0, face, 128).astype(np.uint8)
