"""One face in one frame: its first scores, and its aligned crop."""

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
    invert,
    transform_points,
    warp_crop,
)
from pipelines.media.image_codec import encode_webp
from pipelines.mining.config import TrackConfig

CUT_BY_BORDER = "cut_by_border"
"""The frame ends inside the face."""
TOO_SMALL = "too_small"
"""Fewer pixels than a face can be scored on."""

FACE_IN_CROP = (0.261, 0.294, 0.732, 0.941)
"""Left, upper, right and lower edge of a whole face's box in the aligned crop, of its side: the median of 298
detections (score of 0.9 or more, 5 px or more from every border) in the tracks of 35 real clips."""

Picture = npt.NDArray[np.uint8]

_GRID, _RESERVE = 64, 4
"""As ``align.warp_crop`` takes its part of a frame; a multiple of the codecs' blocks too."""


@dataclass(frozen=True, eq=False)
class FaceSeen:
    """A detection and what is measured on the frame; numbers are rounded as they are stored."""

    box: tuple[float, float, float, float]
    score: float
    landmarks5: npt.NDArray[np.float64]
    sharpness: float
    completeness: float
    reason: str
    """Empty, or why the face cannot be scored."""
    aligned: Picture
    """(112, 112, 3) RGB, its landmarks at ``align.ARCFACE_112``."""

    @property
    def width(self) -> float:
        """Of the box, pixels of the frame."""
        return self.box[2] - self.box[0]


@dataclass(frozen=True, eq=False)
class FramePatch:
    """The part of a frame that a face's crop shows: what is kept of the frame until the track's best are known."""

    frame_index: int
    time_s: float
    pixels: Picture
    left: int
    top: int
    """Of the frame; multiples of ``_GRID``, so that it is scaled and measured as in the whole frame."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A face kept for its track, with its crop (S, S, 3) RGB."""

    face_id: str
    track_id: str
    frame_index: int
    time_s: float
    face: FaceSeen
    compression: float
    crop: Picture
    landmarks5_crop: npt.NDArray[np.float64]

    def row(self, webp_quality: int) -> dict[str, Any]:
        """A row of ``schemas.CANDIDATE``."""
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
    """Share, 0 to 1, of the face that the five landmarks call for that lies inside a frame of that size.

    A detector puts its box inside the frame even where half of the face is outside; the landmarks tell.
    """
    points = transform_points(invert(crop_transform(landmarks5, 1000)), _face_grid())
    return float(((points >= -0.5) & (points <= (width - 0.5, height - 0.5))).all(axis=1).mean())


def is_alignable(detection: Any) -> bool:
    """Whether a detection's landmarks span a pixel or more each way: points that fall together are no face."""
    spread = np.ptp(np.asarray(detection.landmarks5, np.float64), axis=0)
    return bool(np.isfinite(spread).all() and spread.min() >= 1)


def look_at(frame: Picture, detection: Any, config: TrackConfig) -> FaceSeen:
    """First scores of a detection (``box`` (4,), ``score``, ``landmarks5`` (5, 2)) in an RGB frame (H, W, 3)."""
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
    return FaceSeen(
        box=(x0, y0, x1, y1),
        score=round(float(detection.score), 4),
        landmarks5=landmarks,
        sharpness=round(quality.sharpness(grey), 2),
        completeness=round(completeness, 4),
        reason=reason,
        aligned=aligned,
    )


def rank_of(face: FaceSeen) -> float:
    """How much a face is worth keeping: more for a sure, sharp, large one; one that cannot be scored comes last."""
    return face.score * math.log1p(face.sharpness) * math.log1p(max(face.width, 0.0)) - (1e3 if face.reason else 0.0)


def take_cutting(frame: Any, face: FaceSeen, config: TrackConfig) -> FramePatch:
    """A copy of what ``cut_candidate`` will want of a frame (``frame_index``, ``time_s``, ``rgb`` (H, W, 3))."""
    corners = transform_points(invert(crop_transform(face.landmarks5, config.crop_px)), _square(config.crop_px))
    box = np.reshape(face.box, (2, 2))
    limit = np.array(frame.rgb.shape[1::-1])
    low = np.floor(np.minimum(corners.min(axis=0), box[0])).astype(int) - _RESERVE
    high = np.ceil(np.maximum(corners.max(axis=0), box[1])).astype(int) + _RESERVE
    low = np.clip(low, 0, limit - 1) // _GRID * _GRID
    high = np.clip(-(-high // _GRID) * _GRID, low + 1, limit)
    pixels = frame.rgb[low[1] : high[1], low[0] : high[0]].copy()
    return FramePatch(frame.frame_index, frame.time_s, pixels, int(low[0]), int(low[1]))


def cut_candidate(cutting: FramePatch, face: FaceSeen, track_id: str, config: TrackConfig) -> Candidate:
    """The face's aligned crop, of ``crop_px`` or less (``TrackConfig.max_upscale``)."""
    size = crop_size(face.landmarks5, config.crop_px, config.max_upscale)
    transform = crop_transform(face.landmarks5, size)
    corner = np.array([cutting.left, cutting.top])
    inside = transform.copy()
    inside[:, 2] += transform[:, :2] @ corner
    box = np.asarray(face.box) - np.tile(corner, 2)
    return Candidate(
        face_id=child_id(track_id, cutting.frame_index, face.box),
        track_id=track_id,
        frame_index=cutting.frame_index,
        time_s=round(cutting.time_s, 4),
        face=face,
        compression=round(quality.compression(cutting.pixels, box), 4),
        crop=warp_crop(cutting.pixels, inside, size),
        landmarks5_crop=transform_points(transform, face.landmarks5),
    )


@cache
def _face_grid() -> npt.NDArray[np.float64]:
    """(576, 2) points spread evenly over ``FACE_IN_CROP`` of a crop of 1,000 pixels."""
    across, down = (np.linspace(low, high, 24) for low, high in (FACE_IN_CROP[::2], FACE_IN_CROP[1::2]))
    return np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 2) * 1000


def _square(size: int) -> npt.NDArray[np.float64]:
    """The corners of a crop, a pixel further out."""
    return np.array([[-1, -1], [size, -1], [size, size], [-1, size]], np.float64)
