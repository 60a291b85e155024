"""The head's place moment by moment: from the benchmark's tracking where there is one, else from landmarks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nersemble.flame_tracking import FlameTracking, head_of, read_tracking
from nersemble.layout import tracking_path
from pipelines.conversion.head_crops import HEAD_SPAN
from pipelines.conversion.head_finder import POINTS, SHAPE, HeadFinder
from pipelines.conversion.nersemble.config import NersembleConfig
from pipelines.media.cameras import Array, Camera

Picture = NDArray[np.uint8]

SHAPE_SD, SIZE_SD, ORIGIN_SD = 0.005, 0.1, 0.03
"""How far a person's landmarks lie from the mean head's (metres), their head's size from its (share), and the point
between the eyes from a head model's origin (metres). One view tells size from distance by these alone."""
SPARE = 1.25
"""A head in the decoded picture has at least so many pixels for one of the crop."""


def decode_factor(cameras: Mapping[str, Camera], config: NersembleConfig) -> int:
    """By which power of two the videos are decoded smaller: no crop needs more pixels than that leaves.

    Half the size is a quarter of the pixels that travel from the decoder, and the crop averages them anyway.
    """
    if config.crop == "full":
        needed = {name: max(c.width, c.height) / (SPARE * config.size) for name, c in cameras.items()}
    elif len(cameras) < 2:
        return 1
    else:
        middle = _meeting_point(list(cameras.values()))
        depth = {name: float(c.project(middle[None])[1][0]) for name, c in cameras.items()}
        needed = {n: c.K[0, 0] * HEAD_SPAN / max(depth[n], 0.1) / (SPARE * config.size) for n, c in cameras.items()}
    factor = 1
    while (
        factor < 8
        and min(needed.values()) >= 2 * factor
        and all(c.width % (2 * factor) == 0 and c.height % (2 * factor) == 0 for c in cameras.values())
    ):
        factor *= 2
    return factor


def _meeting_point(cameras: list[Camera]) -> Array:
    """(3,) the point nearest to all optical axes, least squares: where a rig looks at."""
    axes = np.stack([c.world_to_camera[2, :3] for c in cameras])
    off = np.eye(3) - axes[:, :, None] * axes[:, None]
    centres = np.stack([c.centre for c in cameras])
    return np.linalg.lstsq(off.sum(0), np.einsum("nij,nj->i", off, centres), rcond=None)[0]


@dataclass
class HeadPlaces:
    """Gives (3, 4) head to world, rigid, metres, origin between the eyes; remembers which cameras show the face."""

    finder: HeadFinder
    tracking: FlameTracking | None = None
    origin: Array | None = None
    """(3,) the head's origin in the frame of the tracking's head model, metres."""
    order: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, person: Path, sequence: str, finder: HeadFinder) -> HeadPlaces:
        """For one sequence. Raises ``NersembleError`` for a tracking file that is none."""
        path = tracking_path(person, sequence)
        if not path.is_file():
            return cls(finder)
        # The open head's origin is the corpus's own; FLAME's lies elsewhere and is found from the first pictures.
        return cls(finder, read_tracking(path), np.zeros(3) if head_of(path) else None)

    def at(self, index: int, pictures: Mapping[str, Picture], cameras: Mapping[str, Camera]) -> Array | None:
        """The head at a frame; None where it is not found."""
        if self.tracking is None:
            seen = self.finder.find(pictures, cameras, self.order)
            if seen is None:
                return None
            self.order = self.order or sorted(seen.cameras)
            return seen.placed.head_to_world
        if index >= len(self.tracking):
            return None
        transform = self.tracking.head_to_world()[index]
        if self.origin is None:
            self.origin = self._find_origin(transform, pictures, cameras)
            if self.origin is None:
                return None
        scale = float(self.tracking.scale[0, 0])
        return np.column_stack([transform[:, :3] / scale, transform[:, :3] @ self.origin + transform[:, 3]])

    def _find_origin(
        self, transform: Array, pictures: Mapping[str, Picture], cameras: Mapping[str, Camera]
    ) -> Array | None:
        """(3,) where the point between the eyes lies in the tracked head's frame, metres.

        FLAME's origin is not in the file. Landmarks at ``size * SHAPE + origin`` in that frame appear at known pixels:
        each gives two equations that are linear in size and origin. Least squares, with what is known beforehand.
        """
        rows, values = [np.diag([1 / SIZE_SD, *[1 / ORIGIN_SD] * 3])], [np.array([1 / SIZE_SD, 0, 0, 0])]
        for name, picture in pictures.items():
            found = self.finder.landmarks(picture)
            if found is None:
                continue
            projection = cameras[name].K @ cameras[name].world_to_camera
            linear = projection[:, :3] @ transform[:, :3]
            shift = projection[:, :3] @ transform[:, 3] + projection[:, 3]
            pixels, noise = found[0][POINTS], SHAPE_SD * cameras[name].K[0, 0]
            for axis in (0, 1):
                of_origin = pixels[:, axis, None] * linear[2] - linear[axis]
                of_size = (of_origin * SHAPE).sum(1, keepdims=True)
                rows.append(np.concatenate([of_size, of_origin], axis=1) / noise)
                values.append((shift[axis] - pixels[:, axis] * shift[2]) / noise)
        if len(rows) == 1:
            return None
        return np.linalg.lstsq(np.concatenate(rows), np.concatenate(values), rcond=None)[0][1:]
