"""Tracking by detection within a shot: each detection continues a track or begins one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from pipelines.mining.config import TrackConfig

Boxes = npt.NDArray[np.float64]

EmbedFace = Callable[[], npt.NDArray[np.float32]]
"""Function that computes a face's unit embedding (D,); it is costly, so it is called only if needed."""

_FORBIDDEN = 1e6
"""Cost of a detection that cannot continue a track."""


@dataclass(frozen=True, eq=False)
class KnownFace:
    """Last face of a track that later frames may continue."""

    box: Boxes
    """(4,) x0, y0, x1, y1, pixels."""
    missed: bool
    """True if the last frame did not show the face."""


@dataclass
class _OpenTrack:
    number: int
    box: Boxes
    embed: EmbedFace
    time_s: float


class Tracker:
    """Tracker that assigns the detections in one shot's sampled frames to tracks by position, size and embedding.

    A detection may continue a track if the track's last box has a similar size, and overlaps the detection or lies near
    it, measured in widths of the box. If the two overlap well and neither has another partner that comes near this, the
    detection continues the track (``clear_pairs``). Otherwise their embeddings must be similar, too. The assignment
    with the least total cost is taken; a detection that continues no track begins a new one.
    """

    def __init__(self, config: TrackConfig) -> None:
        """Begin a shot, without tracks."""
        self._config = config
        self._open: list[_OpenTrack] = []
        self._n_tracks = 0
        self._last_s = 0.0

    def known_faces(self, time_s: float) -> list[KnownFace]:
        """Return the last faces of the tracks that a frame at this time may continue, in the order of the tracks."""
        return [KnownFace(track.box, track.time_s < self._last_s) for track in self._open_tracks(time_s)]

    def _open_tracks(self, time_s: float) -> list[_OpenTrack]:
        return [track for track in self._open if time_s - track.time_s <= self._config.max_gap_s + 1e-3]

    def update(self, time_s: float, boxes: Sequence[npt.ArrayLike], embed: Sequence[EmbedFace]) -> list[int]:
        """Assign the faces of the next frame to tracks.

        Args:
            time_s: Time of the frame, at least that of every earlier frame.
            boxes: N boxes, x0, y0, x1, y1 each.
            embed: N functions that compute the faces' embeddings; called only for faces whose boxes are ambiguous.

        Returns:
            The N track numbers: 0, 1, ... in the order of appearance in this shot.
        """
        self._open, self._last_s = self._open_tracks(time_s), time_s
        detected = np.asarray(boxes, np.float64).reshape(-1, 4)
        last = np.array([track.box for track in self._open]).reshape(-1, 4)
        cost, overlap = pair_costs(last, detected, self._config), iou(last, detected)
        clear = clear_pairs(cost, overlap, self._config)
        taken = clear.any(axis=1, keepdims=True) | clear.any(axis=0, keepdims=True)
        cost[taken & ~clear] = _FORBIDDEN
        for row, column in np.argwhere((cost < _FORBIDDEN) & ~clear):
            similarity = float(self._open[row].embed() @ embed[column]())
            is_similar = similarity >= self._config.min_likeness
            cost[row, column] = cost[row, column] + 1 - similarity if is_similar else _FORBIDDEN
        numbers = [-1] * len(detected)
        for row, column in zip(*linear_sum_assignment(cost), strict=True):
            if cost[row, column] < _FORBIDDEN:
                numbers[column] = self._open[row].number
        for i, box in enumerate(detected):
            if numbers[i] < 0:
                numbers[i] = self._n_tracks
                self._n_tracks += 1
                self._open.append(_OpenTrack(numbers[i], box, embed[i], time_s))
            else:
                track = next(track for track in self._open if track.number == numbers[i])
                track.box, track.embed, track.time_s = box, embed[i], time_s
        return numbers


def pair_costs(last: Boxes, detected: Boxes, config: TrackConfig) -> Boxes:
    """Return the cost of continuing each track with each detection.

    The cost is 1 - IoU + half the distance of the centres in widths of the wider box.

    Args:
        last: (T, 4) last boxes of the tracks, x0, y0, x1, y1.
        detected: (D, 4) boxes of the detections.
        config: Limits of overlap, movement and scaling.

    Returns:
        (T, D) costs; ``_FORBIDDEN`` for a pair that the limits exclude.
    """
    a, b = last[:, None], detected[None]
    overlap = iou(last, detected)
    widths_a, widths_b = a[..., 2] - a[..., 0], b[..., 2] - b[..., 0]
    wider = np.maximum(np.maximum(widths_a, widths_b), 1e-6)
    narrower = np.maximum(np.minimum(widths_a, widths_b), 1e-6)
    centres = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    distance = np.linalg.norm(centres, axis=-1) / wider
    allowed = ((overlap >= config.min_overlap) | (distance <= config.max_jump)) & (
        wider / narrower <= config.max_scaling
    )
    return np.where(allowed, 1 - overlap + distance / 2, _FORBIDDEN)


def clear_pairs(cost: Boxes, overlap: Boxes, config: TrackConfig) -> npt.NDArray[np.bool_]:
    """Select the pairs that belong together by their boxes alone.

    Args:
        cost: (T, D) costs from ``pair_costs``.
        overlap: (T, D) intersection over union.
        config: ``clear_overlap`` is the least overlap of a pair without alternatives. A pair with alternatives must
            overlap by ``decisive_overlap`` or more, and its alternatives by half of that at most.

    Returns:
        (T, D), True at most once in each row and column.
    """
    possible = cost < _FORBIDDEN
    unique = (possible.sum(axis=1, keepdims=True) == 1) & (possible.sum(axis=0, keepdims=True) == 1)
    high = possible & (overlap >= config.decisive_overlap)
    near = possible & (overlap > config.decisive_overlap / 2)
    alone = (near.sum(axis=1, keepdims=True) == 1) & (near.sum(axis=0, keepdims=True) == 1)
    return (unique & possible & (overlap >= config.clear_overlap)) | (high & alone)


def iou(first: Boxes, second: Boxes) -> Boxes:
    """Return the intersection over union of boxes.

    Args:
        first: (N, 4) x0, y0, x1, y1.
        second: (M, 4) likewise.

    Returns:
        (N, M), 0 to 1.
    """
    a, b = first[:, None], second[None]
    sides = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None)
    common = sides[..., 0] * sides[..., 1]
    areas = [(x[..., 2] - x[..., 0]) * (x[..., 3] - x[..., 1]) for x in (a, b)]
    return common / np.maximum(areas[0] + areas[1] - common, 1e-9)
