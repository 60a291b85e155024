"""Animation of avatars frame by frame: an aligned crop or driving parameters in, an image out.

Frames are not batched over time.
"""

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
    """(2, 3) transform from pixels of the crop to pixels of the image; pixel centres are at whole numbers."""
    crop_px: int
    """Side of the crop in the pixels that ``similarity`` uses; the model's input may be a resized crop."""


class Animator:
    """Driver of A avatars of one model, which renders them into square images of ``size`` pixels.

    A backend computes the images: ``PlainBackend`` on any device, ``CudaGraphBackend`` in real time on a CUDA device.
    ``render`` takes one frame's parameters and returns its images; this has the lowest latency. ``submit_*`` starts a
    frame, and ``collect`` returns its images. If the backend computes concurrently with the host, frames overlap. At
    most two frames may be in flight.
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
            model: Model in ``eval`` mode; its device is used.
            avatars: The A canonical avatars of this model, on the same device.
            size: Pixels along the edge of the images.
            smoothing: Settings of a filter for the results of ``estimate_parameters``; None does not filter.
            backend: Class or function that builds a backend from model, avatars and size.
        """
        self.size, self.image_size = size, model.config.image_size
        self.device = model.rig.points.device
        self.backend = backend(model, avatars, size)
        self._model, self._avatars = model, avatars
        self._filter = OneEuro(smoothing) if smoothing is not None else None

    @property
    def neutral(self) -> DrivingParameters:
        """Parameters (A, 1, ...) of heads at rest that look straight out of the image."""
        return self._model.neutral_parameters(len(self._avatars.offsets))

    @torch.inference_mode()
    def estimate_parameters(self, crop: Tensor, framing: Framing, time_s: float) -> DrivingParameters:
        """Estimate driving parameters from a frame of one driver; their pose is the head's pose in the image.

        Args:
            crop: (3, image_size, image_size) aligned crop, RGB in 0 to 1, on any device.
            framing: Position of that crop in the image.
            time_s: Time of the frame, seconds; smoothing needs increasing times.

        Returns:
            Parameters (1, 1, ...) on the model's device, smoothed if a filter is configured.
        """
        estimated = self.backend.estimate(crop.to(self.device, non_blocking=True)[None, None])
        similarity = torch.from_numpy(framing.similarity).to(estimated.pose)
        estimated = estimated._replace(pose=reframe_pose(estimated.pose, similarity, framing.crop_px, self.size))
        return estimated if self._filter is None else smooth_parameters(self._filter, estimated, time_s)

    def render(self, parameters: DrivingParameters) -> Images:
        """Render parameters (A, 1, ...) and return images (A, size, size, 3), a copy that the caller may keep."""
        self.submit_parameters(parameters)
        return self.collect().copy()

    def submit_images(self, crops: Images) -> None:
        """Start a frame from aligned crops (A, S, S, 3), RGB, where S is the estimator's own size.

        Heads have the same poses in the rendered images as in the crops.
        """
        self.backend.submit_images(crops)

    def submit_parameters(self, parameters: DrivingParameters) -> None:
        """Start a frame from driving parameters (A, 1, ...), on the host or the device."""
        self.backend.submit_parameters(parameters)

    def collect(self) -> Images:
        """Return images (A, size, size, 3), RGB, of the oldest frame in flight.

        The array is valid until two more frames are started.
        """
        return self.backend.collect()

    @torch.inference_mode()
    def pose(self, parameters: DrivingParameters) -> PosedGaussians:
        """Return the avatars' Gaussians (A, 1, P, ...) posed by parameters (A, 1, ...)."""
        return self._model.animate(self._avatars, parameters)
