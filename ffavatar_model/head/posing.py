"""Posing of a head model by coefficients and joint rotations, with the transforms of points bound to its surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ffavatar_model.head.interface import N_JOINTS, PARENTS, HeadModel
from ffavatar_model.head.skinning import (
    apply_transforms,
    axis_angle_to_matrix,
    blend_transforms,
    joint_quaternions,
    joint_transforms,
)


@dataclass(frozen=True)
class PosedHead:
    """A batch of B posed heads.

    A point bound to the surface with rest position p and skinning weights w (N, 5) goes to
    ``apply_transforms(blend_transforms(w, joint_transforms), p)``; its local frame turns by
    ``blend_quaternions(w, joint_quaternions)``.
    """

    vertices: Tensor
    """(B, V, 3) posed vertices, metres, in head axes."""
    rest: Tensor
    """(B, V, 3) vertices after shape, expression and pose correctives, before skinning, metres."""
    transforms: Tensor
    """(B, V, 3, 4) skinning transform of each vertex, from rest to posed."""
    joints: Tensor
    """(B, 5, 3) posed joint positions, metres."""
    joint_transforms: Tensor
    """(B, 5, 3, 4) transform of each joint, from rest to posed."""
    joint_quaternions: Tensor
    """(B, 5, 4) rotation of each joint as a quaternion, w x y z."""


def _weighted_sum(directions: Tensor, coefficients: Tensor) -> Tensor:
    """Return the sum (B, V, 3) of directions (V, 3, K) weighted by coefficients (B, k), k <= K."""
    k = coefficients.shape[-1]
    if k > directions.shape[-1]:
        raise ValueError(f"{k} coefficients given, the head model has {directions.shape[-1]} directions")
    flat = directions[..., :k].flatten(0, 1)
    return (coefficients @ flat.T).unflatten(-1, (-1, 3))


def blend_shapes(head: HeadModel, shape: Tensor, expression: Tensor | None = None) -> Tensor:
    """Add shape and expression to the template, before pose correctives and skinning.

    Args:
        head: The head model.
        shape: (B, ≤S) coefficients; missing ones count as zero.
        expression: (B, ≤E) coefficients; missing ones count as zero.

    Returns:
        Vertices (B, V, 3), metres.

    Raises:
        ValueError: There are more coefficients than the head has directions.
    """
    vertices = head.template + _weighted_sum(head.shape_directions, shape)
    return vertices if expression is None else vertices + _weighted_sum(head.expression_directions, expression)


def joint_positions(head: HeadModel, shaped: Tensor) -> Tensor:
    """Return the joint positions at rest (B, 5, 3) of heads with vertices (B, V, 3), shaped but without expression."""
    return head.joint_regressor @ shaped


def pose_head(
    head: HeadModel, shape: Tensor, expression: Tensor, rotations: Tensor, translation: Tensor | None = None
) -> PosedHead:
    """Pose a batch of heads.

    The formulas are FLAME's: joints are regressed from the shaped head, pose correctives are linear in (R - I) of
    joints 1 to 4, and linear blend skinning follows.

    Args:
        head: The head model, on the same device as the other arguments.
        shape: (B, ≤S) coefficients; missing ones count as zero.
        expression: (B, ≤E) coefficients; missing ones count as zero.
        rotations: (B, 5, 3) axis-angle of root, neck, jaw, left and right eye, relative to the parent, radians.
        translation: (B, 3) metres, added to all points; None adds nothing.

    Returns:
        The posed heads and their transforms.

    Raises:
        ValueError: ``rotations`` has a wrong shape, or there are more coefficients than the head has directions.
    """
    if rotations.shape[1:] != (N_JOINTS, 3):
        raise ValueError(f"rotations have shape {tuple(rotations.shape)}, expected (B, {N_JOINTS}, 3)")
    shaped = blend_shapes(head, shape)
    joints = joint_positions(head, shaped)
    rest = shaped + _weighted_sum(head.expression_directions, expression)
    matrices = axis_angle_to_matrix(rotations)
    if head.pose_correctives.shape[-1]:
        feature = (matrices[:, 1:] - torch.eye(3, dtype=matrices.dtype, device=matrices.device)).flatten(1)
        rest = rest + _weighted_sum(head.pose_correctives, feature)
    transforms, posed_joints = joint_transforms(matrices, joints, PARENTS)
    if translation is not None:
        transforms = torch.cat([transforms[..., :3], transforms[..., 3:] + translation[:, None, :, None]], -1)
        posed_joints = posed_joints + translation[:, None]
    per_vertex = blend_transforms(head.skinning_weights, transforms)
    return PosedHead(
        vertices=apply_transforms(per_vertex, rest),
        rest=rest,
        transforms=per_vertex,
        joints=posed_joints,
        joint_transforms=transforms,
        joint_quaternions=joint_quaternions(rotations, PARENTS),
    )


def pose_head_numpy(
    head: HeadModel, shape: np.ndarray, expression: np.ndarray, rotations: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pose heads given as numpy arrays; see ``pose_head``.

    Args:
        head: The head model, on the CPU.
        shape: (B, ≤S) coefficients.
        expression: (B, ≤E) coefficients.
        rotations: (B, 5, 3) axis-angle, radians.

    Returns:
        Vertices (B, V, 3) and joint transforms (B, 5, 3, 4), float32.
    """
    with torch.no_grad():
        posed = pose_head(head, *(torch.tensor(np.asarray(a, np.float32)) for a in (shape, expression, rotations)))
    return posed.vertices.numpy(), posed.joint_transforms.numpy()
