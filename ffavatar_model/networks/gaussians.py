"""Decoder from the features of head points to canonical Gaussians."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ffavatar_model.config import require

ATTRIBUTES = {"offset": 3, "scale": 3, "rotation": 4, "opacity": 1, "colour": 3}
"""Number of raw values of each attribute of a Gaussian, in their order."""
RAW_SIZE = sum(ATTRIBUTES.values())
"""Number of raw values of a Gaussian."""
OFFSET_UNIT = 0.02
"""Offset for a raw value of 1, metres."""
LIFTED = 4
"""Number of values appended to a point's feature: colour lifted from the sources (3), and visibility (1)."""


class CanonicalAvatar(NamedTuple):
    """Gaussians of B heads at rest, bound to the P points of a head model; metres, head axes."""

    offsets: Tensor
    """(B, P, 3) offsets from the head model's points, metres."""
    rotations: Tensor
    """(B, P, 4) unit quaternions w, x, y, z."""
    scales: Tensor
    """(B, P, 3) standard deviations along the rotated axes, metres."""
    opacities: Tensor
    """(B, P) 0 to 1."""
    colours: Tensor
    """(B, P, 3) RGB, 0 to 1."""
    shape: Tensor | None = None
    """(B, S) coefficients of the head model's shape directions; None for the mean head.

    Offsets are from the points of the head of this shape.
    """

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name, without ``shape`` if it is None."""
        return {name: value for name, value in self._asdict().items() if value is not None}


class GaussianHead(nn.Module):
    """A linear layer whose output is added to a learned mean head, followed by LAM's activations.

    The last ``LIFTED`` values of a feature are the colour of the point in the sources and its visibility; a learned
    gate mixes this colour with the predicted one. Offsets are limited by tanh. Scales are the local point spacing times
    exp of a raw value, clipped. Opacities and colours are sigmoids. ``mean_raw`` contains the raw values of the mean
    head, one row per point.
    """

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """Limits and initial values of the Gaussians."""

        offset_limit: float = 0.1
        """Largest offset in either direction along each axis, metres."""
        scale_limit: float = 0.01
        """Largest standard deviation, metres."""
        initial_scale: float = 0.6
        """Initial standard deviation, in spacings of the points."""
        initial_opacity: float = 0.1
        """Initial opacity, 0 to 1."""

        def __post_init__(self) -> None:
            require(0 < self.initial_opacity < 1, "initial_opacity", self.initial_opacity, "between 0 and 1")
            for name in ("offset_limit", "scale_limit", "initial_scale"):
                require(getattr(self, name) > 0, name, getattr(self, name), "more than 0")

    log_scale: Tensor

    def __init__(self, config: GaussianHead.Config, width: int, spacing: Tensor) -> None:
        """Build the layers.

        Args:
            config: Limits and initial values.
            width: Size of a point's feature, without the ``LIFTED`` values.
            spacing: (P,) mean distance of each point to its neighbours, metres.
        """
        super().__init__()
        self.config = config
        self.linear = nn.Linear(width + LIFTED, RAW_SIZE)
        self.gate = nn.Linear(width + LIFTED, 1)
        for layer in (self.linear, self.gate):
            nn.init.normal_(layer.weight, std=0.02 / width**0.5)
            nn.init.zeros_(layer.bias)
        nn.init.constant_(self.gate.bias, 2.0)
        self.mean_raw = nn.Parameter(torch.zeros(len(spacing), RAW_SIZE))
        self.register_buffer("log_scale", (config.initial_scale * spacing).log()[:, None], persistent=False)

    def raw(self, features: Tensor) -> Tensor:
        """Compute raw values (B, P, 14) from features (B, P, width + 4); personalization adds a term to them."""
        raw = self.linear(features).float() + self.mean_raw
        lifted, visibility = features[..., -LIFTED:].float().split((3, 1), -1)
        share = visibility * torch.sigmoid(self.gate(features).float())
        colour = torch.lerp(raw[..., -3:], torch.logit(lifted.clamp(0.02, 0.98)), share)
        return torch.cat((raw[..., :-3], colour), -1)

    def activate(self, raw: Tensor) -> CanonicalAvatar:
        """Convert raw values (B, P, 14) to Gaussians."""
        offset, scale, rotation, opacity, colour = raw.split(list(ATTRIBUTES.values()), -1)
        limit, opacity_0 = self.config.offset_limit, self.config.initial_opacity
        return CanonicalAvatar(
            offsets=limit * torch.tanh(offset * (OFFSET_UNIT / limit)),
            rotations=nn.functional.normalize(torch.cat((rotation[..., :1] + 1, rotation[..., 1:]), -1), dim=-1),
            scales=(scale + self.log_scale).clamp(-12.0, math.log(self.config.scale_limit)).exp(),
            opacities=torch.sigmoid(opacity[..., 0] + math.log(opacity_0 / (1 - opacity_0))),
            colours=torch.sigmoid(colour),
        )

    def forward(self, features: Tensor) -> CanonicalAvatar:
        """Decode features (B, P, width + 4) to canonical Gaussians of B heads."""
        return self.activate(self.raw(features))
