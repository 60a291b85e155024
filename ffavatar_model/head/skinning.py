"""Rotations and linear blend skinning: plain functions on tensors, batch first, differentiable."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

_CROSS = ((0, 2, 1, 2, 0, 0, 1, 0, 0), (0, -1, 1, 1, 0, -1, -1, 1, 0))
"""v → the matrix of v ×, row by row: which entry of v, times what."""
_PRODUCT = (
    (0, 1, 2, 3, 1, 0, 3, 2, 2, 3, 0, 1, 3, 2, 1, 0),
    (1, -1, -1, -1, 1, 1, -1, 1, 1, 1, 1, -1, 1, -1, 1, 1),
)
"""q → the matrix whose product with a quaternion is q times it (Hamilton)."""


@cache
def _constants(entries: tuple[tuple[int, ...], ...], device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):  # they are also used where gradients are wanted
        return torch.tensor(entries[0], device=device), torch.tensor(entries[1], device=device, dtype=dtype)


def arranged(vectors: Tensor, entries: tuple[tuple[int, ...], ...], side: int) -> Tensor:
    """(..., side, side) matrices whose entries are those of vectors: which, times what. Two kernels in all."""
    index, sign = _constants(entries, vectors.device, vectors.dtype)
    return (vectors.index_select(-1, index) * sign).unflatten(-1, (side, side))


def _angle(vectors: Tensor) -> Tensor:
    """Angle (..., 1) of axis-angle vectors; its gradient is finite at zero."""
    return (vectors * vectors).sum(-1, keepdim=True).clamp_min(1e-12).sqrt()


def axis_angle_to_matrix(vectors: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of axis-angle vectors (..., 3), radians.

    Rodrigues' formula, I + sinc(θ) K + ½ sinc²(θ/2) K² with K = v × and sinc(x) = sin(x)/x, right at zero too.
    """
    angle = _angle(vectors)[..., None]
    cross = arranged(vectors, _CROSS, 3)
    half = torch.sinc(angle / (2 * math.pi))
    identity = torch.eye(3, dtype=vectors.dtype, device=vectors.device)
    return identity + torch.sinc(angle / math.pi) * cross + 0.5 * half * half * (cross @ cross)


def axis_angle_to_quaternion(vectors: Tensor) -> Tensor:
    """Unit quaternions (..., 4), order w x y z, of axis-angle vectors (..., 3), radians."""
    half = 0.5 * _angle(vectors)
    return torch.cat([half.cos(), 0.5 * torch.sinc(half / math.pi) * vectors], -1)


def multiply_quaternions(left: Tensor, right: Tensor) -> Tensor:
    """Hamilton product (..., 4) of quaternions w x y z: first ``right``'s rotation, then ``left``'s."""
    return (arranged(left, _PRODUCT, 4) * right[..., None, :]).sum(-1)


def _levels(parents: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Joints that lie equally deep, with their parents: each level can be posed at once."""
    depth: list[int] = []
    for parent in parents:
        depth.append(0 if parent < 0 else depth[parent] + 1)
    levels = [[j for j, d in enumerate(depth) if d == level] for level in range(max(depth) + 1)]
    return [(joints, [parents[j] for j in joints]) for joints in levels]


def _pick(values: Tensor, joints: list[int]) -> Tensor:
    return torch.stack([values[:, j] for j in joints], 1)


def joint_transforms(rotations: Tensor, joints: Tensor, parents: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Rest-to-posed transforms of a chain of joints.

    Args:
        rotations: (B, J, 3, 3) rotation of each joint relative to its parent.
        joints: (B, J, 3) rest positions.
        parents: parent of each joint, -1 for a root; a parent comes before its children.

    Returns:
        (B, J, 3, 4) transforms that take a point fixed to the joint from rest to posed, and the posed
        joint positions (B, J, 3).
    """
    world_rotation: dict[int, Tensor] = {}
    world_position: dict[int, Tensor] = {}
    for level, above in _levels(parents):
        turn, place = _pick(rotations, level), _pick(joints, level)
        if above[0] >= 0:
            parent_turn = torch.stack([world_rotation[j] for j in above], 1)
            parent_place = torch.stack([world_position[j] for j in above], 1)
            bone = (place - _pick(joints, above))[..., None]
            turn, place = parent_turn @ turn, parent_place + (parent_turn @ bone)[..., 0]
        world_rotation |= zip(level, turn.unbind(1), strict=True)
        world_position |= zip(level, place.unbind(1), strict=True)
    order = range(len(parents))
    rotation = torch.stack([world_rotation[j] for j in order], 1)
    position = torch.stack([world_position[j] for j in order], 1)
    offset = position - (rotation @ joints[..., None])[..., 0]
    return torch.cat([rotation, offset[..., None]], -1), position


def joint_quaternions(rotations: Tensor, parents: tuple[int, ...]) -> Tensor:
    """World rotations (B, J, 4), w x y z, of a chain of joints from relative axis-angle vectors (B, J, 3)."""
    relative = axis_angle_to_quaternion(rotations)
    world: dict[int, Tensor] = {}
    for level, above in _levels(parents):
        turn = _pick(relative, level)
        if above[0] >= 0:
            turn = multiply_quaternions(torch.stack([world[j] for j in above], 1), turn)
        world |= zip(level, turn.unbind(1), strict=True)
    return torch.stack([world[j] for j in range(len(parents))], 1)


def blend_transforms(weights: Tensor, transforms: Tensor) -> Tensor:
    """Per-point transforms (B, N, 3, 4) from weights (N, J) and joints' transforms (B, J, 3, 4)."""
    return (weights @ transforms.flatten(2)).unflatten(-1, (3, 4))


def blend_quaternions(weights: Tensor, quaternions: Tensor) -> Tensor:
    """Per-point unit quaternions (B, N, 4), w x y z, from weights (N, J) and joints' quaternions (B, J, 4).

    The normalised weighted mean, signs aligned to the first joint: rotations that Gaussians can follow
    (the matrices of ``blend_transforms`` shear between joints).
    """
    sign = torch.where((quaternions * quaternions[:, :1]).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    return torch.nn.functional.normalize(weights @ (quaternions * sign.to(quaternions)), dim=-1)


def apply_transforms(transforms: Tensor, points: Tensor) -> Tensor:
    """Points (..., 3) under transforms (..., 3, 4)."""
    return (transforms[..., :3] @ points[..., None])[..., 0] + transforms[..., 3]


def linear_blend_skinning(points: Tensor, weights: Tensor, transforms: Tensor) -> Tensor:
    """Rest points (B, N, 3) posed by joints' transforms (B, J, 3, 4) under weights (N, J)."""
    return apply_transforms(blend_transforms(weights, transforms), points)
