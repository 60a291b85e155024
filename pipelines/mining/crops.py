"""One face in one frame: its first measurements and its aligned crop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from mfhq.ids import child_id
from mfhq.schema import OK, REJECTED
from pipelines.faces import quality
from pipelines.faces.align import (
    arcface_transform,
    crop_size,
    crop_transform,
    invert_transform,
    transform_points,
    warp_crop,
)
from pipelines.media.image_codec import Image, encode_webp
from pipelines.mining.config import TrackConfig

CUT_BY_BORDER = "cut_by_border"
"""Reason: the frame ends inside the face."""
TOO_SMALL = "too_small"
"""Reason: the face has fewer pixels than can be scored."""

FACE_IN_CROP = (0.261, 0.294, 0.732, 0.941)
"""Left, upper, right and lower edge of a complete face's box in the aligned crop, as shares of its side.

The median of 298 detections (score of 0.9 or more, 5 px or more from every border) in the tracks of 35 real clips.
"""

_GRID, _MARGIN = 64, 4
"""Pixels. The edges of a patch are multiples of ``_GRID``, like the edges of the area that ``align.warp_crop`` reads,
and lie at least ``_MARGIN`` outside the crop. The grid is a multiple of the codecs' blocks, too."""


@dataclass(frozen=True, eq=False)
class MeasuredFace:
    """Detection with its measurements on the frame, rounded as they are stored."""

    box: tuple[float, float, float, float]
    """x0, y0, x1, y1, pixels of the frame."""
    score: float
    landmarks5: npt.NDArray[np.float64]
    """(5, 2), pixels of the frame."""
    sharpness: float
    completeness: float
    reason: str
    """Reason code of a face that cannot be scored; else empty."""
    aligned: Image
    """(112, 112, 3) RGB, with the landmarks at ``align.ARCFACE_112``."""

    @property
    def width(self) -> float:
        """Width of the box, pixels of the frame."""
        return self.box[2] - self.box[0]

    @property
    def rank(self) -> float:
        """Rank of the face among its track's candidates: higher for a face that is large, sharp and surely a face.

        A face that cannot be scored ranks below all others.
        """
        size = math.log1p(max(self.width, 0.0))
        return self.score * math.log1p(self.sharpness) * size - (1e3 if self.reason else 0.0)


@dataclass(frozen=True, eq=False)
class FramePatch:
    """Part of a frame that a face's crop shows, kept in memory until the track's best faces are known."""

    frame_index: int
    time_s: float
    pixels: Image
    left: int
    """Left edge in the frame; like ``top`` a multiple of ``_GRID``, so that scaling and measurements give the same
    result as on the complete frame."""
    top: int


@dataclass(frozen=True, eq=False)
class Candidate:
    """Face that is kept for its track, with its crop (S, S, 3) RGB."""

    face_id: str
    track_id: str
    frame_index: int
    time_s: float
    face: MeasuredFace
    compression: float
    crop: Image
    landmarks5_crop: npt.NDArray[np.float64]
    """(5, 2), pixels of the crop."""

    def row(self, webp_quality: int) -> dict[str, Any]:
        """Return a row of ``schemas.CANDIDATE``, with the crop encoded at this WebP quality (101: lossless)."""
        face = self.face
        return {
            "face_id": self.face_id,
            "track_id": self.track_id,
            "frame_index": self.frame_index,
            "time_s": self.time_s,
            **dict(zip(("x0", "y0", "x1", "y1"), face.box, strict=True)),
            "score": face.score,
            "landmarks5": face.landmarks5.ravel().tolist(),
            "sharpness": face.sharpness,
            "completeness": face.completeness,
            "compression": self.compression,
            "status": REJECTED if face.reason else OK,
            "reason": face.reason,
            "crop": encode_webp(self.crop, webp_quality),
            "landmarks5_crop": self.landmarks5_crop.round(3).ravel().tolist(),
        }


def share_inside(landmarks5: npt.NDArray[np.float64], width: int, height: int) -> float:
    """Return the share of a face, extrapolated from its landmarks, that lies inside the frame.

    A detector's box ends at the border even if half of the face is outside; the landmarks may lie outside.

    Args:
        landmarks5: (5, 2), pixels of the frame.
        width: Width of the frame, pixels.
        height: Height of the frame, pixels.

    Returns:
        0 to 1.
    """
    points = transform_points(invert_transform(crop_transform(landmarks5, 1000)), _face_grid())
    return float(((points >= -0.5) & (points <= (width - 0.5, height - 0.5))).all(axis=1).mean())


