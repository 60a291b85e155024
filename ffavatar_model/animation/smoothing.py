"""A one-euro filter for driving parameters: steady when the head is still, quick when it moves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ffavatar_model.config import require
from ffavatar_model.networks.estimator import DrivingParameters


class OneEuro:
    """Casiez, Roussel and Vogel, "1€ Filter" (CHI 2012): a low pass whose cutoff grows with the speed.

    One filter for one stream; every channel is filtered for itself.
    """

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """Less ``min_cutoff_hz`` means less trembling, more ``beta`` means less lag."""

        min_cutoff_hz: float = 1.5
        beta: float = 4.0
        """Hz for each unit a second that a channel moves."""
        speed_cutoff_hz: float = 1.0
        restart_s: float = 0.5
        """After a pause this long the filter begins anew."""

        def __post_init__(self) -> None:
            for name in ("min_cutoff_hz", "speed_cutoff_hz", "restart_s"):
                require(getattr(self, name) > 0, name, getattr(self, name), "more than 0")
            require(self.beta >= 0, "beta", self.beta, "0 or more")

    def __init__(self, config: OneEuro.Config | None = None) -> None:
        self.config = config or OneEuro.Config()
        self._before: tuple[float, Tensor, Tensor] | None = None

    def __call__(self, values: Tensor, time_s: float) -> Tensor:
        """Values of any shape, seen at ``time_s`` → the same, smoothed. Time runs forward; equal times are one moment.

        The first values come out as they are.
        """
        c = self.config
        if self._before is None or time_s - self._before[0] > c.restart_s or time_s < self._before[0]:
            self._before = time_s, values, torch.zeros_like(values)
            return values
        then, smooth, speed = self._before
        passed = time_s - then
        if passed <= 0:
            return smooth
        speed = torch.lerp(speed, (values - smooth) / passed, _share(c.speed_cutoff_hz, passed))
        cutoff = c.min_cutoff_hz + c.beta * speed.abs()
        turn = 2 * math.pi * passed * cutoff
        smooth = torch.lerp(smooth, values, turn / (turn + 1))
        self._before = time_s, smooth, speed
        return smooth


def _share(cutoff_hz: float, passed_s: float) -> float:
    """How much of a new value a first-order low pass takes after ``passed_s``."""
    turn = 2 * math.pi * cutoff_hz * passed_s
    return turn / (turn + 1)


def smooth_parameters(filtered: OneEuro, parameters: DrivingParameters, time_s: float) -> DrivingParameters:
    """Expression, joint rotations and pose through one filter: their units are all of order one."""
    expression, rotations, pose = parameters
    flat = filtered(torch.cat((expression, rotations.flatten(-2), pose), -1), time_s)
    sizes = expression.shape[-1], rotations.shape[-2] * rotations.shape[-1], pose.shape[-1]
    expression, turns, pose = flat.split(sizes, -1)
    return DrivingParameters(expression, turns.unflatten(-1, rotations.shape[-2:]), pose)
