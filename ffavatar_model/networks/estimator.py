"""Driver picture → expression, joint rotations and head pose, learned end to end from pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ffavatar_model.camera import POSE_SIZE
from ffavatar_model.config import require
from ffavatar_model.networks.backbone import Backbone


class DrivingParameters(NamedTuple):
    """What moves a head; any leading dimensions."""

    expression: Tensor
    """(..., E) coefficients of the head model's expression directions."""
    rotations: Tensor
    """(..., 5, 3) root (zero: the pose turns the head), neck, jaw, left and right eye; axis-angle, radians."""
    pose: Tensor
    """(..., 9) where and how the head appears: see ``ffavatar_model.camera``."""


class Estimator(nn.Module):
    """A ViT on an aligned crop; mean-pooled tokens; a linear layer that starts at zero.

    Untrained, it puts a neutral head, looking straight out, where an aligned crop has it.
    """

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """Backbone, and limits of what it may say."""

        backbone: Backbone.Config = field(default_factory=Backbone.Config)
        n_expression: int = 100
        """Most expression coefficients; the head model may have fewer."""
        expression_limit: float = 4.0
        neck_limit: float = 0.3
        """Radians. Small: turning the neck and turning the head look nearly alike."""
        jaw_limit: float = 0.6
        eye_limit: float = 0.6
        gain: float = 0.1
        """Of the last layer's output: Adam moves its weights by about the learning rate, whatever the gradient."""

        def __post_init__(self) -> None:
            for name in ("expression_limit", "neck_limit", "jaw_limit", "eye_limit", "gain"):
                require(getattr(self, name) > 0, name, getattr(self, name), "more than 0")

    start: Tensor

    def __init__(self, config: Estimator.Config, n_expression: int, start: Tensor) -> None:
        """``start (9,)``: the pose that the untrained estimator gives (``camera.aligned_pose``)."""
        super().__init__()
        self.config = config
        self.n_expression = min(config.n_expression, n_expression)
        self.backbone = Backbone(config.backbone)
        self.head = nn.Linear(2 * config.backbone.width, self.n_expression + 12 + POSE_SIZE)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        side = self.backbone.side
        self.pool = nn.Linear(config.backbone.width, 8)
        self.places = nn.Linear(8 * side**2, config.backbone.width)
        self.register_buffer("start", start.clone(), persistent=False)

    def raw(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) aligned crops, RGB in 0 to 1 → (N, n_expression + 21) unlimited values."""
        (tokens,) = self.backbone(images)
        # The mean says what is there; a few channels kept at their place say where: a mean alone forgets it.
        where = self.places(self.pool(tokens).flatten(1))
        return self.config.gain * self.head(torch.cat((tokens.mean(1), where), -1)).float()

    def limit(self, raw: Tensor) -> DrivingParameters:
        """(..., n_expression + 21) → parameters within the configured limits."""
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
        """(..., 3, H, W) aligned crops → parameters with the same leading dimensions."""
        leading = images.shape[:-3]
        return self.limit(self.raw(images.flatten(0, -4)).unflatten(0, leading))
