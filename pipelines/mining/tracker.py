"""Follow faces through a shot: which detection belongs to which track."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from pipelines.mining.config import TrackConfig

Boxes = npt.NDArray[np.float64]

Look = Callable[[], npt.NDArray[np.float32]]
"""Gives a face's unit embedding when asked; asking costs."""

_NEVER = 1e6


@dataclass
class _Open:
    track: int
    box: Boxes
    look: Look
    time_s: float


class Tracker:
    """Links the detections of one shot's sampled frames, given in order, by where they are, how large, and who.

    A detection may continue a track whose last box overlaps it, or lies near for its width, and is of about its size.
    Where the two overlap well and neither may be paired otherwise, they are one. Elsewhere their embeddings must be
    alike. Of all ways to pair them the cheapest is taken; what continues no track begins one.
    """

    def __init__(self, config: TrackConfig) -> None:
        self._config = config
        self._open: list[_Open] = []
        self._begun = 0

    def link(self, time_s: float, boxes: Sequence[npt.ArrayLike], looks: Sequence[Look]) -> list[int]:
        """The track (0, 1, ... in order of appearance in this shot) of each face of one frame.

        ``boxes`` are x0, y0, x1, y1 each; ``looks`` are asked for the faces whose place leaves a doubt.
        """
        self._open = [o for o in self._open if time_s - o.time_s <= self._config.max_gap_s + 1e-3]
        found = np.asarray(boxes, np.float64).reshape(-1, 4)
        last = np.array([o.box for o in self._open]).reshape(-1, 4)
        cost = pair_costs(last, found, self._config)
        for row, column in np.argwhere(in_doubt(cost, iou(last, found), self._config.clear_overlap)):
            likeness = float(self._open[row].look() @ looks[column]())
            cost[row, column] = cost[row, column] + 1 - likeness if likeness >= self._config.min_likeness else _NEVER
        tracks = [-1] * len(found)
        for row, column in zip(*linear_sum_assignment(cost), strict=True):
            if cost[row, column] < _NEVER:
                tracks[column] = self._open[row].track
        for i, box in enumerate(found):
            if tracks[i] < 0:
                tracks[i] = self._begun
                self._begun += 1
                self._open.append(_Open(tracks[i], box, looks[i], time_s))
            else:
                known = next(o for o in self._open if o.track == tracks[i])
                known.box, known.look, known.time_s = box, looks[i], time_s
        return tracks


def pair_costs(last: Boxes, found: Boxes, config: TrackConfig) -> Boxes:
    """(T, D) cost of continuing each of T boxes with each of D: 1 - IoU + half the centres' distance in widths.

    ``_NEVER`` where the config's gates forbid it.
    """
    a, b = last[:, None], found[None]
    overlap = iou(last, found)
    widths_a, widths_b = a[..., 2] - a[..., 0], b[..., 2] - b[..., 0]
    wider = np.maximum(np.maximum(widths_a, widths_b), 1e-6)
    narrower = np.maximum(np.minimum(widths_a, widths_b), 1e-6)
    centres = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    distance = np.linalg.norm(centres, axis=-1) / wider
    allowed = ((overlap >= config.min_overlap) | (distance <= config.max_jump)) & (
        wider / narrower <= config.max_scaling
    )
    return np.where(allowed, 1 - overlap + distance / 2, _NEVER)


def in_doubt(cost: Boxes, overlap: Boxes, clear_overlap: float) -> npt.NDArray[np.bool_]:
    """(T, D) True for the pairs that are possible and either not the only one for both, or hardly overlap."""
    possible = cost < _NEVER
    alone = (possible.sum(axis=1, keepdims=True) == 1) & (possible.sum(axis=0, keepdims=True) == 1)
    return possible & ~(alone & (overlap >= clear_overlap))


def iou(first: Boxes, second: Boxes) -> Boxes:
    """(N, M) intersection over union of boxes (N, 4) and (M, 4), x0, y0, x1, y1 each."""
    a, b = first[:, None], second[None]
    sides = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None)
    common = sides[..., 0] * sides[..., 1]
    areas = [(x[..., 2] - x[..., 0]) * (x[..., 3] - x[..., 1]) for x in (a, b)]
    return common / np.maximum(areas[0] + areas[1] - common, 1e-9)
