"""One avatar driven frame by frame: the same image as the model's own, by a backend that can be replaced."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ffavatar_model.animation.animator import Animator, Framing
from ffavatar_model.animation.backends import Images, PlainBackend
from ffavatar_model.animation.smoothing import OneEuro
from ffavatar_model.camera import pose_to_camera, virtual_intrinsics
from ffavatar_model.data.images import BACKGROUND
from ffavatar_model.model import FFAvatar
from ffavatar_model.networks.estimator import DrivingParameters
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
    got = animator.render(animator.estimate_parameters(crop, SAME, 0.0))[0]
    with torch.no_grad():
        parameters = model.estimate(crop[None, None])
        K = virtual_intrinsics(SIZE)[None, None]
        camera = pose_to_camera(parameters.pose, K, SIZE)
        image = model.render(model.animate(avatar, parameters), camera, K, torch.tensor(BACKGROUND), SIZE)
    expected = (image.rgb[0, 0].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
    assert got.shape == (SIZE, SIZE, 3) and got.dtype == np.uint8
    assert np.abs(got - expected).max() <= 1 and got.std() > 5


def test_the_crops_position_in_the_image_moves_the_head(model: FFAvatar, avatar: CanonicalAvatar):
    animator, crop = Animator(model, avatar, size=SIZE), crops(1)[0]
    moved = animator.estimate_parameters(crop, Framing(np.array([[1.0, 0, 8], [0, 1.0, -4]]), SIZE), 0.0)
    still = animator.estimate_parameters(crop, SAME, 0.0)
    shift = (moved.pose - still.pose)[0, 0, 7:9] * SIZE / 2
    torch.testing.assert_close(shift, torch.tensor([8.0, -4.0]), atol=1e-4, rtol=0)


def test_smoothing_is_off_by_default(model: FFAvatar, avatar: CanonicalAvatar):
    config = OneEuro.Config(min_cutoff_hz=1.0, beta=0.0)
    plain, smooth = Animator(model, avatar, size=SIZE), Animator(model, avatar, size=SIZE, smoothing=config)
    first, second = crops(2)
    for animator in (plain, smooth):
        animator.estimate_parameters(first, SAME, 0.0)
    a, b = (animator.estimate_parameters(second, SAME, 0.04).expression for animator in (plain, smooth))
    expected, start = model.estimate(second[None, None]).expression, model.estimate(first[None, None]).expression
    torch.testing.assert_close(a, expected)
    turn = 2 * math.pi * 0.04
    torch.testing.assert_close(b, torch.lerp(start, expected, turn / (turn + 1)))


class RecordingBackend(PlainBackend):
    """A plain backend that writes down what it is called for."""

    def __init__(self, model: FFAvatar, avatars: CanonicalAvatar, size: int) -> None:
        super().__init__(model, avatars, size)
        self.calls: list[str] = []

    def estimate(self, crops: torch.Tensor) -> DrivingParameters:
        self.calls.append("estimate")
        return super().estimate(crops)

    def submit_parameters(self, parameters: DrivingParameters) -> None:
        self.calls.append("submit")
        super().submit_parameters(parameters)

    def collect(self) -> Images:
        self.calls.append("collect")
        return super().collect()


def test_the_backend_does_the_work_and_can_be_replaced(model: FFAvatar, avatar: CanonicalAvatar):
    animator, plain = (Animator(model, avatar, size=SIZE, backend=kind) for kind in (RecordingBackend, PlainBackend))
    crop = crops(1)[0]
    a, b = (each.render(each.estimate_parameters(crop, SAME, 0.0)) for each in (animator, plain))
    assert isinstance(animator.backend, RecordingBackend)
    assert animator.backend.calls == ["estimate", "submit", "collect"]
    assert np.array_equal(a, b)


def test_frames_leave_in_their_order_from_crops_and_from_parameters(model: FFAvatar):
    """Two avatars at once: a frame from crops is the frame from the parameters that are estimated from them."""
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        avatars = model.reconstruct(torch.rand(2, 1, 3, 32, 32, generator=random))
    animator = Animator(model, avatars, size=SIZE)
    frames = [np.random.default_rng(seed).integers(0, 256, (2, 32, 32, 3), np.uint8) for seed in (0, 1)]
    for frame in frames:
        animator.submit_images(frame)
    got = [animator.collect(), animator.collect()]
    for frame, images in zip(frames, got, strict=True):
        with torch.no_grad():
            parameters = model.estimate(torch.from_numpy(frame).permute(0, 3, 1, 2)[:, None] / 255)
        assert images.shape == (2, SIZE, SIZE, 3)
        assert np.array_equal(images, animator.render(parameters))
    assert not np.array_equal(got[0], got[1])
    with pytest.raises(IndexError):
        animator.collect()


def test_at_rest_it_looks_straight_out(model: FFAvatar, avatar: CanonicalAvatar):
    rest = model.neutral_parameters()
    assert rest.expression.abs().sum() == 0 and rest.rotations.abs().sum() == 0
    assert torch.equal(Animator(model, avatar, size=SIZE).neutral.pose, model.rig.start_pose[None, None])
