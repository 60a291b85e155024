"""Estimator of expression, joint rotations and head pose from a driver image, trained end to end from pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ffavatar_model.camera import POSE_SIZE
from ffavatar_model.config import require
from ffavatar_model.networks.backbone import Backbone

_OUTLINE_PX = 64
FACE_CENTRE = (0.5, 0.64)
"""Centre of the face in an aligned crop, as shares of its side: right and down."""


class DrivingParameters(NamedTuple):
    """Parameters that pose a head, with any leading dimensions."""

    expression: Tensor
    """(..., E) coefficients of the head model's expression directions."""
    rotations: Tensor
    """(..., 5, 3) axis-angle of root (zero: ``pose`` rotates the head), neck, jaw, left and right eye, radians."""
    pose: Tensor
    """(..., 9) position, scale and orientation of the head in the image: see ``ffavatar_model.camera``."""


class Estimator(nn.Module):
    """A ViT on an aligned crop, whose pooled tokens go through a linear layer that is initialised with zeros.

    The untrained estimator returns a neutral head that looks straight out of the crop.
    """

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """Settings of the estimator: its backbone, and limits of the estimated values."""

        backbone: Backbone.Config = field(default_factory=Backbone.Config)
        n_expression: int = 100
        """Upper bound on the number of expression coefficients; the head model may have fewer."""
        expression_limit: float = 4.0
        """Largest absolute value of an expression coefficient."""
        crop: float = 1.0
        """Side of the part of an aligned crop that the estimator sees, as a share of its side: 0.61 shows eyes at a
        distance of 0.36 of the part's side. Estimated poses are those in the complete crop."""
        outline: int = 0
        """Channels of a small network that sees the complete crop at 64 pixels, and so the head's outline, which a
        smaller ``crop`` cuts off; 0 leaves it out."""
        neck_limit: float = 0.3
        """Largest entry of the neck's axis-angle vector, radians; small, as rotations of neck and head look alike."""
        jaw_limit: float = 0.6
        """Largest entry of the jaw's axis-angle vector, radians."""
        eye_limit: float = 0.6
        """Largest entry of an eye's axis-angle vector, radians."""
        gain: float = 0.1
        """Factor of the last layer's output; it slows that layer, as Adam's steps ignore the gradient's size."""

        def __post_init__(self) -> None:
            for name in ("expression_limit", "neck_limit", "jaw_limit", "eye_limit", "gain"):
                require(getattr(self, name) > 0, name, getattr(self, name), "more than 0")
            require(0 < self.crop <= 1, "crop", self.crop, "above 0, at most 1")
            require(self.outline >= 0, "outline", self.outline, "0 or more")

    start: Tensor

    def __init__(self, config: Estimator.Config, n_expression: int, start: Tensor) -> None:
        """Build the estimator.

        Args:
            config: Backbone and limits.
            n_expression: Number of the head model's expression coefficients.
            start: (9,) pose that the untrained estimator returns (``camera.aligned_pose``).
        """
        super().__init__()
        self.config = config
        self.n_expression = min(config.n_expression, n_expression)
        self.backbone = Backbone(config.backbone)
        self.outline = OutlineNetwork(config.outline) if config.outline else None
        self.head = nn.Linear(2 * config.backbone.width + config.outline, self.n_expression + 12 + POSE_SIZE)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        side = self.backbone.side
        self.pool = nn.Linear(config.backbone.width, 8)
        self.places = nn.Linear(8 * side**2, config.backbone.width)
        self.register_buffer("start", start.clone(), persistent=False)

    def raw(self, images: Tensor) -> Tensor:
        """Compute values without limits (N, n_expression + 21) from aligned crops (N, 3, H, W), RGB in 0 to 1."""
        (tokens,) = self.backbone(crop_face(images, self.config.crop))
        # The mean of the tokens has no information on their positions; a few channels of each token add it.
        layout = self.places(self.pool(tokens).flatten(1))
        features = [tokens.mean(1), layout]
        if self.outline is not None:
            features.append(self.outline(images))
        return self.config.gain * self.head(torch.cat(features, -1)).float()

    def limit(self, raw: Tensor) -> DrivingParameters:
        """Convert values without limits (..., n_expression + 21) to parameters within the configured limits."""
        c = self.config
        expression, neck, jaw, eyes, pose = raw.split((self.n_expression, 3, 3, 6, POSE_SIZE), -1)
        joints = (neck, c.neck_limit), (jaw, c.jaw_limit), (eyes[..., :3], c.eye_limit), (eyes[..., 3:], c.eye_limit)
        rotations = [limit * torch.tanh(value / limit) for value, limit in joints]
        return DrivingParameters(
            expression=c.expression_limit * torch.tanh(expression / c.expression_limit),
            rotations=torch.stack((torch.zeros_like(neck), *rotations), -2),
            pose=self.start + pose,
        )

    def forward(self, images: Tensor) -> DrivingParameters:
        """Estimate parameters from aligned crops (..., 3, H, W), with the same leading dimensions."""
        leading = images.shape[:-3]
        return self.limit(self.raw(images.flatten(0, -4)).unflatten(0, leading))


class OutlineNetwork(nn.Sequential):
    """Four convolutions of stride 2 and a linear layer, on images of 64 x 64 pixels: (N, 3, H, W) to (N, channels)."""

    def __init__(self, channels: int) -> None:
        """Build the network with ``channels`` outputs."""
        widths = (3, 16, 32, 64, 64)
        layers: list[nn.Module] = [nn.AdaptiveAvgPool2d(_OUTLINE_PX)]
        for inner, outer in pairwise(widths):
            layers += [nn.Conv2d(inner, outer, 3, 2, 1), nn.GELU()]
        super().__init__(*layers, nn.Flatten(), nn.Linear(widths[-1] * (_OUTLINE_PX // 16) ** 2, channels))


def crop_face(images: Tensor, share: float) -> Tensor:
    """Cut a square around the face out of aligned crops.

    Args:
        images: (..., H, W) aligned crops, square.
        share: Side of the square, as a share of the side of the crops; 1 returns the crops.

    Returns:
        (..., S, S), whole pixels of the crops.
    """
    if share == 1:
        return images
    full = images.shape[-1]
    side = round(share * full)
    left, top = (min(max(0, round(at * full - side / 2)), full - side) for at in FACE_CENTRE)
    return images[..., top : top + side, left : left + side]
