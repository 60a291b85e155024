"""The fit to landmarks finds the head, its pose and its expression again."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ffavatar_model.animation.landmark_fit import fit_landmarks
from ffavatar_model.camera import pose_to_camera, project_points, virtual_intrinsics
from ffavatar_model.model import FFAvatar
from ffavatar_model.networks.estimator import DrivingParameters
from ffavatar_model.networks.rig import Rig


def project(rig: Rig, shape: torch.Tensor, parameters: DrivingParameters) -> tuple[torch.Tensor, torch.Tensor]:
    """Return landmarks (N, 468, 2) and irises (N, I, 2) of a head in image widths."""
    means, _ = rig.pose(rig.mean_head(1, shape[None]), DrivingParameters(*(x[None] for x in parameters)))
    K = virtual_intrinsics(1, means)
    camera = pose_to_camera(parameters.pose, K, 1)
    landmarks = torch.zeros(len(parameters.pose), 468, 2)
    landmarks[:, rig.landmark_index] = project_points(rig.landmarks(means[0]), camera, K)
    return landmarks, project_points(means[0][:, rig.iris_points], camera, K)


@pytest.fixture
def truth(shaped_head, model_config) -> tuple[FFAvatar, torch.Tensor, DrivingParameters]:
    """A model whose people have shapes, one shape, and three images' parameters."""
    model = FFAvatar(replace(model_config, shape=2), shaped_head)
    neutral, g = model.neutral_parameters(3), torch.Generator().manual_seed(2)
    pose = neutral.pose[:, 0] + torch.randn(3, 9, generator=g) * torch.tensor([0.15] * 6 + [0.05] * 3)
    rotations = torch.zeros(3, 5, 3)
    rotations[:, 2, 0] = torch.tensor([0.0, 0.1, 0.2])
    expression = 0.7 * torch.randn(neutral.expression[:, 0].shape, generator=g)
    return model, torch.tensor([0.7, -0.5]), DrivingParameters(expression, rotations, pose)


def test_a_fit_lays_the_head_onto_the_landmarks(truth) -> None:
    model, shape, parameters = truth
    landmarks, _ = project(model.rig, shape, parameters)
    start = DrivingParameters(*(x[:, 0] for x in model.neutral_parameters(3)))
    before = fit_landmarks(model.rig, landmarks, start, iterations=0)
    with torch.inference_mode():
        fit = fit_landmarks(model.rig, landmarks, start)
    assert before.error.min() > 0.01 and fit.error.max() < 0.002, "a fifth of a hundredth of the image's width"
    assert fit.shape is not None and not fit.parameters.rotations[:, :2].any(), "root and neck stay"
    found, _ = project(model.rig, fit.shape, fit.parameters)
    torch.testing.assert_close(found, landmarks, atol=0.01, rtol=0)


def test_an_avatar_keeps_its_own_points(truth) -> None:
    model, shape, parameters = truth
    landmarks, irises = project(model.rig, shape, parameters)
    avatar = model.rig.mean_head(1, shape[None])
    start = DrivingParameters(*(x[:, 0] for x in model.neutral_parameters(3)))
    marks = irises if irises.shape[1] == 2 else None
    fit = fit_landmarks(model.rig, landmarks, start, avatar=avatar, irises=marks)
    assert fit.shape is None and fit.error.max() < 0.002
    wrong = landmarks.clone()
    wrong[:, model.rig.landmark_index[0]] += 0.2  # one landmark in another place moves the head little
    moved = fit_landmarks(model.rig, wrong, start, avatar=avatar, irises=marks)
    assert (project(model.rig, shape, moved.parameters)[0] - landmarks)[:, model.rig.landmark_index].abs().mean() < 0.01


def test_what_cannot_be_fitted_is_said(truth, head, model_config) -> None:
    model, _, parameters = truth
    with pytest.raises(ValueError, match="n_shape > 0"):
        fit_landmarks(FFAvatar(model_config, head).rig, torch.zeros(3, 468, 2), parameters)
    model.rig.landmark_index = model.rig.landmark_index[:0]
    with pytest.raises(ValueError, match="has no landmarks"):
        fit_landmarks(model.rig, torch.zeros(3, 468, 2), parameters)
