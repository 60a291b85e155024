"""The head's place in the world at one moment, from pictures of several calibrated cameras: no tracking needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.conversion.head_crops import HEAD_SPAN
from pipelines.conversion.triangulation import SOFT_PX, Placed, place, triangulate
from pipelines.faces.align import crop_size, crop_transform, invert, transform_points, warp_crop
from pipelines.faces.analysis import FaceAnalyzer
from pipelines.faces.head_points import HEAD_POINTS
from pipelines.faces.mesh_detector import MeshDetector
from pipelines.faces.pack import face_pack
from pipelines.media.cameras import Array, Camera

Picture = NDArray[np.uint8]

DETECT_PX = 480
"""Longer side of the picture in which a face is looked for: in a rig it fills a quarter of it or more."""
MESH_PX = 320
SURE = 0.5
"""Least score of the face mesh."""
POINTS = np.array(list(HEAD_POINTS))
SHAPE = np.array(list(HEAD_POINTS.values()))
MAX_OFF = 0.015
"""Metres: a head whose points lie farther from the mean head's, in the median, was not found."""
MAX_ERROR_PX = 12.0
"""Pixels, of a head that spans 512: views whose landmarks agree less, in the median, do not show one head (or are not
calibrated). On rendered heads it is 1.4 to 2.4."""


@dataclass(frozen=True)
class HeadSeen:
    """A head at one moment."""

    placed: Placed
    error_px: float
    """Median distance of the landmarks from the triangulated points' projections, of a head that spans 512 pixels."""
    cameras: tuple[str, ...]
    """In whose pictures a face was found."""


class HeadFinder:
    """Face detector and mesh, over several views."""

    def __init__(self, analyzer: FaceAnalyzer, mesh: MeshDetector, n_views: int = 6) -> None:
        self._analyzer, self._mesh, self._n = analyzer, mesh, n_views

    @classmethod
    def load(cls, n_views: int = 6) -> Self:
        """With the embedded models; raises ``WeightsError`` where they cannot be had."""
        return cls(FaceAnalyzer(face_pack(None)), MeshDetector.load(), n_views)

    def landmarks(self, picture: Picture) -> tuple[Array, float] | None:
        """(468, 2) pixels (the first one's centre at (0.5, 0.5)) of the largest face, and its score; None for none."""
        shrink = min(1.0, DETECT_PX / max(picture.shape[:2]))
        size = (round(picture.shape[1] * shrink), round(picture.shape[0] * shrink))
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA) if shrink < 1 else picture
        faces = self._analyzer.detect(np.asarray(small, np.uint8))
        if not faces:
            return None
        face = max(faces, key=lambda f: float((f.box[2] - f.box[0]) * (f.box[3] - f.box[1])))
        five = (face.landmarks5 + 0.5) / (size[0] / picture.shape[1], size[1] / picture.shape[0]) - 0.5
        try:
            transform = crop_transform(five, crop := crop_size(five, MESH_PX))
        except ValueError:
            return None
        mesh, score = self._mesh.detect(warp_crop(picture, transform, crop))
        if score < SURE:
            return None
        return transform_points(invert(transform), mesh[:, :2]) + 0.5, score

    def find(
        self, pictures: Mapping[str, Picture], cameras: Mapping[str, Camera], order: Sequence[str] = ()
    ) -> HeadSeen | None:
        """The head, or None where fewer than two cameras show a face, or what they show is not one head.

        ``cameras`` are those of the pictures as they are. Cameras are tried in ``order`` until ``n_views`` show a
        face (all of them where it names none), so a rig's front cameras save work.
        """
        names = [name for name in order if name in pictures] + [name for name in pictures if name not in order]
        seen: dict[str, Array] = {}
        for name in names:
            found = self.landmarks(pictures[name])
            if found is not None:
                seen[name] = found[0][POINTS]
            if len(seen) >= self._n and order:
                break
        if len(seen) < 2:
            return None
        seen = {name: seen[name] for name in pictures if name in seen}  # sums do not depend on the order of trying
        return locate({name: cameras[name] for name in seen}, seen)


def locate(cameras: Mapping[str, Camera], pixels: Mapping[str, Array]) -> HeadSeen | None:
    """The head whose ``POINTS`` appear at pixels (P, 2) in each camera; None where they do not make one head."""
    views = [cameras[name] for name in pixels]
    rough = triangulate(views, np.stack(list(pixels.values())), rounds=2)
    if not np.isfinite(rough.points).all():
        return None
    depth = np.median([c.project(rough.points)[1] for c in views], axis=1)
    if (depth <= 0).any():
        return None
    span_px = np.median([c.K[0, 0] * HEAD_SPAN / z for c, z in zip(views, depth, strict=True)])
    soft = SOFT_PX * span_px / 512
    found = triangulate(views, np.stack(list(pixels.values())), soft_px=soft)
    try:
        placed = place(SHAPE, found.points)
    except (ValueError, np.linalg.LinAlgError):
        return None
    error = float(np.nanmedian(found.error_px)) * 512 / float(span_px)
    if placed.off > MAX_OFF or error > MAX_ERROR_PX or not 0.6 < placed.scale < 1.6:
        return None
    return HeadSeen(placed, error, tuple(pixels))
