"""Decoder of head points' features into canonical Gaussians."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ffavatar_model.config import require

ATTRIBUTES = {"offset": 3, "scale": 3, "rotation": 4, "opacity": 1, "colour": 3}
"""Number of raw values of each attribute of a Gaussian, in this order."""
RAW_SIZE = sum(ATTRIBUTES.values())
OFFSET_UNIT = 0.02
"""Metres per raw unit of an offset."""
LIFTED = 4
"""Number of values at the end of a feature: colour lifted from the sources (3), how well it was seen (1)."""


class CanonicalAvatar(NamedTuple):
    """Gaussians of B heads at rest, bound to the P points of a head model; metres, head axes."""

    offsets: Tensor
    """(B, P, 3) offsets from the head model's points."""
    rotations: Tensor
    """(B, P, 4) unit quaternions w, x, y, z."""
    scales: Tensor
    """(B, P, 3) standard deviations along the rotated axes."""
    opacities: Tensor
    """(B, P) 0 to 1."""
    colours: Tensor
    """(B, P, 3) RGB, 0 to 1."""
    shape: Tensor | None = None
    """(B, S) coefficients of the head model's shape directions; offsets are from the points of that shaped head. None
    is the mean head."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name; ``shape`` only where there is one."""
        return {name: value for name, value in self._asdict().items() if value is not None}


class GaussianHead(nn.Module):
    """A linear layer and LAM's activations, around a learned mean head.

    A feature ends with the colour that the sources show at the point and how well it was seen (``LIFTED`` values): a
    learned gate mixes that colour with the predicted one. Offsets are limited by tanh. Scales are exp of a raw value
    around the local point spacing, clipped. Opacity and colour are sigmoids. ``mean_raw`` holds raw values of the
    average head, one row a point.
    """

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """Limits and starting values."""

        offset_limit: float = 0.1
        """Metres, either way along each axis."""
        scale_limit: float = 0.01
        """Metres; the largest standard deviation."""
        initial_scale: float = 0.6
        """Standard deviation at the start, in spacings of the points."""
        initial_opacity: float = 0.1

        def __post_init__(self) -> None:
            require(0 < self.initial_opacity < 1, "initial_opacity", self.initial_opacity, "between 0 and 1")
            for name in ("offset_limit", "scale_limit", "initial_scale"):
                require(getattr(self, name) > 0, name, getattr(self, name), "more than 0")

    log_scale: Tensor

    def __init__(self, config: GaussianHead.Config, width: int, spacing: Tensor) -> None:
        """Build the layers.

        Args:
            config: Limits and starting values.
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
        """Return raw values (B, P, 14) of features (B, P, width + 4); personalization adds to these."""
        raw = self.linear(features).float() + self.mean_raw
        lifted, visibility = features[..., -LIFTED:].float().split((3, 1), -1)
        share = visibility * torch.sigmoid(self.gate(features).float())
        colour = torch.lerp(raw[..., -3:], torch.logit(lifted.clamp(0.02, 0.98)), share)
        return torch.cat((raw[..., :-3], colour), -1)

    def activate(self, raw: Tensor) -> CanonicalAvatar:
        """Turn raw values (B, P, 14) into Gaussians; an offset of one raw unit is ``OFFSET_UNIT``."""
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
        """Decode features (B, P, width + 4) into canonical Gaussians of B heads."""
        return self.activate(self.raw(features))
