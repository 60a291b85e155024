"""Rotations and linear blend skinning: differentiable functions on tensors whose first dimensions are the batch."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

_CROSS = ((0, 2, 1, 2, 0, 0, 1, 0, 0), (0, -1, 1, 1, 0, -1, -1, 1, 0))
"""Entries of the matrix [v]× (the cross product with a vector v), row by row; see ``signed_matrix``."""
_PRODUCT = (
    (0, 1, 2, 3, 1, 0, 3, 2, 2, 3, 0, 1, 3, 2, 1, 0),
    (1, -1, -1, -1, 1, 1, -1, 1, 1, 1, 1, -1, 1, -1, 1, 1),
)
"""Entries of the matrix M(q) for which M(q) r is the Hamilton product of quaternions q and r; see ``signed_matrix``."""


@cache
def _constants(entries: tuple[tuple[int, ...], ...], device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):  # they are cached, and later used where gradients are needed
        return torch.tensor(entries[0], device=device), torch.tensor(entries[1], device=device, dtype=dtype)


def signed_matrix(vectors: Tensor, entries: tuple[tuple[int, ...], ...], side: int) -> Tensor:
    """Build square matrices whose entries are entries of vectors times factors, in two CUDA kernels.

    Args:
        vectors: (..., N).
        entries: Two tuples of side² values, row by row: the index into the vector, and the factor.
        side: Number of rows of the matrix.

    Returns:
        (..., side, side).
    """
    index, sign = _constants(entries, vectors.device, vectors.dtype)
    return (vectors.index_select(-1, index) * sign).unflatten(-1, (side, side))


def _angle(vectors: Tensor) -> Tensor:
    """Return the angle (..., 1) of axis-angle vectors (..., 3); its gradient is finite at zero."""
    return (vectors * vectors).sum(-1, keepdim=True).clamp_min(1e-12).sqrt()


def axis_angle_to_matrix(vectors: Tensor) -> Tensor:
    """Convert axis-angle vectors (..., 3), radians, to rotation matrices (..., 3, 3).

    The formula is Rodrigues': I + sinc(θ) K + ½ sinc²(θ/2) K² with K = [v]× and sinc(x) = sin(x)/x. It is also exact at
    zero.
    """
    angle = _angle(vectors)[..., None]
    cross = signed_matrix(vectors, _CROSS, 3)
    half = torch.sinc(angle / (2 * math.pi))
    identity = torch.eye(3, dtype=vectors.dtype, device=vectors.device)
    return identity + torch.sinc(angle / math.pi) * cross + 0.5 * half * half * (cross @ cross)


def axis_angle_to_quaternion(vectors: Tensor) -> Tensor:
    """Convert axis-angle vectors (..., 3), radians, to unit quaternions (..., 4), w x y z."""
    half = 0.5 * _angle(vectors)
    return torch.cat([half.cos(), 0.5 * torch.sinc(half / math.pi) * vectors], -1)


def multiply_quaternions(left: Tensor, right: Tensor) -> Tensor:
    """Return the Hamilton product (..., 4) of quaternions, w x y z: it rotates by ``right`` first, then by ``left``."""
    return (signed_matrix(left, _PRODUCT, 4) * right[..., None, :]).sum(-1)


def _levels(parents: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Return (joints, their parents) for each depth in the tree; joints of equal depth are posed together."""
    depth: list[int] = []
    for parent in parents:
        depth.append(0 if parent < 0 else depth[parent] + 1)
    levels = [[j for j, d in enumerate(depth) if d == level] for level in range(max(depth) + 1)]
    return [(joints, [parents[j] for j in joints]) for joints in levels]


def _pick(values: Tensor, joints: list[int]) -> Tensor:
    return torch.stack([values[:, j] for j in joints], 1)


def joint_transforms(rotations: Tensor, joints: Tensor, parents: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Compute the transforms of a tree of joints from rest to posed.

    Args:
        rotations: (B, J, 3, 3) rotation of each joint relative to its parent.
        joints: (B, J, 3) positions at rest.
        parents: Index of each joint's parent, -1 for a root; a parent comes before its children.

    Returns:
        Transforms (B, J, 3, 4), from rest to posed, of points fixed to each joint, and posed joint positions (B, J, 3).
    """
    world_rotation: dict[int, Tensor] = {}
    world_position: dict[int, Tensor] = {}
    for level, above in _levels(parents):
        rotation, position = _pick(rotations, level), _pick(joints, level)
        if above[0] >= 0:
            parent_rotation = torch.stack([world_rotation[j] for j in above], 1)
            parent_position = torch.stack([world_position[j] for j in above], 1)
            bone = (position - _pick(joints, above))[..., None]
            rotation, position = parent_rotation @ rotation, parent_position + (parent_rotation @ bone)[..., 0]
        world_rotation |= zip(level, rotation.unbind(1), strict=True)
        world_position |= zip(level, position.unbind(1), strict=True)
    order = range(len(parents))
    rotation = torch.stack([world_rotation[j] for j in order], 1)
    position = torch.stack([world_position[j] for j in order], 1)
    offset = position - (rotation @ joints[..., None])[..., 0]
    return torch.cat([rotation, offset[..., None]], -1), position


def joint_quaternions(rotations: Tensor, parents: tuple[int, ...]) -> Tensor:
    """Compute the rotations of a tree of joints relative to the world.

    Args:
        rotations: (B, J, 3) axis-angle vectors, radians, each relative to the joint's parent.
        parents: Index of each joint's parent, -1 for a root; a parent comes before its children.

    Returns:
        Quaternions (B, J, 4), w x y z.
    """
    relative = axis_angle_to_quaternion(rotations)
    world: dict[int, Tensor] = {}
    for level, above in _levels(parents):
        rotation = _pick(relative, level)
        if above[0] >= 0:
            rotation = multiply_quaternions(torch.stack([world[j] for j in above], 1), rotation)
        world |= zip(level, rotation.unbind(1), strict=True)
    return torch.stack([world[j] for j in range(len(parents))], 1)


def blend_transforms(weights: Tensor, transforms: Tensor) -> Tensor:
    """Blend joint transforms (B, J, 3, 4) by weights (N, J) into one transform per point, (B, N, 3, 4)."""
    return (weights @ transforms.flatten(2)).unflatten(-1, (3, 4))


def blend_quaternions(weights: Tensor, quaternions: Tensor) -> Tensor:
    """Blend joint rotations by weights into one rotation per point.

    The result is the normalised weighted mean of quaternions whose signs are aligned with the first joint's. Gaussians
    need proper rotations; the matrices of ``blend_transforms`` contain shear between joints.

    Args:
        weights: (N, J) skinning weights.
        quaternions: (B, J, 4) w x y z.

    Returns:
        Unit quaternions (B, N, 4), w x y z.
    """
    sign = torch.where((quaternions * quaternions[:, :1]).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    return torch.nn.functional.normalize(weights @ (quaternions * sign.to(quaternions)), dim=-1)


def apply_transforms(transforms: Tensor, points: Tensor) -> Tensor:
    """Apply transforms (..., 3, 4) to points (..., 3)."""
    return (transforms[..., :3] @ points[..., None])[..., 0] + transforms[..., 3]


def linear_blend_skinning(points: Tensor, weights: Tensor, transforms: Tensor) -> Tensor:
    """Pose points by linear blend skinning.

    Args:
        points: (B, N, 3) points at rest.
        weights: (N, J) skinning weights.
        transforms: (B, J, 3, 4) transforms of the joints, from rest to posed.

    Returns:
        (B, N, 3) posed points.
    """
    return apply_transforms(blend_transforms(weights, transforms), points)
