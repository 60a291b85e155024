"""The head's pose at each timestep, from the benchmark's tracking if it exists, otherwise from landmarks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nersemble.flame_tracking import FlameTracking, read_head_mark, read_tracking
from nersemble.layout import tracking_path
from pipelines.conversion.head_crops import HEAD_SPAN
from pipelines.conversion.head_finder import LANDMARK_INDEX, MEAN_LANDMARKS, HeadFinder
from pipelines.conversion.nersemble.nersemble_config import NersembleConfig
from pipelines.media.cameras import Array, Camera

Image = NDArray[np.uint8]

SHAPE_SD, SIZE_SD, ORIGIN_SD = 0.005, 0.1, 0.03
"""Standard deviations of three priors.

``SHAPE_SD`` is that of a person's landmarks around those of the mean head (metres), ``SIZE_SD`` that of the head's size
relative to the mean head (share), ``ORIGIN_SD`` that of the point between the eyes around the head model's origin
(metres).
With one view, only these priors can distinguish a large head from a near one.
"""
SPARE = 1.25
"""Smallest ratio of the resolution of the decoded image to that of the crop."""


def decode_factor(cameras: Mapping[str, Camera], config: NersembleConfig) -> int:
    """Return the power of two by which decoded frames can be reduced while each crop still has enough pixels.

    At half the size only a quarter of the pixels come from the decoder, and the crop would average them anyway.

    Args:
        cameras: Serial number → camera of the video at its full size.
        config: Settings, which hold the size of the crop.
    """
    if config.crop == "full":
        needed = {name: max(c.width, c.height) / (SPARE * config.size) for name, c in cameras.items()}
    elif len(cameras) < 2:
        return 1
    else:
        centre = _rig_centre(list(cameras.values()))
        depth = {name: float(c.project(centre[None])[1][0]) for name, c in cameras.items()}
        needed = {n: c.K[0, 0] * HEAD_SPAN / max(depth[n], 0.1) / (SPARE * config.size) for n, c in cameras.items()}
    factor = 1
    while (
        factor < 8
        and min(needed.values()) >= 2 * factor
        and all(c.width % (2 * factor) == 0 and c.height % (2 * factor) == 0 for c in cameras.values())
    ):
        factor *= 2
    return factor


def _rig_centre(cameras: list[Camera]) -> Array:
    """Return the point (3,) nearest to all optical axes, by least squares."""
    axes = np.stack([c.world_to_camera[2, :3] for c in cameras])
    off = np.eye(3) - axes[:, :, None] * axes[:, None]
    centres = np.stack([c.centre for c in cameras])
    return np.linalg.lstsq(off.sum(0), np.einsum("nij,nj->i", off, centres), rcond=None)[0]


@dataclass
class HeadTracker:
    """A tracker of the head's pose in one sequence, which remembers the cameras that show the face."""

    finder: HeadFinder
    """Finder that detects the landmarks."""
    tracking: FlameTracking | None = None
    """Tracking from the benchmark; None if there is none."""
    origin: Array | None = None
    """(3,) point between the eyes in the frame of the tracking's head model, metres; None until it is known."""
    order: list[str] = field(default_factory=list)
    """Cameras that showed the face at the first timestep."""

    @classmethod
    def for_sequence(cls, person: Path, sequence: str, finder: HeadFinder) -> HeadTracker:
        """Return the tracker of a sequence.

        Args:
            person: Folder of the participant.
            sequence: Name of the sequence.
            finder: Finder of the head, used if there is no tracking.

        Raises:
            NersembleError: The tracking file cannot be read.
        """
        path = tracking_path(person, sequence)
        if not path.is_file():
            return cls(finder)
        # The open head has the corpus's origin; FLAME's origin lies elsewhere and is estimated from the first images.
        return cls(finder, read_tracking(path), np.zeros(3) if read_head_mark(path) else None)

    def head_to_world(self, index: int, images: Mapping[str, Image], cameras: Mapping[str, Camera]) -> Array | None:
        """Return the head's pose at a frame.

        Args:
            index: Index of the frame.
            images: Name of the camera → RGB image of the frame.
            cameras: Name of the camera → camera of the image.

        Returns:
            (3, 4) rigid transform, metres, with the origin between the eyes; None if the head is not found.
        """
        if self.tracking is None:
            pose = self.finder.find(images, cameras, self.order)
            if pose is None:
                return None
            self.order = self.order or sorted(pose.cameras)
            return pose.fit.head_to_world
        if index >= len(self.tracking):
            return None
        transform = self.tracking.head_to_world()[index]
        if self.origin is None:
            self.origin = self._find_origin(transform, images, cameras)
            if self.origin is None:
                return None
        scale = float(self.tracking.scale[0, 0])
        return np.column_stack([transform[:, :3] / scale, transform[:, :3] @ self.origin + transform[:, 3]])

    def _find_origin(
        self, transform: Array, images: Mapping[str, Image], cameras: Mapping[str, Camera]
    ) -> Array | None:
        """Return the point (3,) between the eyes in the tracked head's frame, metres; None if no face is detected.

        The tracking file does not state FLAME's origin. Landmarks at ``size * MEAN_LANDMARKS + origin`` in the tracked
        head's frame project to the detected pixels. Each landmark gives two equations, which are linear in size and
        origin; they are solved by least squares with the priors ``SIZE_SD`` and ``ORIGIN_SD``.
        """
        rows, values = [np.diag([1 / SIZE_SD, *[1 / ORIGIN_SD] * 3])], [np.array([1 / SIZE_SD, 0, 0, 0])]
        for name, image in images.items():
            detected = self.finder.detect_landmarks(image)
            if detected is None:
                continue
            projection = cameras[name].K @ cameras[name].world_to_camera
            linear = projection[:, :3] @ transform[:, :3]
            shift = projection[:, :3] @ transform[:, 3] + projection[:, 3]
            pixels, noise = detected[0][LANDMARK_INDEX], SHAPE_SD * cameras[name].K[0, 0]
            for axis in (0, 1):
                of_origin = pixels[:, axis, None] * linear[2] - linear[axis]
                of_size = (of_origin * MEAN_LANDMARKS).sum(1, keepdims=True)
                rows.append(np.concatenate([of_size, of_origin], axis=1) / noise)
                values.append((shift[axis] - pixels[:, axis] * shift[2]) / noise)
        if len(rows) == 1:
            return None
        return np.linalg.lstsq(np.concatenate(rows), np.concatenate(values), rcond=None)[0][1:]
