"""Random changes of a training sample: each picture's framing, and the light of the whole sample."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ffavatar_model.chances import FRAME
from ffavatar_model.config import require


@dataclass(frozen=True, kw_only=True, slots=True)
class Augment:
    """Largest changes; 0 switches one off. Drivers of known cameras keep their framing."""

    turn: float = 0.0
    """Degrees in the picture."""
    zoom: float = 0.0
    """Natural logarithm of the scale."""
    shift: float = 0.0
    """Share of the picture's width."""
    light: float = 0.0
    """Natural logarithm of the gain of each colour, the same for all pictures of a sample: one person in one light."""

    def __post_init__(self) -> None:
        for name in ("turn", "zoom", "shift", "light"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")

    @property
    def reframes(self) -> bool:
        """Pictures are turned, zoomed or shifted."""
        return bool(self.turn or self.zoom or self.shift)


def framing(config: Augment, chances: Tensor) -> Tensor:
    """(..., 2, 3) where each picture's new pixels come from, of (..., ``PER_PICTURE``) numbers."""
    turn, zoom, right, down = chances[..., FRAME].unbind(-1)
    shift = torch.stack((right, down), -1) * (2 * config.shift)
    return similarities(turn * math.radians(config.turn), zoom * config.zoom, shift)


def similarities(turn: Tensor, zoom: Tensor, shift: Tensor) -> Tensor:
    """(..., 2, 3) from (...) radians, (...) log scales and (..., 2) shifts in half picture widths."""
    cosine, sine = turn.cos() * zoom.exp(), turn.sin() * zoom.exp()
    linear = torch.stack((cosine, -sine, sine, cosine), -1).unflatten(-1, (2, 2))
    return torch.cat((linear, shift[..., None]), -1)


def reframe(pixels: Tensor, frames: Tensor) -> Tensor:
    """Pictures (N, C, H, W) seen through ``frames (N, 2, 3)``; what comes from outside is the nearest edge's."""
    grid = F.affine_grid(frames, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def reframe_points(points: Tensor, frames: Tensor) -> Tensor:
    """Points (..., P, 2) in picture widths after ``reframe`` with ``frames (..., 2, 3)``."""
    linear, shift = frames[..., :2], frames[..., None, :, 2]
    # Frames say where new pixels come from, points go the other way: a similarity's inverse is its transpose, scaled.
    back = linear / linear.square().sum((-2, -1), keepdim=True) * 2
    return ((2 * points - 1 - shift) @ back + 1) / 2


def gains(config: Augment, light: Tensor) -> Tensor:
    """(B, 3) factors of the colours, of (B, ``PER_PERSON``) numbers."""
    return (config.light * light[:, :1] + config.light / 3 * light[:, 1:]).exp()
