"""The open head: what it holds, where things are in it, and how it moves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ffavatar_model.head import actions_to_parameters, pose_head
from ffavatar_model.head.interface import JAW, LEFT_EYE, NECK, RIGHT_EYE
from ffavatar_model.head.open_head import build_open_head, open_head_path
from ffavatar_model.head.rotation_fit import fit_rotation, rotate


def posed(head, **actions):
    expression, rotations = actions_to_parameters(head, actions)
    return pose_head(head, torch.zeros(1, 0), expression, rotations).vertices[0]


def centre(head, vertices, region):
    return vertices[head.region(region) > 0.5].mean(0)


def test_axes_origin_and_size(open_head):
    v = open_head.template
    eyes = open_head.joint_regressor @ v
    assert eyes[LEFT_EYE, 0] > 0.02 > -0.02 > eyes[RIGHT_EYE, 0]
    torch.testing.assert_close((eyes[LEFT_EYE] + eyes[RIGHT_EYE]) / 2, torch.zeros(3), atol=2e-4, rtol=0)
    nose, top, mouth = v[v[:, 2].argmax()], v[v[:, 1].argmax()], centre(open_head, v, "lips")
    assert 0.035 < nose[2] < 0.06 and abs(nose[0]) < 0.003 and -0.06 < nose[1] < -0.02
    assert 0.1 < top[1] < 0.14 and -0.09 < mouth[1] < -0.055
    assert eyes[NECK, 1] < -0.08 and eyes[JAW, 2] < -0.03


def test_weights_and_regressor_are_partitions_and_triangles_face_outwards(open_head):
    torch.testing.assert_close(open_head.skinning_weights.sum(1), torch.ones(open_head.n_vertices))
    torch.testing.assert_close(open_head.joint_regressor.sum(1), torch.ones(5), atol=1e-4, rtol=0)
    assert open_head.skinning_weights.min() >= 0
    corners = open_head.template[open_head.triangles]
    volume = (corners[:, 0] * torch.linalg.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert 0.002 < volume < 0.006  # litres of a head, open at the neck
    assert open_head.n_shape <= 300 and open_head.n_expression <= 100


def test_joints_follow_the_shape(open_head):
    shape = torch.randn(64, open_head.n_shape, generator=torch.Generator().manual_seed(0))
    rest = pose_head(open_head, shape, torch.zeros(64, 0), torch.zeros(64, 5, 3))
    for region, joint in (("left_eye", LEFT_EYE), ("right_eye", RIGHT_EYE)):
        ball = rest.vertices[:, open_head.region(region) > 0.5]
        distance = (ball - rest.joints[:, joint, None]).norm(dim=2)
        assert distance.std(1).max() < 1e-3 < 0.012 < distance.mean(1).min()
    assert rest.joints[:, NECK].std(0).max() < 0.012


def test_the_jaw_opens_the_mouth_and_leaves_the_skull(open_head):
    rest, opened = posed(open_head), posed(open_head, jawOpen=1.0)
    moved = (opened - rest).norm(dim=1)
    assert 0.025 < moved.max() < 0.05
    assert moved[open_head.template[:, 1] > -0.005].max() < 2e-3
    half = pose_head(open_head, torch.zeros(1, 0), torch.zeros(1, 0), jaw(0.15)).vertices[0]
    assert (half - rest)[open_head.skinning_weights[:, JAW] > 0.95][:, 1].mean() < -0.006


def jaw(angle):
    rotations = torch.zeros(1, 5, 3)
    rotations[0, JAW, 0] = angle
    return rotations


def test_sides_of_actions_and_eyes(open_head):
    rest, wink = posed(open_head), posed(open_head, eyeBlinkLeft=1.0)
    moved = (wink - rest).norm(dim=1)
    lids = open_head.region("eyelids") > 0.3
    assert moved[lids & (rest[:, 0] > 0)].max() > 0.008 and moved[lids & (rest[:, 0] < 0)].max() < 1e-4
    balls = (open_head.region("left_eye") > 0.5) | (open_head.region("right_eye") > 0.5)
    assert moved[balls].max() < 1e-6  # a blink moves the lids, not the eye
    look = posed(open_head, eyeLookOutLeft=1.0, eyeLookInRight=1.0)
    for region in ("left_eye", "right_eye"):
        ball = open_head.region(region) > 0.5
        front = rest[ball][:, 2].argmax()
        assert look[ball][front, 0] - rest[ball][front, 0] > 0.002  # both pupils go to the head's left
    up = posed(open_head, eyeLookUpLeft=1.0)
    ball = open_head.region("left_eye") > 0.5
    front = rest[ball][:, 2].argmax()
    assert up[ball][front, 1] > rest[ball][front, 1] + 0.001


def test_actions_add_up_and_unknown_ones_are_named(open_head):
    one, _ = actions_to_parameters(open_head, {"mouthPucker": 0.5})
    two, _ = actions_to_parameters(open_head, {"mouthPucker": torch.tensor([0.0, 1.0]), "noseSneerLeft": 0.0})
    torch.testing.assert_close(two[1], 2 * one[0])
    assert not two[0].any()
    with pytest.raises(ValueError, match="no action 'smile'"):
        actions_to_parameters(open_head, {"smile": 1.0})


def test_a_damaged_file_is_built_anew(open_head, tmp_path, monkeypatch):
    path = open_head_path(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a head")
    monkeypatch.setattr("ffavatar_model.head.open_head.make_open_head", lambda: open_head)
    assert build_open_head(tmp_path).digest == open_head.digest
    monkeypatch.setattr("ffavatar_model.head.open_head.make_open_head", lambda: pytest.fail("built twice"))
    assert build_open_head(tmp_path).digest == open_head.digest


def test_rotations_are_fitted_exactly():
    g = np.random.default_rng(0)
    points, centre_, axis = g.normal(size=(40, 3)), g.normal(size=3), g.normal(size=3)
    moved = rotate(points, axis, centre_)
    np.testing.assert_allclose(fit_rotation(points, moved, centre_, np.ones(40)), axis, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(moved - centre_, axis=1), np.linalg.norm(points - centre_, axis=1))
