"""One avatar driven frame by frame: the same picture as the model's own, and parts that can be replaced."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ffavatar_model.animation.animator import Animator, Framing
from ffavatar_model.animation.smoothing import OneEuro
from ffavatar_model.camera import pose_to_camera, virtual_intrinsics
from ffavatar_model.data.images import BACKGROUND
from ffavatar_model.model import FFAvatar
from ffavatar_model.networks.gaussians import CanonicalAvatar

SIZE = 40
SAME = Framing(np.eye(2, 3), SIZE)


@pytest.fixture
def avatar(model: FFAvatar) -> CanonicalAvatar:
    with torch.no_grad():
        return model.reconstruct(torch.rand(1, 2, 3, 32, 32, generator=torch.Generator().manual_seed(3)))


def crops(n: int) -> torch.Tensor:
    return torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(4))


def test_a_frame_is_what_the_model_renders_of_it(model: FFAvatar, avatar: CanonicalAvatar):
    animator, crop = Animator(model, avatar, size=SIZE), crops(1)[0]
    got = animator(crop, SAME, 0.0)
    with torch.no_grad():
        parameters = model.estimate(crop[None, None])
        K = virtual_intrinsics(SIZE)[None, None]
        camera = pose_to_camera(parameters.pose, K, SIZE)
        picture = model.render(model.animate(avatar, parameters), camera, K, torch.tensor(BACKGROUND), SIZE)
    expected = (picture.rgb[0, 0].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
    assert got.shape == (SIZE, SIZE, 3) and got.dtype == np.uint8
    assert np.abs(got - expected).max() <= 1 and got.std() > 5


def test_the_crops_place_in_the_picture_moves_the_head(model: FFAvatar, avatar: CanonicalAvatar):
    animator, crop = Animator(model, avatar, size=SIZE), crops(1)[0]
    moved = animator.parameters(crop, Framing(np.array([[1.0, 0, 8], [0, 1.0, -4]]), SIZE), 0.0)
    still = animator.parameters(crop, SAME, 0.0)
    shift = (moved.pose - still.pose)[0, 0, 7:9] * SIZE / 2
    torch.testing.assert_close(shift, torch.tensor([8.0, -4.0]), atol=1e-4, rtol=0)


def test_smoothing_is_off_unless_asked_for(model: FFAvatar, avatar: CanonicalAvatar):
    config = OneEuro.Config(min_cutoff_hz=1.0, beta=0.0)
    plain, smooth = Animator(model, avatar, size=SIZE), Animator(model, avatar, size=SIZE, smoothing=config)
    first, second = crops(2)
    for animator in (plain, smooth):
        animator.parameters(first, SAME, 0.0)
    a, b = (animator.parameters(second, SAME, 0.04).expression for animator in (plain, smooth))
    expected, start = model.estimate(second[None, None]).expression, model.estimate(first[None, None]).expression
    torch.testing.assert_close(a, expected)
    turn = 2 * math.pi * 0.04
    torch.testing.assert_close(b, torch.lerp(start, expected, turn / (turn + 1)))


def test_each_of_the_three_parts_can_be_replaced(model: FFAvatar, avatar: CanonicalAvatar):
    animator = Animator(model, avatar, size=SIZE)
    called: list[str] = []
    estimate, pose, render = animator.estimate, animator.pose, animator.render
    animator.estimate = lambda crop: called.append("estimate") or estimate(crop)  # type: ignore[func-returns-value]
    animator.pose = lambda p: called.append("pose") or pose(p)  # type: ignore[func-returns-value]
    animator.render = lambda *a: called.append("render") or render(*a)  # type: ignore[func-returns-value]
    with_parts = animator(crops(1)[0], SAME, 0.0)
    assert called == ["estimate", "pose", "render"]
    assert np.array_equal(with_parts, Animator(model, avatar, size=SIZE)(crops(1)[0], SAME, 0.0))


def test_at_rest_it_looks_straight_out(model: FFAvatar, avatar: CanonicalAvatar):
    rest = model.neutral()
    assert rest.expression.abs().sum() == 0 and rest.rotations.abs().sum() == 0
    assert torch.equal(Animator(model, avatar, size=SIZE).rest.pose, model.rig.start_pose[None, None])
