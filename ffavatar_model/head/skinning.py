"""Rotations and linear blend skinning: plain functions on tensors, batch first, differentiable."""

from __future__ import annotations

import torch
from torch import Tensor


def _safe_angle(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Squared angle and angle (..., 1) of axis-angle vectors; the angle's gradient is finite at zero."""
    squared = (vectors * vectors).sum(-1, keepdim=True)
    return squared, squared.clamp_min(1e-12).sqrt()


def axis_angle_to_matrix(vectors: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of axis-angle vectors (..., 3), radians: Rodrigues' formula.

    Gradients are finite and right at zero, where the sine and cosine terms are replaced by their series.
    """
    squared, angle = _safe_angle(vectors)
    small = squared < 1e-6
    sine = torch.where(small, 1 - squared / 6, angle.sin() / angle)[..., None]
    cosine = torch.where(small, 0.5 - squared / 24, (1 - angle.cos()) / squared.clamp_min(1e-12))[..., None]
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    identity = torch.eye(3, dtype=vectors.dtype, device=vectors.device)
    return identity + sine * cross + cosine * (cross @ cross)


def axis_angle_to_quaternion(vectors: Tensor) -> Tensor:
    """Unit quaternions (..., 4), order w x y z, of axis-angle vectors (..., 3), radians."""
    squared, angle = _safe_angle(vectors)
    small = squared < 1e-6
    scale = torch.where(small, 0.5 - squared / 48, (angle / 2).sin() / angle)
    real = torch.where(small, 1 - squared / 8, (angle / 2).cos())
    return torch.cat([real, vectors * scale], -1)


def multiply_quaternions(left: Tensor, right: Tensor) -> Tensor:
    """Hamilton product (..., 4) of quaternions w x y z: first ``right``'s rotation, then ``left``'s."""
    a, b, c, d = left.unbind(-1)
    w, x, y, z = right.unbind(-1)
    return torch.stack(
        [
            a * w - b * x - c * y - d * z,
            a * x + b * w + c * z - d * y,
            a * y - b * z + c * w + d * x,
            a * z + b * y - c * x + d * w,
        ],
        -1,
    )


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
    world_rotation: list[Tensor] = []
    world_position: list[Tensor] = []
    for j, parent in enumerate(parents):
        if parent < 0:
            world_rotation.append(rotations[:, j])
            world_position.append(joints[:, j])
        else:
            bone = (joints[:, j] - joints[:, parent])[..., None]
            world_rotation.append(world_rotation[parent] @ rotations[:, j])
            world_position.append(world_position[parent] + (world_rotation[parent] @ bone)[..., 0])
    rotation, position = torch.stack(world_rotation, 1), torch.stack(world_position, 1)
    offset = position - (rotation @ joints[..., None])[..., 0]
    return torch.cat([rotation, offset[..., None]], -1), position


def joint_quaternions(rotations: Tensor, parents: tuple[int, ...]) -> Tensor:
    """World rotations (B, J, 4), w x y z, of a chain of joints from relative axis-angle vectors (B, J, 3)."""
    relative = axis_angle_to_quaternion(rotations)
    world: list[Tensor] = []
    for j, parent in enumerate(parents):
        world.append(relative[:, j] if parent < 0 else multiply_quaternions(world[parent], relative[:, j]))
    return torch.stack(world, 1)


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
