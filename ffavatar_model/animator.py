"""One avatar, driven frame by frame: an aligned crop in, a picture out. Nothing is batched and nothing is kept back."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ffavatar_model.camera import pose_to_camera, reframe_pose, virtual_intrinsics
from ffavatar_model.estimator import DrivingParameters
from ffavatar_model.gaussians import CanonicalAvatar
from ffavatar_model.model import FFAvatar, PosedGaussians
from ffavatar_model.pictures import BACKGROUND
from ffavatar_model.smoothing import OneEuro, smooth_parameters

Estimate = Callable[[Tensor], DrivingParameters]
"""(1, 1, 3, S, S) an aligned crop as the model takes it, RGB in 0 to 1 → parameters (1, 1, ...)."""
Pose = Callable[[DrivingParameters], PosedGaussians]
"""Parameters (1, 1, ...) → the avatar's Gaussians (1, 1, P, ...)."""
Render = Callable[[PosedGaussians, Tensor, Tensor], Tensor]
"""Gaussians, head to camera (1, 1, 3, 4), K (1, 1, 3, 3) → picture (3, size, size), RGB in 0 to 1, on the device."""

Draw = Callable[[DrivingParameters], npt.NDArray[np.uint8]]
"""Parameters (1, 1, ...) → picture (size, size, 3), RGB, on the host."""


class Framing(NamedTuple):
    """How an aligned crop lies in the picture that is made."""

    similarity: npt.NDArray[np.float64]
    """(2, 3) from pixels of the crop to pixels of the picture, pixel centres at whole numbers."""
    crop_px: int
    """Side of the crop that ``similarity`` counts in; the crop that the model sees may be resized."""


class Animator:
    """Drives one avatar into square pictures of ``size`` pixels.

    Its parts are plain attributes, ``estimate`` and ``draw`` (which calls ``pose`` and ``render``): a captured or
    compiled one of the same signature can be put in place of each. Smoothing is off unless it is asked for.
    """

    def __init__(
        self, model: FFAvatar, avatar: CanonicalAvatar, *, size: int, smoothing: OneEuro.Config | None = None
    ) -> None:
        """``avatar`` has B = 1 and lies, like the model, on the device that does the work."""
        self.size, self.image_size = size, model.config.image_size
        self.device = model.rig.points.device
        self._K = virtual_intrinsics(size, model.rig.points)[None, None]
        self._background = model.rig.points.new_tensor(BACKGROUND)
        self._smooth = OneEuro(smoothing) if smoothing is not None else None
        self._rest = model.neutral()
        self.estimate: Estimate = model.estimate
        self.pose: Pose = lambda parameters: model.animate(avatar, parameters)
        self.render: Render = lambda posed, camera, K: model.render(
            posed, camera, K, self._background, size
        ).rgb[0, 0]
        self.draw: Draw = self._draw

    @property
    def rest(self) -> DrivingParameters:
        """(1, 1, ...) the head at rest, looking straight out of the picture."""
        return self._rest

    @torch.inference_mode()
    def parameters(self, crop: Tensor, framing: Framing, time_s: float) -> DrivingParameters:
        """What moves the head, (1, 1, ...), with its pose as the picture shows it.

        Args:
            crop: (3, image_size, image_size) an aligned crop, RGB in 0 to 1, on any device.
            framing: how that crop lies in the picture.
            time_s: when it was taken; smoothing needs it to run forward.
        """
        found = self.estimate(crop.to(self.device, non_blocking=True)[None, None])
        similarity = torch.from_numpy(framing.similarity).to(found.pose)
        found = found._replace(pose=reframe_pose(found.pose, similarity, framing.crop_px, self.size))
        return found if self._smooth is None else smooth_parameters(self._smooth, found, time_s)

    @torch.inference_mode()
    def picture(self, parameters: DrivingParameters) -> npt.NDArray[np.uint8]:
        """(size, size, 3) RGB of the avatar under parameters (1, 1, ...)."""
        return self.draw(parameters)

    def _draw(self, parameters: DrivingParameters) -> npt.NDArray[np.uint8]:
        camera = pose_to_camera(parameters.pose, self._K, self.size)
        rgb = self.render(self.pose(parameters), camera, self._K)
        return (rgb.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()

    def __call__(self, crop: Tensor, framing: Framing, time_s: float) -> npt.NDArray[np.uint8]:
        """``picture`` of ``parameters``: one frame, whole."""
        return self.picture(self.parameters(crop, framing, time_s))
