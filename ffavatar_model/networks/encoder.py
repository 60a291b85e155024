"""Encoder of source images to tokens: a backbone of any size, of which several layers are fused."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ffavatar_model.config import require
from ffavatar_model.networks.backbone import Backbone, grid_centres


class ImageEncoder(nn.Module):
    """An encoder of single images; an image's tokens do not depend on the other images of the person."""

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """Settings of the encoder: a backbone, and the numbers of its layers to fuse (0 is the patch embedding)."""

        backbone: Backbone.Config = field(default_factory=Backbone.Config)
        layers: tuple[int, ...] = (0, 4)

        def __post_init__(self) -> None:
            depth = self.backbone.depth
            require(
                bool(self.layers) and all(0 <= i <= depth for i in self.layers),
                "layers",
                self.layers,
                f"numbers from 0 to depth={depth}",
            )

    positions: Tensor
    """(T, 2) position of each token in its image, -1 to 1."""

    def __init__(self, config: ImageEncoder.Config) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config.backbone)
        width = config.backbone.width
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in config.layers)
        self.fuse = nn.Linear(width * len(config.layers), width)
        self.register_buffer("positions", grid_centres(self.backbone.side), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Encode images (N, 3, H, W), RGB in 0 to 1, as tokens (N, T, width)."""
        states = self.backbone(images, self.config.layers)
        return self.fuse(torch.cat([norm(state) for norm, state in zip(self.norms, states, strict=True)], -1))
