"""Fit of a head model to landmarks in images: shape, expression, joints and pose by damped Gauss-Newton steps.

The network estimates parameters from pixels and misses by a few pixels. Where a face mesh has been detected, this fit
lays the head onto it: for a start of personalization, for drivers, and for a baseline that learns nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.func import jacfwd, vmap

from ffavatar_model.camera import POSE_SIZE, pose_to_camera, project_points, virtual_intrinsics
from ffavatar_model.head import axis_angle_to_matrix
from ffavatar_model.head.interface import JAW, N_JOINTS, PARENTS
from ffavatar_model.head.skinning import apply_transforms, blend_transforms, joint_transforms
from ffavatar_model.networks.estimator import DrivingParameters
from ffavatar_model.networks.gaussians import CanonicalAvatar
from ffavatar_model.networks.rig import Rig

NOISE = 0.008
"""Standard deviation of detected landmarks about the head's, in image widths.

They miss by less, but their errors are alike, and each of some 430 landmarks counts as if it erred by itself.
"""
SHAPE_SPREAD = 0.6
"""Standard deviation of the shape coefficients of people."""
JOINT_SPREAD = 0.3
"""Standard deviation of the jaw's and the eyes' rotations, radians."""
POSE_TRUST = 1.0
"""Standard deviation of a pose's entries about the start."""
OUTLIER = 4.0
"""Residual, in units of ``NOISE``, from which a landmark counts less than half as much."""
MOVED_JOINTS = (N_JOINTS - JAW) * 3
"""Number of values that turn jaw and eyes."""


@dataclass(frozen=True, kw_only=True)
class LandmarkFit:
    """A fitted person."""

    parameters: DrivingParameters
    """(N, ...) parameters of each image."""
    shape: Tensor | None
    """(S,) shape coefficients; None if the person's head was given."""
    error: Tensor
    """(N,) mean distance of the landmarks, in image widths."""


@dataclass(frozen=True)
class _Points:
    """The corners of the landmarks' triangles, and the centres of the irises, bound to the joints."""

    rest: Tensor
    """(P, 3) points at rest, metres."""
    directions: Tensor
    """(E, P, 3) metres per unit of expression."""
    correctives: Tensor
    """(36, P, 3) or (0, P, 3) metres per entry of (R - I)."""
    weights: Tensor
    """(P, 5) skinning weights."""
    joints: Tensor
    """(5, 3) joints, metres."""
    barycentric: Tensor
    """(L, 3) barycentric coordinates."""
    shape_directions: Tensor
    """(S, P, 3) metres per unit of shape."""
    joint_directions: Tensor
    """(S, 5, 3) metres per unit of shape."""

    def project(self, unknown: Tensor, shape: Tensor) -> Tensor:
        """Return landmarks and irises (L + I, 2) in image widths for an image's values (E + 18,) and a shape (S,)."""
        expression, turns, pose = unknown.split((len(self.directions), MOVED_JOINTS, POSE_SIZE))
        rotations = torch.cat((turns.new_zeros(JAW, 3), turns.unflatten(0, (-1, 3))))
        matrices = axis_angle_to_matrix(rotations)
        rest = self.rest + torch.tensordot(expression, self.directions, 1)
        if len(self.correctives):
            feature = (matrices[1:] - torch.eye(3, device=matrices.device)).flatten()
            rest = rest + torch.tensordot(feature, self.correctives, 1)
        rest = rest + torch.tensordot(shape, self.shape_directions, 1)
        joints = self.joints + torch.tensordot(shape, self.joint_directions, 1)
        transforms, _ = joint_transforms(matrices[None], joints[None], PARENTS)
        posed = apply_transforms(blend_transforms(self.weights, transforms), rest[None])[0]
        corners = 3 * len(self.barycentric)
        marks = (posed[:corners].unflatten(0, (-1, 3)) * self.barycentric[..., None]).sum(1)
        K = virtual_intrinsics(1, posed)
        return project_points(torch.cat((marks, posed[corners:])), pose_to_camera(pose, K, 1), K)


