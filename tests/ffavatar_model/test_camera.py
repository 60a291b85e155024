"""Poses and cameras."""

from __future__ import annotations

import pytest
import torch

from ffavatar_model.camera import (
    CROP_EYE_LEVEL,
    CROP_EYE_SPAN,
    aligned_pose,
    camera_to_pose,
    compose_rigid,
    pose_to_camera,
    project_points,
    rotation_from_6d,
    virtual_intrinsics,
)

EYES = torch.tensor([[0.03, 0.0, 0.0], [-0.03, 0.0, 0.0]])


def random_pose(n: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(n)
    return aligned_pose(0.06) + 0.3 * torch.randn(n, 9, generator=random)


def test_a_frontal_head_has_its_eyes_where_aligned_crops_have_them():
    K = virtual_intrinsics(200)
    left, right = project_points(EYES, pose_to_camera(aligned_pose(0.06), K, 200), K) / 200
    # The head's left eye is on the image's right.
    expected = torch.tensor([0.5 + CROP_EYE_SPAN / 2, CROP_EYE_LEVEL])
    torch.testing.assert_close(left, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(right, torch.tensor([0.5 - CROP_EYE_SPAN / 2, CROP_EYE_LEVEL]), atol=1e-4, rtol=0)


def test_the_crop_layout_is_that_of_the_faces_stack():
    align = pytest.importorskip("pipelines.faces.align")
    assert (CROP_EYE_SPAN, CROP_EYE_LEVEL) == (align.EYE_SPAN, align.EYE_LEVEL)


def test_up_is_up_and_the_nose_is_nearer_than_the_eyes():
    K = virtual_intrinsics(100)
    camera = pose_to_camera(aligned_pose(0.06), K, 100)
    above, nose = project_points(torch.tensor([[0.0, 0.1, 0.0], [0.0, 0.0, 0.0]]), camera, K)
    assert above[1] < nose[1]
    assert (camera[:, :3] @ torch.tensor([0.0, 0.0, 0.05]))[2] < 0


def test_pose_survives_the_way_to_a_camera_and_back_for_any_intrinsics():
    pose = random_pose(20)
    K = torch.tensor([[900.0, 0, 300], [0, 850, -40], [0, 0, 1]])
    camera = pose_to_camera(pose, K, 256)
    back = camera_to_pose(camera, K, 256)
    torch.testing.assert_close(rotation_from_6d(back[:, :6]), rotation_from_6d(pose[:, :6]), atol=1e-5, rtol=0)
    torch.testing.assert_close(back[:, 6:], pose[:, 6:], atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.linalg.det(camera[..., :3]), torch.ones(20))


def test_one_pose_looks_nearly_alike_through_any_lens():
    """A crop does not show its focal length, so the image of a pose must depend on it little."""
    pose = aligned_pose(0.06)
    pose[7] = 0.4
    near, far = virtual_intrinsics(128), virtual_intrinsics(128)
    far[:2, :2] *= 4
    points = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) * 0.05
    difference = project_points(points, pose_to_camera(pose, near, 128), near) - project_points(
        points, pose_to_camera(pose, far, 128), far
    )
    assert difference.abs().max() < 0.05 * 128
    turned = pose_to_camera(pose, near, 128)[:, :3] @ pose_to_camera(pose, far, 128)[:, :3].T
    assert torch.arccos((turned.trace() - 1) / 2) > 0.03  # it is turned towards each lens


def test_compose_applies_the_inner_transform_first():
    poses = pose_to_camera(random_pose(2), virtual_intrinsics(64), 64)
    point = torch.tensor([0.1, 0.2, 0.3])
    moved = poses[1][:, :3] @ point + poses[1][:, 3]
    expected = poses[0][:, :3] @ moved + poses[0][:, 3]
    both = compose_rigid(poses[0], poses[1])
    torch.testing.assert_close(both[:, :3] @ point + both[:, 3], expected)


def test_gradients_of_the_pose_are_finite_at_the_start():
    pose = aligned_pose(0.06).requires_grad_()
    K = virtual_intrinsics(64)
    project_points(EYES, pose_to_camera(pose, K, 64), K).sum().backward()
    assert pose.grad is not None and torch.isfinite(pose.grad).all() and pose.grad.abs().sum() > 0
