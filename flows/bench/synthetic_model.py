"""Stand-ins for timing: a head of FLAME's size that needs no FLAME file, and Gaussians of a trained model's sizes."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.spatial import ConvexHull
from torch import Tensor

from ffavatar_model.head import N_JOINTS, HeadModel
from ffavatar_model.networks.gaussians import ATTRIBUTES, CanonicalAvatar, GaussianHead

N_VERTICES, N_TRIANGLES, N_SHAPE, N_EXPRESSION = 5023, 9976, 300, 100
"""Numbers of vertices, triangles, shape and expression directions of FLAME (Li et al. 2017)."""

OPACITY = (0.088, 0.679, 0.771, 0.800, 0.801, 0.810, 0.835, 0.866, 0.898, 0.934, 0.999)
SCALE = (0.044, 0.311, 0.415, 0.491, 0.501, 0.509, 0.550, 0.645, 0.754, 0.898, 4.089)
"""Deciles (minimum to maximum) of opacity, and of scale in units of the Gaussians' spacing.

They are those of the learned mean head of a small model trained on rendered people (docs/experiments.md)."""


def stand_in_head() -> HeadModel:
    """Build an egg that is open at the neck, with as many vertices, triangles, joints and directions as FLAME has.

    The directions are random.
    """
    k = torch.arange(N_VERTICES) + 0.5
    polar, turn = torch.arccos(1 - 2 * k / N_VERTICES), torch.pi * (1 + 5**0.5) * k
    ball = torch.stack((polar.sin() * turn.cos(), polar.cos(), polar.sin() * turn.sin()), -1)
    template = ball * torch.tensor([0.075, 0.12, 0.095]) + torch.tensor([0.0, -0.02, -0.07])
    hull = torch.from_numpy(ConvexHull(ball.double().numpy()).simplices).long()
    a, b, c = ball[hull].unbind(1)
    inward = (torch.linalg.cross(b - a, c - a) * a).sum(-1) < 0
    hull[inward] = hull[inward].flip(1)
    height = template[hull][..., 1].mean(1)
    triangles = hull[height.argsort(descending=True)[:N_TRIANGLES]]
    random = torch.Generator().manual_seed(0)
    regressor = torch.zeros(N_JOINTS, N_VERTICES)
    joints = torch.tensor(
        [[0.0, -0.12, -0.08], [0.0, -0.1, -0.08], [0.0, -0.04, -0.06], [0.032, 0.0, 0.0], [-0.032, 0.0, 0.0]]
    )
    nearest = torch.cdist(joints, template).topk(8, largest=False).indices
    regressor.scatter_(1, nearest, 1 / 8)
    weights = torch.softmax(-torch.cdist(template, joints) / 0.02, -1)
    return HeadModel(
        name="stand-in",
        template=template,
        shape_directions=1e-3 * torch.randn(N_VERTICES, 3, N_SHAPE, generator=random),
        expression_directions=1e-3 * torch.randn(N_VERTICES, 3, N_EXPRESSION, generator=random),
        pose_correctives=1e-3 * torch.randn(N_VERTICES, 3, 9 * (N_JOINTS - 1), generator=random),
        joint_regressor=regressor,
        skinning_weights=weights,
        triangles=triangles,
        uvs=torch.zeros(0, 2),
        uv_triangles=torch.zeros(0, 3, dtype=torch.int64),
        landmark_index=torch.zeros(0, dtype=torch.int64),
        landmark_triangles=torch.zeros(0, dtype=torch.int64),
        landmark_barycentric=torch.zeros(0, 3),
        regions=torch.zeros(N_VERTICES, 0),
        action_expression=torch.zeros(0, N_EXPRESSION),
        action_rotations=torch.zeros(0, N_JOINTS, 3),
    )


def set_trained_sizes(head: GaussianHead) -> None:
    """Set the opacities and scales of a model's mean head, in place, to values drawn from a trained model's."""
    random, n = np.random.default_rng(0), len(head.mean_raw)
    opacity, scale = _draw(OPACITY, (n, 1), random), _draw(SCALE, (n, 3), random)
    config = head.config
    raw = {
        "opacity": torch.logit(opacity, 1e-4) - math.log(config.initial_opacity / (1 - config.initial_opacity)),
        "scale": (scale / config.initial_scale).log(),
    }
    with torch.no_grad():
        for name, value in zip(ATTRIBUTES, head.mean_raw.split(list(ATTRIBUTES.values()), -1), strict=True):
            if name in raw:
                value.copy_(raw[name])


def _draw(quantiles: tuple[float, ...], shape: tuple[int, ...], random: np.random.Generator) -> Tensor:
    levels = np.linspace(0, 1, len(quantiles))
    return torch.from_numpy(np.interp(random.random(shape), levels, quantiles)).float()


def with_trained_sizes(avatar: CanonicalAvatar, spacing: Tensor) -> CanonicalAvatar:
    """Replace an avatar's opacities and scales by values drawn from a trained model's.

    The rasterizer's speed depends on opacities and scales, and those of random weights are not typical.

    Args:
        avatar: The avatar.
        spacing: (N,) distance of each Gaussian to its neighbours, the unit of ``SCALE``.
    """
    random = np.random.default_rng(0)
    return avatar._replace(
        opacities=_draw(OPACITY, avatar.opacities.shape, random).to(spacing),
        scales=_draw(SCALE, avatar.scales.shape, random).to(spacing) * spacing[:, None],
    )