@torch.inference_mode(False)
@torch.no_grad()
def fit_landmarks(
    rig: Rig,
    landmarks: Tensor,
    start: DrivingParameters,
    *,
    irises: Tensor | None = None,
    avatar: CanonicalAvatar | None = None,
    iterations: int = 8,
) -> LandmarkFit:
    """Fit the parameters of N images of one person to detected landmarks.

    Args:
        rig: Points of the head model.
        landmarks: (N, 468, 2) face-mesh points in image widths.
        start: (N, ...) parameters to begin with, for example the estimator's.
        irises: (N, 2, 2) centres of the irises, the left eye first, in image widths; None leaves the gaze to the prior.
        avatar: One person's canonical Gaussians, whose points are fitted; None fits the rig's shape coefficients.
        iterations: Number of Gauss-Newton steps.

    Raises:
        ValueError: The rig has no landmarks, or neither a shape of its own nor an avatar is there to be fitted.
    """
    if not len(rig.landmark_index):
        raise ValueError(
            f"head model {rig.name!r} has no landmarks: write a head file with them by ffavatar head FILE -o OUT"
        )
    start = DrivingParameters(*(value.clone() for value in start))  # a caller's inference mode may have made it
    points = _select_points(rig, avatar, irises is not None)
    if avatar is None and not len(points.shape_directions):
        raise ValueError("the rig has no shape directions: build it with n_shape > 0, or give an avatar")
    target = landmarks[:, rig.landmark_index].to(rig.points).clone()
    target = target if irises is None else torch.cat((target, irises.to(rig.points).clone()), 1)
    unknown = torch.cat((start.expression, start.rotations[:, JAW:].flatten(1), start.pose), -1).to(rig.points)
    shape, begin = rig.points.new_zeros(len(points.shape_directions)), unknown.clone()
    for _ in range(iterations):
        step, shape_step = _gauss_newton(points, unknown, shape, target, begin)
        unknown, shape = unknown + step, shape + shape_step
    projected = vmap(points.project, (0, None))(unknown, shape)
    expression, turns, pose = unknown.split((len(points.directions), MOVED_JOINTS, POSE_SIZE), -1)
    rotations = torch.cat((turns.new_zeros(len(turns), JAW, 3), turns.unflatten(1, (-1, 3))), 1)
    return LandmarkFit(
        parameters=DrivingParameters(expression, rotations, pose),
        shape=shape if avatar is None else None,
        error=(projected - target).norm(dim=-1).mean(-1),
    )


def _select_points(rig: Rig, avatar: CanonicalAvatar | None, with_irises: bool) -> _Points:
    """Return the points of the rig that landmarks depend on."""
    index = rig.landmark_corners.flatten()
    index = torch.cat((index, rig.iris_points)) if with_irises else index
    rest, joints = rig.points, rig.joints
    if avatar is not None and avatar.shape is not None:
        rest, joints = rig.shaped_points(avatar.shape)[0], rig.shaped_joints(avatar.shape)[0]
    if avatar is not None:
        rest = rest + avatar.offsets[0]
    points = _Points(
        rest[index],
        rig.directions.unflatten(-1, (-1, 3))[:, index],
        rig.correctives.unflatten(-1, (-1, 3))[:, index],
        rig.weights[index],
        joints,
        rig.landmark_barycentric,
        rig.shape_directions.unflatten(-1, (-1, 3))[:, index],
        rig.joint_directions.unflatten(-1, (-1, 3)),
    )
    if avatar is None:
        return points
    return replace(points, shape_directions=points.shape_directions[:0], joint_directions=points.joint_directions[:0])


def _gauss_newton(
    points: _Points, unknown: Tensor, shape: Tensor, target: Tensor, begin: Tensor
) -> tuple[Tensor, Tensor]:
    """Return a step of all images' values (N, U) and of the shape (S,) they share.

    The images' blocks are eliminated first (Schur complement), since each depends on its own values and the shape.
    """
    own, shared = vmap(jacfwd(points.project, (0, 1)), (0, None))(unknown, shape)
    residual = (vmap(points.project, (0, None))(unknown, shape) - target) / NOISE
    weight = 1 / (1 + (residual.norm(dim=-1, keepdim=True) / OUTLIER).square())
    jacobian = (weight.sqrt()[..., None] * own / NOISE).flatten(1, 2)
    shared = (weight.sqrt()[..., None] * shared / NOISE).flatten(1, 2)
    residual = (weight.sqrt() * residual).flatten(1)
    prior, pull = _prior(points, unknown, begin)
    block = jacobian.mT @ jacobian + prior.diag()
    right = -(jacobian.mT @ residual[..., None])[..., 0] - pull
    if not len(shape):
        return torch.linalg.solve(block, right), shape
    cross = jacobian.mT @ shared
    solved = torch.linalg.solve(block, torch.cat((cross, right[..., None]), -1))
    prior_shape = torch.eye(len(shape)).to(shape) / SHAPE_SPREAD**2
    schur = (shared.mT @ shared - cross.mT @ solved[..., :-1]).sum(0) + prior_shape
    gradient = -(shared.mT @ residual[..., None])[..., 0] - (cross.mT @ solved[..., -1:])[..., 0]
    shape_step = torch.linalg.solve(schur, gradient.sum(0) - prior_shape @ shape)
    return solved[..., -1] - solved[..., :-1] @ shape_step, shape_step


def _prior(points: _Points, unknown: Tensor, begin: Tensor) -> tuple[Tensor, Tensor]:
    """Return the prior's precision (U,) and its gradient (N, U): rest for face and joints, the start for the pose."""
    e = len(points.directions)
    precision = unknown.new_ones(unknown.shape[-1])
    precision[e:] = JOINT_SPREAD**-2
    precision[e + MOVED_JOINTS :] = POSE_TRUST**-2
    centre = begin.clone()
    centre[:, : e + MOVED_JOINTS] = 0
    return precision, precision * (unknown - centre)
