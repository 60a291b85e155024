"""Rig: points bound to a head model; they move Gaussians with expression, jaw, neck and eyes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ffavatar_model.camera import aligned_pose, pose_to_camera, project_points, virtual_intrinsics
from ffavatar_model.head import HeadModel, axis_angle_to_matrix, axis_angle_to_quaternion, iris_vertices
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
    """The P points of a (subdivided) head model. The head model is an argument; checkpoints do not contain it.

    Expression directions, pose correctives and linear blend skinning move the means of Gaussians. Gaussians rotate
    first with the local surface under expression, then by the blended quaternions of the joints. To first order, the
    surface's rotation is linear in the expression coefficients, so it is computed once (``local_rotations``).
    """

    points: Tensor
    """(P, 3) points of the mean head at rest, metres."""
    normalised: Tensor
    """(P, 3) ``points``, centred and scaled to -1 to 1 along the longest axis."""
    frontal_positions: Tensor
    """(P, 2) positions of the points in an aligned crop of a frontal head, -1 to 1."""
    spacing: Tensor
    """(P,) mean distance of each point to its neighbours, metres."""
    normals: Tensor
    """(P, 3) outward unit normals of the mean head at rest."""
    start_pose: Tensor
    """(9,) pose of a frontal head in an aligned crop."""
    landmark_index: Tensor
    """(L,) index of each landmark among the 468 face-mesh points."""
    shape_directions: Tensor
    """(S, 3 P) metres per unit of shape coefficient."""
    joint_directions: Tensor
    """(S, 15) displacement of the 5 joints per unit of shape coefficient, metres."""
    triangles: Tensor
    """(F, 3) triangles of the points if shape directions are used, (0, 3) otherwise."""
    centre: Tensor
    """(3,) point at 0 in ``normalised``, metres."""
    extent: Tensor
    """() length of 1 in ``normalised``, metres."""
    directions: Tensor
    """(E, 3 P) metres per unit of expression coefficient."""
    turns: Tensor
    """(E, 3 P) rotation vector of the local surface per unit of expression coefficient, radians."""
    correctives: Tensor
    """(36, 3 P) metres per entry of (R - I) of joints 1 to 4; (0, 3 P) if the head has none."""
    weights: Tensor
    """(P, 5) skinning weights."""
    joints: Tensor
    """(5, 3) joints of the mean head at rest, metres."""
    iris_points: Tensor
    """(I,) points at the centres of the irises, see ``iris_vertices``."""
    landmark_corners: Tensor
    """(L, 3) points at the corners of each landmark's triangle."""
    landmark_barycentric: Tensor
    """(L, 3) barycentric coordinates of each landmark in its triangle."""

    def __init__(self, head: HeadModel, n_expression: int, n_shape: int = 0) -> None:
        """Bind the points.

        Args:
            head: Head model, after subdivision.
            n_expression: Number of the head's expression directions to use.
            n_shape: Number of the head's shape directions to use.
        """
        super().__init__()
        self.name, self.digest = head.name, head.digest
        edges = unique_edges(head.triangles)
        directions = head.expression_directions[..., :n_expression]
        shape_directions = head.shape_directions[..., :n_shape]
        joint_directions = torch.einsum("jv,vcs->jcs", head.joint_regressor, shape_directions)
        buffers = {
            "points": head.template,
            "directions": directions.flatten(0, 1).T,
            "turns": local_rotations(head.template, edges, directions).flatten(0, 1).T,
            "correctives": head.pose_correctives.flatten(0, 1).T,
            "weights": head.skinning_weights,
            "joints": head.joint_regressor @ head.template,
            "spacing": point_spacing(head.template, edges),
            "normals": point_normals(head.template, head.triangles),
            "landmark_corners": head.triangles[head.landmark_triangles],
            "landmark_barycentric": head.landmark_barycentric,
            "landmark_index": head.landmark_index,
            "iris_points": iris_vertices(head),
            "shape_directions": shape_directions.flatten(0, 1).T,
            "joint_directions": joint_directions.flatten(0, 1).T,
            "triangles": head.triangles if n_shape else head.triangles[:0],
        }
        for name, value in buffers.items():
            self.register_buffer(name, value.contiguous(), persistent=False)
        eye_distance = float((self.joints[LEFT_EYE] - self.joints[RIGHT_EYE]).norm())
        self.register_buffer("start_pose", aligned_pose(eye_distance), persistent=False)
        centre = (self.points.amax(0) + self.points.amin(0)) / 2
        extent = (self.points.amax(0) - self.points.amin(0)).max() / 2
        self.register_buffer("centre", centre, persistent=False)
        self.register_buffer("extent", extent, persistent=False)
        self.register_buffer("normalised", self.normalise(self.points), persistent=False)
        self.register_buffer("frontal_positions", self.project_frontal(self.points), persistent=False)

    def known_shape(self, shape: Tensor | None) -> Tensor | None:
        """Return the coefficients of known shapes (B, S) that the rig uses, or None if it uses or knows none."""
        used = len(self.shape_directions)
        return shape[:, :used] if used and shape is not None else None

    def normalise(self, points: Tensor) -> Tensor:
        """Convert points (..., P, 3), metres, to the scale of ``normalised``."""
        return (points - self.centre) / self.extent

    def project_frontal(self, points: Tensor) -> Tensor:
        """Return the positions (..., P, 2) of points (..., P, 3) in an aligned crop of a frontal head, -1 to 1."""
        K = virtual_intrinsics(2, points)
        return project_points(points, pose_to_camera(self.start_pose, K, 2), K) - 1

    def shaped_points(self, shape: Tensor) -> Tensor:
        """Return the points (B, P, 3) at rest of heads with shape coefficients (B, S), metres."""
        return self.points + (shape @ self.shape_directions).unflatten(-1, (-1, 3))

    def shaped_joints(self, shape: Tensor) -> Tensor:
        """Return the joints (B, 5, 3) at rest of heads with shape coefficients (B, S), metres."""
        return self.joints + (shape @ self.joint_directions).unflatten(-1, (-1, 3))

    def shaped_normals(self, shape: Tensor) -> Tensor:
        """Return the outward unit normals (B, P, 3) at rest of heads with shape coefficients (B, S)."""
        return point_normals(self.shaped_points(shape), self.triangles)

    def pose(self, avatar: CanonicalAvatar, parameters: DrivingParameters) -> tuple[Tensor, Tensor]:
        """Pose each of B avatars with D sets of parameters.

        Args:
            avatar: Canonical Gaussians of B avatars.
            parameters: (B, D, ...) driving parameters; their pose is not used.

        Returns:
            Means (B, D, P, 3), metres, and rotations (B, D, P, 4), quaternions w, x, y, z, both in head axes.
        """
        n, d = parameters.expression.shape[:2]
        expression, joints = (v.flatten(0, 1).to(self.points.dtype) for v in parameters[:2])
        matrices = axis_angle_to_matrix(joints)
        moved = expression @ self.directions
        if self.correctives.shape[0]:
            feature = (matrices[:, 1:] - torch.eye(3, device=matrices.device)).flatten(1)
            moved = moved + feature @ self.correctives
        points, centres = self.points, self.joints.expand(n * d, -1, -1)
        if avatar.shape is not None:
            points = self.shaped_points(avatar.shape)
            centres = self.shaped_joints(avatar.shape)[:, None].expand(-1, d, -1, -1).flatten(0, 1)
        rest = (points + avatar.offsets)[:, None] + moved.unflatten(-1, (-1, 3)).unflatten(0, (n, d))
        transforms, _ = joint_transforms(matrices, centres, PARENTS)
        means = apply_transforms(blend_transforms(self.weights, transforms), rest.flatten(0, 1))
        turns = axis_angle_to_quaternion((expression @ self.turns).unflatten(-1, (-1, 3)))
        follow = multiply_quaternions(blend_quaternions(self.weights, joint_quaternions(joints, PARENTS)), turns)
        rotations = multiply_quaternions(follow.unflatten(0, (n, d)), avatar.rotations[:, None])
        return means.unflatten(0, (n, d)), rotations

    def mean_head(self, n: int, shape: Tensor | None = None) -> CanonicalAvatar:
        """Return avatars without offsets, whose scales, opacities and colours are zero.

        Args:
            n: Number of avatars.
            shape: (n, S) shape coefficients; None for the mean head.
        """
        zeros = self.points.new_zeros(n, len(self.points), 3)
        rotation = torch.cat((torch.ones_like(zeros[..., :1]), zeros), -1)
        return CanonicalAvatar(zeros, rotation, zeros, zeros[..., 0], zeros, shape)

    def landmarks(self, means: Tensor) -> Tensor:
        """Return landmarks (..., L, 3) of posed points (..., P, 3); row l is face-mesh point ``landmark_index[l]``."""
        return (means[..., self.landmark_corners, :] * self.landmark_barycentric[..., None]).sum(-2)


