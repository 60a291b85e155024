"""Landmark error and motion, measured on people whose landmarks are the model's own."""

from __future__ import annotations

import pytest
import torch

from ffavatar_model.camera import pose_to_camera, project_points, virtual_intrinsics
from ffavatar_model.evaluation import Subject
from ffavatar_model.evaluation.reenactment import driving_parameters
from ffavatar_model.head import load_head
from ffavatar_model.model import FFAvatar
from ffavatar_model.presets import find_preset
from flows.avatar.heads import prepare_head_file
from flows.experiments.following import LandmarkedSubject, evaluate_following, hull_matte, pooled_interval


def test_a_head_that_follows_itself_misses_nothing() -> None:
    torch.manual_seed(0)
    model = FFAvatar(find_preset("tiny"), load_head(prepare_head_file(None))).eval()
    torch.nn.init.normal_(model.estimator.head.weight, std=0.05)
    people = []
    for i in range(2):
        images = torch.rand(5, 3, 128, 128, generator=torch.Generator().manual_seed(i))
        subject = Subject(person=str(i), sources=images[:2], drivers=images[2:], mattes=torch.ones(3, 1, 128, 128))
        with torch.inference_mode():
            avatar, parameters = model.reconstruct(subject.sources[None]), driving_parameters(model, subject)
            K = virtual_intrinsics(128).expand(1, 3, 3, 3)
            means = model.animate(avatar, parameters).means
            points = project_points(model.rig.landmarks(means), pose_to_camera(parameters.pose, K, 128), K)[0] / 128
        landmarks = torch.zeros(3, 468, 2)
        landmarks[:, model.rig.landmark_index] = points
        people.append(LandmarkedSubject(subject=subject, landmarks=landmarks))
    found = evaluate_following(model, people)
    assert found["landmark_px"]["value"] < 1e-3 and found["landmark_px"]["n"] == 2
    assert found["motion_mouth_r"]["value"] == pytest.approx(1, abs=0.02)
    assert "csim" not in found and 0 < found["hull_sharpness"]["value"] < 1, "random images are sharper than a head"
    same = evaluate_following(model, people, embed=lambda image: torch.ones(3))
    assert same["csim"]["value"] == pytest.approx(1)
    assert "csim" not in evaluate_following(model, people, embed=lambda image: None)
    people[0].landmarks[...] += torch.tensor([4 / 256, 3 / 256])
    assert evaluate_following(model, people)["landmark_px"]["high"] == pytest.approx(5, abs=1e-2)


def test_sums_over_people_are_resampled_together() -> None:
    interval = pooled_interval([(1.0, 1.0, 2.0), (3.0, 3.0, 4.0)], lambda s: s[0] / s[2])
    assert interval.value == pytest.approx(4 / 6) and (interval.low, interval.high) == (0.5, 0.75)


def test_a_hull_covers_what_lies_between_the_landmarks() -> None:
    points = torch.zeros(468, 2)
    points[:4] = torch.tensor([[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]])
    matte = hull_matte(points, 64)
    assert matte.shape == (1, 64, 64) and matte[0, 32, 32] == 1 and matte[0, 2, 2] == 0
    assert float(matte.mean()) == pytest.approx(0.25, abs=0.03), "points that a head lacks are no corner"
