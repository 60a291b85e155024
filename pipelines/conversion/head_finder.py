"""Estimation of the head's pose in the world at one timestep, from several calibrated cameras, without tracking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.conversion.head_crops import HEAD_SPAN
from pipelines.conversion.triangulation import SOFT_PX, SimilarityFit, fit_similarity, triangulate
from pipelines.faces.align import crop_size, crop_transform, invert_transform, transform_points, warp_crop
from pipelines.faces.analysis import FaceAnalyzer
from pipelines.faces.head_points import HEAD_POINTS
from pipelines.faces.mesh_detector import MeshDetector
from pipelines.faces.pack import face_pack
from pipelines.media.cameras import Array, Camera

Image = NDArray[np.uint8]

DETECT_PX = 480
"""Longer side of the image for face detection, pixels; in a rig the face fills at least a quarter of the image."""
MESH_PX = 320
"""Side of the crop for the face mesh, pixels."""
MIN_SCORE = 0.5
"""Smallest score of a face mesh that is used."""
LANDMARK_INDEX = np.array(list(HEAD_POINTS))
"""(P,) indices of the face-mesh points to which the pose is fitted."""
MEAN_LANDMARKS = np.array(list(HEAD_POINTS.values()))
"""(P, 3) positions of these points on the mean head, in the head model's frame, metres."""
MAX_RESIDUAL = 0.015
"""Largest allowed median distance between a head's landmarks and those of the fitted mean head, metres."""
MAX_ERROR_PX = 12.0
"""Largest allowed median reprojection error of the landmarks, in pixels of a crop of ``HEAD_SPAN`` that is 512 wide.

Above it, the views do not show one head or are not calibrated. On rendered heads the error is 1.4 to 2.4.
"""


@dataclass(frozen=True)
class HeadPose:
    """The pose of a head at one timestep."""

    fit: SimilarityFit
    """Fit of the mean head to the landmarks."""
    error_px: float
    """Median reprojection error of the landmarks, in the unit of ``MAX_ERROR_PX``."""
    cameras: tuple[str, ...]
    """Names of the cameras in whose images a face was detected."""


class HeadFinder:
    """A finder of the head's pose, which runs a face detector and the face mesh on several views."""

    def __init__(self, analyzer: FaceAnalyzer, mesh: MeshDetector, n_views: int = 6) -> None:
        self._analyzer, self._mesh, self._n_views = analyzer, mesh, n_views

    @classmethod
    def load(cls, n_views: int = 6) -> Self:
        """Load the finder with the default models.

        Args:
            n_views: Number of views with a face after which the search ends, if ``find`` is given an order.

        Raises:
            WeightsError: The models' weights cannot be loaded.
        """
        return cls(FaceAnalyzer(face_pack(None)), MeshDetector.load(), n_views)

    def detect_landmarks(self, image: Image) -> tuple[Array, float] | None:
        """Detect the face-mesh points of the largest face in an RGB image (H, W, 3).

        Args:
            image: (H, W, 3) RGB.

        Returns:
            Pixel coordinates (468, 2), where the centre of the first pixel is at (0.5, 0.5), and the score of the mesh;
            None if there is no face.
        """
        shrink = min(1.0, DETECT_PX / max(image.shape[:2]))
        size = (round(image.shape[1] * shrink), round(image.shape[0] * shrink))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if shrink < 1 else image
        faces = self._analyzer.detect(np.asarray(small, np.uint8))
        if not faces:
            return None
        face = max(faces, key=lambda f: float((f.box[2] - f.box[0]) * (f.box[3] - f.box[1])))
        five = (face.landmarks5 + 0.5) / (size[0] / image.shape[1], size[1] / image.shape[0]) - 0.5
        try:
            transform = crop_transform(five, crop := crop_size(five, MESH_PX))
        except ValueError:
            return None
        mesh, score = self._mesh.detect(warp_crop(image, transform, crop))
        if score < MIN_SCORE:
            return None
        return transform_points(invert_transform(transform), mesh[:, :2]) + 0.5, score

    def find(
        self, images: Mapping[str, Image], cameras: Mapping[str, Camera], order: Sequence[str] = ()
    ) -> HeadPose | None:
        """Find the head's pose.

        Args:
            images: Name of the camera → RGB image (H, W, 3), all of one timestep.
            cameras: Name of the camera → camera of the image, at the image's size.
            order: Cameras to try first. The search ends when ``n_views`` cameras show a face, so it is faster if the
                rig's front cameras come first. If empty, all cameras are used.

        Returns:
            The pose; None if fewer than two cameras show a face, or if the faces are not one head.
        """
        names = [name for name in order if name in images] + [name for name in images if name not in order]
        landmarks: dict[str, Array] = {}
        for name in names:
            detected = self.detect_landmarks(images[name])
            if detected is not None:
                landmarks[name] = detected[0][LANDMARK_INDEX]
            if len(landmarks) >= self._n_views and order:
                break
        if len(landmarks) < 2:
            return None
        # Sort by the order of the images, so that sums do not depend on the order in which cameras are tried.
        landmarks = {name: landmarks[name] for name in images if name in landmarks}
        return fit_head_pose({name: cameras[name] for name in landmarks}, landmarks)


def fit_head_pose(cameras: Mapping[str, Camera], pixels: Mapping[str, Array]) -> HeadPose | None:
    """Fit the mean head to landmarks in several cameras.

    Args:
        cameras: Name → camera, at least two.
        pixels: Name of the camera → pixel coordinates (P, 2) of the points ``LANDMARK_INDEX``.

    Returns:
        The pose; None if the landmarks are not those of one head.
    """
    views = [cameras[name] for name in pixels]
    rough = triangulate(views, np.stack(list(pixels.values())), rounds=2)
    if not np.isfinite(rough.points).all():
        return None
    depth = np.median([c.project(rough.points)[1] for c in views], axis=1)
    if (depth <= 0).any():
        return None
    span_px = np.median([c.K[0, 0] * HEAD_SPAN / z for c, z in zip(views, depth, strict=True)])
    soft = SOFT_PX * span_px / 512
    triangulated = triangulate(views, np.stack(list(pixels.values())), soft_px=soft)
    try:
        fit = fit_similarity(MEAN_LANDMARKS, triangulated.points)
    except (ValueError, np.linalg.LinAlgError):
        return None
    error = float(np.nanmedian(triangulated.error_px)) * 512 / float(span_px)
    if fit.residual > MAX_RESIDUAL or error > MAX_ERROR_PX or not 0.6 < fit.scale < 1.6:
        return None
    return HeadPose(fit, error, tuple(pixels))
