"""The head's pose in the world at one timestep, from images of several calibrated cameras, without tracking."""

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
"""Longer side of the image for face detection, pixels: in a rig the face fills a quarter of it or more."""
MESH_PX = 320
"""Pixels a side of the crop for the face mesh."""
MIN_SCORE = 0.5
"""Least score of the face mesh."""
LANDMARK_INDEX = np.array(list(HEAD_POINTS))
"""(P,) numbers of the face-mesh points that the pose is fitted to."""
MEAN_LANDMARKS = np.array(list(HEAD_POINTS.values()))
"""(P, 3) their positions on the mean head, in the head model's frame, metres."""
MAX_RESIDUAL = 0.015
"""Upper bound, metres, on the median distance of a head's landmarks from the fitted mean head's."""
MAX_ERROR_PX = 12.0
"""Upper bound, pixels of a head that spans 512, on the landmarks' median reprojection error: above it the views do not
show one head, or are not calibrated. On rendered heads it is 1.4 to 2.4."""


@dataclass(frozen=True)
class HeadPose:
    """The pose of a head at one timestep."""

    fit: SimilarityFit
    error_px: float
    """Median distance of the landmarks from the triangulated points' projections, pixels of a head that spans 512."""
    cameras: tuple[str, ...]
    """Names of the cameras in whose images a face was detected."""


class HeadFinder:
    """A finder of the head's pose, which runs face detector and face mesh on several views."""

    def __init__(self, analyzer: FaceAnalyzer, mesh: MeshDetector, n_views: int = 6) -> None:
        self._analyzer, self._mesh, self._n_views = analyzer, mesh, n_views

    @classmethod
    def load(cls, n_views: int = 6) -> Self:
        """Load the finder with the default models.

        Raises:
            WeightsError: The models' weights cannot be loaded.
        """
        return cls(FaceAnalyzer(face_pack(None)), MeshDetector.load(), n_views)

    def detect_landmarks(self, image: Image) -> tuple[Array, float] | None:
        """Detect the face-mesh points of the largest face in an RGB image (H, W, 3).

        Returns:
            (468, 2) pixels (the first pixel's centre is at (0.5, 0.5)) and the mesh's score; None for no face.
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
            images: RGB images (H, W, 3) of one timestep, by camera.
            cameras: The images' cameras, for their sizes.
            order: Cameras to try first, until ``n_views`` show a face, so a rig's front cameras save work; empty to
                use all cameras.

        Returns:
            The pose; None when fewer than two cameras show a face, or when the faces are not one head.
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
        # In the images' order, so that sums do not depend on the order in which cameras are tried.
        landmarks = {name: landmarks[name] for name in images if name in landmarks}
        return fit_head_pose({name: cameras[name] for name in landmarks}, landmarks)


def fit_head_pose(cameras: Mapping[str, Camera], pixels: Mapping[str, Array]) -> HeadPose | None:
    """Fit the mean head to landmarks in several cameras.

    Args:
        cameras: At least two cameras by name.
        pixels: Pixels (P, 2) of ``LANDMARK_INDEX`` in each camera, by its name.

    Returns:
        The pose; None when the landmarks are not those of one head.
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