def unique_edges(triangles: Tensor) -> Tensor:
    """Return the unique edges (M, 2) of triangles (F, 3), each with the smaller index first."""
    pairs = torch.cat((triangles[:, :2], triangles[:, 1:], triangles[:, [2, 0]])).sort(1).values
    return torch.unique(pairs, dim=0)


def point_spacing(points: Tensor, edges: Tensor) -> Tensor:
    """Return the mean length of the edges at each point.

    Args:
        points: (P, 3) metres.
        edges: (M, 2) indices of points.

    Returns:
        (P,) metres; a point without edges gets the mean length of all edges.
    """
    length = (points[edges[:, 0]] - points[edges[:, 1]]).norm(dim=-1)
    total = points.new_zeros(len(points)).index_add_(0, edges.flatten(), length.repeat_interleave(2))
    count = points.new_zeros(len(points)).index_add_(0, edges.flatten(), torch.ones_like(length).repeat_interleave(2))
    return torch.where(count > 0, total / count.clamp_min(1), length.mean()).clamp_min(1e-5)


def local_rotations(points: Tensor, edges: Tensor, directions: Tensor) -> Tensor:
    """Compute the rotation of the surface at each point per unit of each coefficient.

    It is the least-squares solution ω of ω × e = δ over the edges e at a point and their changes δ:
    (Σ |e|² I - e eᵀ) ω = Σ e × δ. It is exact to first order in the coefficient.

    Args:
        points: (P, 3) points at rest, metres.
        edges: (M, 2) indices of points.
        directions: (P, 3, E) displacement per unit of each coefficient, metres.

    Returns:
        (P, 3, E) rotation vectors per unit of each coefficient, radians.
    """
    both = torch.cat((edges, edges.flip(1)))
    e = points[both[:, 1]] - points[both[:, 0]]
    change = directions[both[:, 1]] - directions[both[:, 0]]
    inertia = e.square().sum(-1)[:, None, None] * torch.eye(3) - e[:, :, None] * e[:, None]
    matrix = points.new_zeros(len(points), 3, 3).index_add_(0, both[:, 0], inertia)
    torque = torch.linalg.cross(e[:, :, None].expand_as(change), change, dim=1)
    right = torch.zeros_like(directions).index_add_(0, both[:, 0], torque)
    scale = matrix.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None].clamp_min(1e-12)
    system = matrix / scale + 1e-4 * torch.eye(3)
    # torch meets OpenMP's threads at every one of the P systems: 2 ms on idle cores, 24 s on busy ones
    return torch.from_numpy(np.linalg.solve(system.numpy(), (right / scale).numpy()))
