"""Points bound to a head model: how Gaussians follow expression, jaw, neck and eyes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ffavatar_model.camera import aligned_pose, pose_to_camera, project_points, virtual_intrinsics
from ffavatar_model.head import HeadModel, axis_angle_to_matrix, axis_angle_to_quaternion
from ffavatar_model.head.interface import LEFT_EYE, PARENTS, RIGHT_EYE
from ffavatar_model.head.skinning import (
    apply_transforms,
    blend_quaternions,
    blend_transforms,
    joint_quaternions,
    joint_transforms,
    multiply_quaternions,
)
from ffavatar_model.networks.estimator import DrivingParameters
from ffavatar_model.networks.gaussians import CanonicalAvatar
from ffavatar_model.networks.lifting import point_normals


class Rig(nn.Module):
    """The P points of a (subdivided) head model, which is given at construction and in no checkpoint.

    Means move by expression directions, pose correctives and linear blend skinning. Rotations turn by the
    blended joints' quaternions after the turn of the local surface under expression, which is linear in
    the coefficients to first order and so computed once (``local_turns``).
    """

    points: Tensor
    """(P, 3) rest positions of the mean head, metres."""
    normalised: Tensor
    """(P, 3) the same, scaled to -1 to 1 along the longest axis."""
    places: Tensor
    """(P, 2) where a frontal aligned crop shows each, -1 to 1."""
    spacing: Tensor
    """(P,) mean distance to the neighbours, metres."""
    normals: Tensor
    """(P, 3) outward, at rest."""
    start_pose: Tensor
    """(9,) pose of a frontal head in an aligned crop."""
    landmark_index: Tensor
    """(L,) which of the 468 mesh points each landmark is."""
    directions: Tensor
    turns: Tensor
    correctives: Tensor
    weights: Tensor
    joints: Tensor
    landmark_corners: Tensor
    landmark_barycentric: Tensor

    def __init__(self, head: HeadModel, n_expression: int) -> None:
        super().__init__()
        self.name, self.digest = head.name, head.digest
        edges = unique_edges(head.triangles)
        directions = head.expression_directions[..., :n_expression]
        buffers = {
            "points": head.template,
            "directions": directions.flatten(0, 1).T,
            "turns": local_turns(head.template, edges, directions).flatten(0, 1).T,
            "correctives": head.pose_correctives.flatten(0, 1).T,
            "weights": head.skinning_weights,
            "joints": head.joint_regressor @ head.template,
            "spacing": spacing(head.template, edges),
            "normals": point_normals(head.template, head.triangles),
            "landmark_corners": head.triangles[head.landmark_triangles],
            "landmark_barycentric": head.landmark_barycentric,
            "landmark_index": head.landmark_index,
        }
        for name, value in buffers.items():
            self.register_buffer(name, value.contiguous(), persistent=False)
        eye_distance = float((self.joints[LEFT_EYE] - self.joints[RIGHT_EYE]).norm())
        self.register_buffer("start_pose", aligned_pose(eye_distance), persistent=False)
        centre = (self.points.amax(0) + self.points.amin(0)) / 2
        extent = (self.points.amax(0) - self.points.amin(0)).max() / 2
        self.register_buffer("normalised", (self.points - centre) / extent, persistent=False)
        K = virtual_intrinsics(2)
        frontal = project_points(self.points, pose_to_camera(self.start_pose, K, 2), K) - 1
        self.register_buffer("places", frontal, persistent=False)

    def pose(self, avatar: CanonicalAvatar, parameters: DrivingParameters) -> tuple[Tensor, Tensor]:
        """Means (B, D, P, 3) and rotations (B, D, P, 4) of B avatars under parameters (B, D, ...), head axes."""
        n, d = parameters.expression.shape[:2]
        expression, joints = (v.flatten(0, 1).to(self.points.dtype) for v in parameters[:2])
        matrices = axis_angle_to_matrix(joints)
        moved = expression @ self.directions
        if self.correctives.shape[0]:
            feature = (matrices[:, 1:] - torch.eye(3, device=matrices.device)).flatten(1)
            moved = moved + feature @ self.correctives
        rest = (self.points + avatar.offsets)[:, None] + moved.unflatten(-1, (-1, 3)).unflatten(0, (n, d))
        transforms, _ = joint_transforms(matrices, self.joints.expand(n * d, -1, -1), PARENTS)
        means = apply_transforms(blend_transforms(self.weights, transforms), rest.flatten(0, 1))
        turns = axis_angle_to_quaternion((expression @ self.turns).unflatten(-1, (-1, 3)))
        follow = multiply_quaternions(blend_quaternions(self.weights, joint_quaternions(joints, PARENTS)), turns)
        rotations = multiply_quaternions(follow.unflatten(0, (n, d)), avatar.rotations[:, None])
        return means.unflatten(0, (n, d)), rotations

    def mean_head(self, n: int) -> CanonicalAvatar:
        """n avatars whose points lie where the head model has them; the other values are not meant to be used."""
        points = self.points.new_zeros(n, len(self.points), 3)
        turn = torch.cat((torch.ones_like(points[..., :1]), points), -1)
        return CanonicalAvatar(points, turn, points, points[..., 0], points)

    def landmarks(self, means: Tensor) -> Tensor:
        """(..., P, 3) posed points → (..., L, 3): row l is point ``landmark_index[l]`` of the 468-point mesh."""
        return (means[..., self.landmark_corners, :] * self.landmark_barycentric[..., None]).sum(-2)


def unique_edges(triangles: Tensor) -> Tensor:
    """(F, 3) → (M, 2) undirected edges, smaller index first."""
    pairs = torch.cat((triangles[:, :2], triangles[:, 1:], triangles[:, [2, 0]])).sort(1).values
    return torch.unique(pairs, dim=0)


def spacing(points: Tensor, edges: Tensor) -> Tensor:
    """(P,) mean length of the edges at each point; the mean of all for a point that has none."""
    length = (points[edges[:, 0]] - points[edges[:, 1]]).norm(dim=-1)
    total = points.new_zeros(len(points)).index_add_(0, edges.flatten(), length.repeat_interleave(2))
    count = points.new_zeros(len(points)).index_add_(0, edges.flatten(), torch.ones_like(length).repeat_interleave(2))
    return torch.where(count > 0, total / count.clamp_min(1), length.mean()).clamp_min(1e-5)


def local_turns(points: Tensor, edges: Tensor, directions: Tensor) -> Tensor:
    """Rotation vectors (P, 3, E) of the surface at each point, per unit of each direction (P, 3, E).

    The least-squares ω of ω × e = δ over the edges e at a point and their changes δ:
    (Σ |e|² I - e eᵀ) ω = Σ e × δ. Exact for a rotation, first order in the coefficient otherwise.
    """
    both = torch.cat((edges, edges.flip(1)))
    e = points[both[:, 1]] - points[both[:, 0]]
    change = directions[both[:, 1]] - directions[both[:, 0]]
    inertia = e.square().sum(-1)[:, None, None] * torch.eye(3) - e[:, :, None] * e[:, None]
    matrix = points.new_zeros(len(points), 3, 3).index_add_(0, both[:, 0], inertia)
    torque = torch.linalg.cross(e[:, :, None].expand_as(change), change, dim=1)
    right = torch.zeros_like(directions).index_add_(0, both[:, 0], torque)
    scale = matrix.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None].clamp_min(1e-12)
    return torch.linalg.solve(matrix / scale + 1e-4 * torch.eye(3), right / scale)
