"""Search for faces in a shot's sampled frames: in the whole frame now and then, near the known faces in between."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.mining.config import TrackConfig
from pipelines.mining.tracker import Boxes, KnownFace, iou

Area = tuple[int, int, int, int]
"""Part of a frame: left, upper, right and lower edge, pixels; the last two are exclusive."""

SAME_FACE = 0.4
"""Intersection over union above which detections of neighbouring areas are one face, as inside a detector."""


@dataclass
class FaceSearch:
    """Search through the sampled frames of one shot.

    The whole frame is searched in the first frame, after ``TrackConfig.whole_search_s``, and where a face of the frame
    before is not found again. In all other frames only the areas around the last faces of the open tracks are searched.
    A face that appears is therefore found at most ``whole_search_s`` and one sampling interval later; one that is
    visible for a shorter time may be missed, unless it is near another one.
    """

    config: TrackConfig
    _searched_s: float = field(default=-math.inf, init=False)
    """Time of the last frame that was searched as a whole, seconds."""

    def find(self, frame: Any, known: Sequence[KnownFace], detector: Any) -> list[Any]:
        """Find the faces of the next sampled frame.

        Args:
            frame: Has ``time_s`` and ``rgb`` (H, W, 3).
            known: The last faces of the open tracks.
            detector: A ``FaceAnalyzer``, or an object with its methods ``detect``, ``detect_area`` and ``input_size``.

        Returns:
            Detections, in pixels of the frame.
        """
        if frame.time_s - self._searched_s < self.config.whole_search_s - 1e-3:
            found = self._find_near(frame.rgb, known, detector)
            if found is not None:
                return found
        self._searched_s = frame.time_s
        return self._find_all(frame.rgb, detector)

    def _find_all(self, rgb: Any, detector: Any) -> list[Any]:
        """Search the whole frame, and once more in a larger input for small faces, if the first input is smaller.

        Detections in the larger input that touch one of the smaller input are left out, because a face that is too
        large for the detector is found in pieces.
        """
        height, width = rgb.shape[:2]
        found = list(detector.detect(rgb))
        small = self.config.small_faces_input_px
        if max(detector.input_size(width, height)) >= min(small, max(detector.input_size(width, height, small))):
            return found
        boxes = _boxes(found)
        added = detector.detect_area(rgb, (0, 0, width, height), small)
        return found + [detection for detection in added if not (iou(_boxes([detection]), boxes) > 0).any()]

    def _find_near(self, rgb: Any, known: Sequence[KnownFace], detector: Any) -> list[Any] | None:
        """Search around the known faces; return None if the whole frame has to be searched."""
        height, width = rgb.shape[:2]
        side = self.config.area_input_px
        areas = uncovered_areas([face.box for face in known], width, height, self.config)
        pixels = sum(math.prod(detector.input_size(c - a, d - b, side)) for a, b, c, d in areas)
        if pixels > math.prod(detector.input_size(width, height)):
            return None
        found = merge_detections(
            [
                detection
                for area in areas
                for detection in detector.detect_area(rgb, area, side)
                if not is_cut(detection.box, area, width, height)
            ]
        )
        boxes = _boxes(found)
        near = [iou(np.asarray(face.box)[None], boxes) >= self.config.min_overlap for face in known if not face.missed]
        return found if all(overlaps.any() for overlaps in near) else None


def face_area(box: Boxes, width: int, height: int, config: TrackConfig) -> Area:
    """Return the square around a face in which it is searched for in the next sampled frame, cut by the frame.

    Args:
        box: (4,) box of the face, pixels of the frame.
        width: Width of the frame, pixels.
        height: Height of the frame, pixels.
        config: ``area_sides``, the side of the square in longer sides of the box; the side is ``area_input_px`` or
            more, so that no area is enlarged.
    """
    x0, y0, x1, y1 = (float(value) for value in box)
    reach = max(config.area_sides * max(x1 - x0, y1 - y0), config.area_input_px) / 2
    # a box may lie outside of the frame; the area keeps a pixel
    left, top = (min(max(0, math.floor((a + b) / 2 - reach)), n - 1) for a, b, n in ((x0, x1, width), (y0, y1, height)))
    right, bottom = math.ceil((x0 + x1) / 2 + reach), math.ceil((y0 + y1) / 2 + reach)
    return left, top, min(width, max(right, left + 1)), min(height, max(bottom, top + 1))


def uncovered_areas(boxes: Sequence[Boxes], width: int, height: int, config: TrackConfig) -> list[Area]:
    """Return the areas of faces, without those of faces that the area of another one covers.

    An area covers a face if it has half a box around it, as far as the frame goes, and is not much larger than the
    face's own area, in whose input the face would be larger.

    Args:
        boxes: (4,) box of each face, pixels of the frame.
        width: Width of the frame, pixels.
        height: Height of the frame, pixels.
        config: As in ``face_area``.
    """
    kept: list[Area] = []
    for box in boxes:
        area = face_area(box, width, height, config)
        x0, y0, x1, y1 = (float(value) for value in box)
        reach_x, reach_y = (x1 - x0) / 2, (y1 - y0) / 2
        inner = (max(0.0, x0 - reach_x), max(0.0, y0 - reach_y), min(width, x1 + reach_x), min(height, y1 + reach_y))
        largest = 1.5 * max(area[2] - area[0], area[3] - area[1])
        if not any(
            a <= inner[0] and b <= inner[1] and inner[2] <= c and inner[3] <= d and max(c - a, d - b) <= largest
            for a, b, c, d in kept
        ):
            kept.append(area)
    return kept


def merge_detections(detections: Sequence[Any]) -> list[Any]:
    """Keep the best detection of each face that several areas show.

    Args:
        detections: Each has ``box`` (4,) and ``score``.

    Returns:
        The kept ones, best score first.
    """
    ordered = sorted(detections, key=lambda detection: (-detection.score, *map(float, detection.box)))
    overlap = iou(_boxes(ordered), _boxes(ordered))
    kept: list[int] = []
    for i in range(len(ordered)):
        if not (overlap[i, kept] > SAME_FACE).any():
            kept.append(i)
    return [ordered[i] for i in kept]


def is_cut(box: Boxes, area: Area, width: int, height: int) -> bool:
    """Return True if an edge of an area, which is not one of the frame, reaches a detection.

    Args:
        box: (4,) box of the detection, pixels of the frame.
        area: The area in which it was found.
        width: Width of the frame, pixels.
        height: Height of the frame, pixels.
    """
    x0, y0, x1, y1 = (float(value) for value in box)
    left, top, right, bottom = area
    return (
        (left > 0 and x0 <= left + 1)
        or (top > 0 and y0 <= top + 1)
        or (right < width and x1 >= right - 1)
        or (bottom < height and y1 >= bottom - 1)
    )


def _boxes(detections: Sequence[Any]) -> Boxes:
    return np.array([detection.box for detection in detections], np.float64).reshape(-1, 4)
