"""Backends that compute an avatar's frames: their protocol, and ``PlainBackend`` for any device.

``ffavatar_model.animation.graph_backend`` contains ``CudaGraphBackend``, which replays CUDA graphs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ffavatar_model.camera import pose_to_camera, virtual_intrinsics
from ffavatar_model.data.images import BACKGROUND
from ffavatar_model.model import FFAvatar
from ffavatar_model.networks.estimator import DrivingParameters
from ffavatar_model.networks.gaussians import CanonicalAvatar

Images = NDArray[np.uint8]
"""RGB images on the host, (A, height, width, 3): one image per avatar."""


class Backend(Protocol):
    """Interface of a backend, which computes frames of A avatars of one model for ``Animator``."""

    fallback_reason: str
    """Reason why this backend was chosen instead of a faster one; empty if it was the first choice."""

    def estimate(self, crops: Tensor) -> DrivingParameters:
        """Estimate parameters (A, 1, ...), float32, from crops (A, 1, 3, S, S), RGB in 0 to 1, on the device."""
        ...

    def submit_images(self, crops: Images) -> None:
        """Start a frame from aligned crops (A, S, S, 3), where S is the estimator's own size."""
        ...

    def submit_parameters(self, parameters: DrivingParameters) -> None:
        """Start a frame from driving parameters (A, 1, ...), on the host or the device."""
        ...

    def collect(self) -> Images:
        """Return images (A, size, size, 3) of the oldest frame in flight."""
        ...


BackendFactory = Callable[[FFAvatar, CanonicalAvatar, int], Backend]
"""Function that builds a backend: (model, its A avatars on the same device, pixels along a frame's edge) → backend."""


class PlainBackend:
    """A backend for any device that calls the model for each frame; submitting a frame also computes it."""

    def __init__(self, model: FFAvatar, avatars: CanonicalAvatar, size: int, fallback_reason: str = "") -> None:
        """Set up the camera and the background.

        Args:
            model: Model in ``eval`` mode, on any device.
            avatars: The A canonical avatars of this model, on the same device.
            size: Pixels along the edge of the frames.
            fallback_reason: See ``Backend.fallback_reason``.
        """
        self.fallback_reason = fallback_reason
        self._model, self._avatars, self._size = model, avatars, size
        self._K = virtual_intrinsics(size, model.rig.points).expand(len(avatars.offsets), 1, 3, 3)
        self._background = model.rig.points.new_tensor(BACKGROUND)
        self._frames: deque[Images] = deque()

    def estimate(self, crops: Tensor) -> DrivingParameters:
        """Estimate parameters (A, 1, ...): see ``Backend.estimate``."""
        return self._model.estimate(crops)

    @torch.inference_mode()
    def submit_images(self, crops: Images) -> None:
        """Start a frame from aligned crops (A, S, S, 3) of any size: see ``Backend.submit_images``."""
        pixels = torch.from_numpy(crops).to(self._K.device).permute(0, 3, 1, 2).float() / 255
        self.submit_parameters(self.estimate(pixels[:, None]))

    @torch.inference_mode()
    def submit_parameters(self, parameters: DrivingParameters) -> None:
        """Start a frame from driving parameters (A, 1, ...): see ``Backend.submit_parameters``."""
        parameters = DrivingParameters(*(value.to(self._K.device) for value in parameters))
        camera = pose_to_camera(parameters.pose, self._K, self._size)
        posed = self._model.animate(self._avatars, parameters)
        rgb = self._model.render(posed, camera, self._K, self._background, self._size).rgb[:, 0]
        self._frames.append((rgb.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy())

    def collect(self) -> Images:
        """Return images (A, size, size, 3) of the oldest frame in flight.

        Raises:
            IndexError: No frame is in flight.
        """
        return self._frames.popleft()
