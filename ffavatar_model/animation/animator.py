"""Avatars driven frame by frame: an aligned crop or driving parameters in, an image out, nothing batched over time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ffavatar_model.animation.backends import BackendFactory, Images, PlainBackend
from ffavatar_model.animation.smoothing import OneEuro, smooth_parameters
from ffavatar_model.camera import reframe_pose
from ffavatar_model.model import FFAvatar, PosedGaussians
from ffavatar_model.networks.estimator import DrivingParameters
from ffavatar_model.networks.gaussians import CanonicalAvatar


class Framing(NamedTuple):
    """Position of an aligned crop in the image that is rendered."""

    similarity: npt.NDArray[np.float64]
    """(2, 3) from pixels of the crop to pixels of the image, pixel centres at whole numbers."""
    crop_px: int
    """Side of the crop in pixels of ``similarity``; the crop that the model sees may be resized."""


class Animator:
    """One or several avatars of one model (A of them), driven and rendered into square images of ``size`` pixels.

    A backend does the work: ``PlainBackend`` on any device, ``CudaGraphBackend`` in real time on a CUDA device.
    ``render`` takes a frame and returns its images: the lowest latency. ``submit_*`` starts a frame and ``collect``
    returns it: with a backend that works beside the host, frames overlap; at most two may be in flight.
    """

    def __init__(
        self,
        model: FFAvatar,
        avatars: CanonicalAvatar,
        *,
        size: int,
        smoothing: OneEuro.Config | None = None,
        backend: BackendFactory = PlainBackend,
    ) -> None:
        """Build the backend for these avatars.

        Args:
            model: In ``eval`` mode; its device does the work.
            avatars: A canonical avatars of this model, on the same device.
            size: Pixels along the edge of the images.
            smoothing: Filter of the parameters that ``estimate_parameters`` returns; none by default.
            backend: Class or function that builds the backend from model, avatars and size.
        """
        self.size, self.image_size = size, model.config.image_size
        self.device = model.rig.points.device
        self.backend = backend(model, avatars, size)
        self._model, self._avatars = model, avatars
        self._filter = OneEuro(smoothing) if smoothing is not None else None

    @property
    def neutral(self) -> DrivingParameters:
        """Parameters (A, 1, ...) of the head at rest, looking straight out of the image."""
        return self._model.neutral_parameters(len(self._avatars.offsets))

    @torch.inference_mode()
    def estimate_parameters(self, crop: Tensor, framing: Framing, time_s: float) -> DrivingParameters:
        """Estimate driving parameters from one driver's frame, with the pose as it appears in the image.

        Args:
            crop: (3, image_size, image_size) aligned crop, RGB in 0 to 1, on any device.
            framing: Position of that crop in the image.
            time_s: Time of the frame, seconds; smoothing needs it to run forward.

        Returns:
            Parameters (1, 1, ...) on the model's device, smoothed where a filter is configured.
        """
        estimated = self.backend.estimate(crop.to(self.device, non_blocking=True)[None, None])
        similarity = torch.from_numpy(framing.similarity).to(estimated.pose)
        estimated = estimated._replace(pose=reframe_pose(estimated.pose, similarity, framing.crop_px, self.size))
        return estimated if self._filter is None else smooth_parameters(self._filter, estimated, time_s)

    def render(self, parameters: DrivingParameters) -> Images:
        """Render parameters (A, 1, ...) into images (A, size, size, 3) of the caller's own."""
        self.submit_parameters(parameters)
        return self.collect().copy()

    def submit_images(self, crops: Images) -> None:
        """Start a frame from aligned crops (A, S, S, 3), RGB, S the estimator's own size; poses are the crops'."""
        self.backend.submit_images(crops)

    def submit_parameters(self, parameters: DrivingParameters) -> None:
        """Start a frame from driving parameters (A, 1, ...), on the host or the device."""
        self.backend.submit_parameters(parameters)

    def collect(self) -> Images:
        """Return the oldest frame that was started, (A, size, size, 3) RGB; valid until two more are started."""
        return self.backend.collect()

    @torch.inference_mode()
    def pose(self, parameters: DrivingParameters) -> PosedGaussians:
        """Return the avatars' Gaussians (A, 1, P, ...) under parameters (A, 1, ...)."""
        return self._model.animate(self._avatars, parameters)