def is_alignable(detection: Any) -> bool:
    """Return True if a detection's landmarks span a pixel or more each way; coinciding points are not a face."""
    spread = np.ptp(np.asarray(detection.landmarks5, np.float64), axis=0)
    return bool(np.isfinite(spread).all() and spread.min() >= 1)


def measure_face(frame: Image, detection: Any, config: TrackConfig) -> MeasuredFace:
    """Measure a detection on its frame.

    Args:
        frame: (H, W, 3) RGB.
        detection: Its ``box`` (4,) x0, y0, x1, y1, ``score``, ``landmarks5`` (5, 2), in pixels of the frame.
        config: Limits below which a face cannot be scored.
    """
    height, width = frame.shape[:2]
    x0, y0, x1, y1 = (round(float(v), 2) for v in detection.box)
    landmarks = np.asarray(detection.landmarks5, np.float64).reshape(5, 2).round(2)
    completeness = min(quality.completeness((x0, y0, x1, y1), width, height), share_inside(landmarks, width, height))
    inside = ((landmarks >= 0) & (landmarks <= (width - 1, height - 1))).all()
    reason = ""
    if completeness < config.min_completeness or not inside:
        reason = CUT_BY_BORDER
    elif x1 - x0 < config.min_width_px:
        reason = TOO_SMALL
    side = quality.SIDE
    aligned = warp_crop(frame, arcface_transform(landmarks, side), side)
    grey = np.asarray(cv2.cvtColor(aligned, cv2.COLOR_RGB2GRAY), np.uint8)
    return MeasuredFace(
        box=(x0, y0, x1, y1),
        score=round(float(detection.score), 4),
        landmarks5=landmarks,
        sharpness=round(quality.sharpness(grey), 2),
        completeness=round(completeness, 4),
        reason=reason,
        aligned=aligned,
    )


def copy_patch(frame: Any, face: MeasuredFace, config: TrackConfig) -> FramePatch:
    """Copy the part of a frame that ``crop_candidate`` needs.

    Args:
        frame: Has ``frame_index``, ``time_s`` and ``rgb`` (H, W, 3).
        face: A face of this frame.
        config: ``crop_px`` is the largest side of the crop.
    """
    size = config.crop_px
    crop_corners = np.array([[-1, -1], [size, -1], [size, size], [-1, size]], np.float64)  # one pixel outside the crop
    corners = transform_points(invert_transform(crop_transform(face.landmarks5, size)), crop_corners)
    box = np.reshape(face.box, (2, 2))
    limit = np.array(frame.rgb.shape[1::-1])
    low = np.floor(np.minimum(corners.min(axis=0), box[0])).astype(int) - _MARGIN
    high = np.ceil(np.maximum(corners.max(axis=0), box[1])).astype(int) + _MARGIN
    low = np.clip(low, 0, limit - 1) // _GRID * _GRID
    high = np.clip(-(-high // _GRID) * _GRID, low + 1, limit)
    pixels = frame.rgb[low[1] : high[1], low[0] : high[0]].copy()
    return FramePatch(frame.frame_index, frame.time_s, pixels, int(low[0]), int(low[1]))


def crop_candidate(patch: FramePatch, face: MeasuredFace, track_id: str, config: TrackConfig) -> Candidate:
    """Cut a face's aligned crop.

    Args:
        patch: The patch that ``copy_patch`` returned for this face.
        face: The face.
        track_id: The face's track.
        config: ``crop_px`` is the side of the crop, which is smaller if ``max_upscale`` demands it.
    """
    size = crop_size(face.landmarks5, config.crop_px, config.max_upscale)
    transform = crop_transform(face.landmarks5, size)
    corner = np.array([patch.left, patch.top])
    patch_transform = transform.copy()
    patch_transform[:, 2] += transform[:, :2] @ corner
    box = np.asarray(face.box) - np.tile(corner, 2)
    return Candidate(
        face_id=child_id(track_id, patch.frame_index, face.box),
        track_id=track_id,
        frame_index=patch.frame_index,
        time_s=round(patch.time_s, 4),
        face=face,
        compression=round(quality.compression(patch.pixels, box), 4),
        crop=warp_crop(patch.pixels, patch_transform, size),
        landmarks5_crop=transform_points(transform, face.landmarks5),
    )


@cache
def _face_grid() -> npt.NDArray[np.float64]:
    """Return (576, 2) points spread evenly over ``FACE_IN_CROP`` of a crop of 1,000 pixels."""
    across, down = (np.linspace(low, high, 24) for low, high in (FACE_IN_CROP[::2], FACE_IN_CROP[1::2]))
    return np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 2) * 1000
