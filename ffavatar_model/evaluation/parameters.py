"""Comparison of the estimator with the ground truth of rendered people.

Head rotation, gaps of lips and lids, displacements of landmarks, gaze and expression coefficients are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ffavatar_model.camera import camera_to_pose, rotation_from_6d
from ffavatar_model.evaluation.intervals import bootstrap
from ffavatar_model.evaluation.reenactment import rotation_angle
from ffavatar_model.head import axis_angle_to_matrix
from ffavatar_model.head.face_parts import INNER_LIPS, LID_GAPS, PARTS, landmark_rows
from ffavatar_model.head.interface import LEFT_EYE, NECK, ROOT
from ffavatar_model.model import FFAvatar
from ffavatar_model.networks.estimator import DrivingParameters
from ffavatar_model.networks.rig import Rig

Array = NDArray[np.float64]
GROUPS = {"mouth": ("lips",), "lids": ("right_lids", "left_lids"), "brows": ("right_brow", "left_brow")}
"""Groups of face parts whose displacements are measured together."""


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """Rendered images of one person, with the parameters from which they were rendered."""

    person: str
    images: Tensor
    """(D, 3, H, W) aligned crops, RGB in 0 to 1, over the background."""
    K: Tensor
    """(D, 3, 3) intrinsics for images of this size, pixels."""
    head_to_camera: Tensor
    """(D, 3, 4) transforms from head to camera, metres."""
    expression: Tensor
    """(D, E) expression coefficients of the model's head model."""
    rotations: Tensor
    """(D, 5, 3) joint rotations, axis-angle, radians."""

    def driving_parameters(self, model: FFAvatar) -> DrivingParameters:
        """Return the true parameters (D, ...), with the coefficients that a model's estimator gives, on its device."""
        device = model.rig.points.device
        return DrivingParameters(
            self.expression[:, : model.estimator.n_expression].to(device),
            self.rotations.to(device),
            camera_to_pose(self.head_to_camera, self.K, self.images.shape[-1]).to(device),
        )


@torch.inference_mode()
def evaluate_estimator(model: FFAvatar, people: Sequence[GroundTruth]) -> dict[str, Any]:
    """Measure errors and correlations of the estimator.

    Args:
        model: The model whose estimator is measured.
        people: People that the model was not trained on.

    Returns:
        ``rotation_deg`` is the median error of the head's rotation (pose and neck together), degrees, with an interval
        over people. ``lip_gap_r`` and ``lid_gap_r`` are correlations of estimated and true gaps. ``r2`` is, for each of
        ``GROUPS``, the share of the variance of ``displacements`` that the estimate explains. ``expression_r`` is the
        correlation of each coefficient, and ``gaze_r`` that of the eyes' nod and turn.
    """
    device, pairs = model.rig.points.device, []
    for person in people:
        estimated = model.estimate(person.images.to(device)[None])
        estimated = DrivingParameters(*(x[0] for x in estimated))
        pairs.append((estimated, person.driving_parameters(model)))
    errors = [rotation_angle(total_rotation(e).transpose(-1, -2) @ total_rotation(t)).cpu() for e, t in pairs]
    estimated, true = (
        DrivingParameters(*(torch.cat(values) for values in zip(*parameters, strict=True)))
        for parameters in zip(*pairs, strict=True)
    )
    moved, truly_moved = displacements(model.rig, estimated), displacements(model.rig, true)
    index = model.rig.landmark_index
    median = bootstrap([float(e.median()) for e in errors], lambda x: float(np.median(x)))
    return {
        "people": len(people),
        "pictures": sum(len(e) for e in errors),
        "rotation_deg": median,
        "rotation_deg_all_pictures": float(torch.cat(errors).median()),
        "lip_gap_r": _gap_correlation(moved, truly_moved, INNER_LIPS, index),
        "lid_gap_r": _gap_correlation(moved, truly_moved, LID_GAPS, index),
        "r2": {
            name: _explained_variance(moved, truly_moved, torch.cat([landmark_rows(PARTS[p], index) for p in parts]))
            for name, parts in GROUPS.items()
        },
        "gaze_r": [_correlation(e, t) for e, t in zip(_gaze(estimated), _gaze(true), strict=True)],
        "expression_r": [_correlation(e, t) for e, t in zip(estimated.expression.T, true.expression.T, strict=True)],
    }


def total_rotation(parameters: DrivingParameters) -> Tensor:
    """Return the head's rotation (D, 3, 3) in the image, by pose and neck together, as both look the same."""
    facing = torch.diag(parameters.pose.new_tensor((1.0, -1.0, -1.0)))
    return (
        rotation_from_6d(parameters.pose[..., :6]) @ facing @ axis_angle_to_matrix(parameters.rotations[..., NECK, :])
    )


def displacements(rig: Rig, parameters: DrivingParameters) -> Tensor:
    """Return the displacements (D, L, 3), metres, of the mean head's landmarks by expression, jaw and eyes."""
    rotations = parameters.rotations.clone()
    rotations[:, [ROOT, NECK]] = 0
    moving = DrivingParameters(parameters.expression[None], rotations[None], parameters.pose[None])
    means, _ = rig.pose(rig.mean_head(1), moving)
    return (rig.landmarks(means) - rig.landmarks(rig.points.expand(1, 1, -1, -1)))[0]


def _gaze(parameters: DrivingParameters) -> Tensor:
    """Return nod and turn (2, D), radians, averaged over both eyes."""
    return parameters.rotations[:, LEFT_EYE:, :2].mean(1).T


def _gap_correlation(estimated: Tensor, true: Tensor, pairs: Sequence[tuple[int, int]], index: Tensor) -> float:
    """Compute the correlation of estimated and true changes of a vertical gap, a mean over pairs of landmarks."""
    gaps = []
    for values in (estimated, true):
        rows = [landmark_rows(pair, index) for pair in pairs]
        each = [values[:, r[0], 1] - values[:, r[1], 1] for r in rows if len(r) == 2]
        gaps.append(torch.stack(each).mean(0) if each else values.new_full((len(values),), torch.nan))
    return _correlation(*gaps)


def _explained_variance(estimated: Tensor, true: Tensor, rows: Tensor) -> float:
    """Compute R² of displacements (D, L, 3) at the landmarks ``rows``."""
    error = (estimated[:, rows] - true[:, rows]).square().sum()
    spread = (true[:, rows] - true[:, rows].mean(0)).square().sum()
    return float(1 - error / spread.clamp_min(1e-12))


def _correlation(a: Tensor, b: Tensor) -> float:
    """Compute Pearson's r; 0 if one of the variables is constant."""
    a, b = (x.double() - x.double().mean() for x in (a, b))
    scale = float(a.norm() * b.norm())
    return float((a * b).sum()) / scale if scale > 1e-9 else 0.0
