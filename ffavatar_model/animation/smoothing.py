"""One-euro filter for driving parameters: little jitter while the head is still, little lag while it moves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ffavatar_model.config import require
from ffavatar_model.networks.estimator import DrivingParameters


class OneEuro:
    """A low-pass filter whose cutoff grows with the speed: Casiez, Roussel and Vogel, "1€ Filter" (CHI 2012).

    One instance filters one stream; channels are filtered independently.
    """

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """Settings of the filter. A smaller ``min_cutoff_hz`` gives less jitter, a larger ``beta`` less lag."""

        min_cutoff_hz: float = 1.5
        """Cutoff at speed 0, Hz."""
        beta: float = 4.0
        """Increase of the cutoff with the speed of a channel, Hz per (unit per second)."""
        speed_cutoff_hz: float = 1.0
        """Cutoff of the low-pass filter of the speed, Hz."""
        restart_s: float = 0.5
        """Length of a pause, seconds, after which the filter restarts."""

        def __post_init__(self) -> None:
            for name in ("min_cutoff_hz", "speed_cutoff_hz", "restart_s"):
                require(getattr(self, name) > 0, name, getattr(self, name), "more than 0")
            require(self.beta >= 0, "beta", self.beta, "0 or more")

    def __init__(self, config: OneEuro.Config | None = None) -> None:
        self.config = config or OneEuro.Config()
        self._state: tuple[float, Tensor, Tensor] | None = None

    def __call__(self, values: Tensor, time_s: float) -> Tensor:
        """Filter the values of one frame; the first frame is returned unchanged.

        Args:
            values: Values of any shape, the same for all frames.
            time_s: Time of the frame, seconds. The last frame's time returns the last result; an earlier time restarts
                the filter.

        Returns:
            Smoothed values of the same shape.
        """
        c = self.config
        if self._state is None or time_s - self._state[0] > c.restart_s or time_s < self._state[0]:
            self._state = time_s, values, torch.zeros_like(values)
            return values
        last_s, smooth, speed = self._state
        elapsed_s = time_s - last_s
        if elapsed_s <= 0:
            return smooth
        speed = torch.lerp(speed, (values - smooth) / elapsed_s, _new_share(c.speed_cutoff_hz, elapsed_s))
        cutoff = c.min_cutoff_hz + c.beta * speed.abs()
        phase = 2 * math.pi * elapsed_s * cutoff
        smooth = torch.lerp(smooth, values, phase / (phase + 1))
        self._state = time_s, smooth, speed
        return smooth


def _new_share(cutoff_hz: float, elapsed_s: float) -> float:
    """Return the weight of a new value in a first-order low-pass filter, ``elapsed_s`` after the last one."""
    phase = 2 * math.pi * cutoff_hz * elapsed_s
    return phase / (phase + 1)


def smooth_parameters(smoother: OneEuro, parameters: DrivingParameters, time_s: float) -> DrivingParameters:
    """Filter expression, joint rotations and pose with one filter, as their values are of similar size (about one).

    Args:
        smoother: The filter of this stream.
        parameters: Parameters of one frame, with any leading dimensions.
        time_s: Time of the frame, seconds.

    Returns:
        Smoothed parameters of the same shapes.
    """
    expression, rotations, pose = parameters
    flat = smoother(torch.cat((expression, rotations.flatten(-2), pose), -1), time_s)
    sizes = expression.shape[-1], rotations.shape[-2] * rotations.shape[-1], pose.shape[-1]
    expression, angles, pose = flat.split(sizes, -1)
    return DrivingParameters(expression, angles.unflatten(-1, rotations.shape[-2:]), pose)
