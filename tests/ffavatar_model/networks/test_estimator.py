"""The estimator's part of a crop, and gaze: irises follow the eyes, and their term asks for nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ffavatar_model.data.dataset import IdentityDataset
from ffavatar_model.head.interface import LEFT_EYE, RIGHT_EYE
from ffavatar_model.model import FFAvatar
from ffavatar_model.networks.estimator import DrivingParameters, crop_face
from ffavatar_model.networks.rig import Rig
from ffavatar_model.training import recipe
from ffavatar_model.training.objective import Objective


def test_the_estimator_sees_the_face_alone(head, model_config) -> None:
    config = replace(model_config, estimator=replace(model_config.estimator, crop=0.5))
    torch.manual_seed(0)
    model = FFAvatar(config, head)
    torch.nn.init.normal_(model.estimator.head.weight)
    images = torch.rand(1, 3, 32, 32)
    elsewhere, inside = images.clone(), images.clone()
    elsewhere[..., :12, :] = 0  # the face is at 0.39 to 0.89 of the height, 0.25 to 0.75 of the width
    elsewhere[..., :8] = 0
    inside[..., 13:16, 10:20] = 0
    before = model.estimator.raw(images)
    torch.testing.assert_close(model.estimator.raw(elsewhere), before)
    assert (model.estimator.raw(inside) - before).abs().max() > 1e-3
    assert torch.equal(crop_face(images, 0.5), images[..., 12:28, 8:24]) and crop_face(images, 1.0) is images


def test_an_outline_network_sees_what_the_crop_leaves_out(head, model_config) -> None:
    config = replace(model_config, estimator=replace(model_config.estimator, crop=0.5, outline=8))
    torch.manual_seed(0)
    model = FFAvatar(config, head)
    torch.nn.init.normal_(model.estimator.head.weight)
    images = torch.rand(1, 3, 32, 32)
    elsewhere = images.clone()
    elsewhere[..., :12, :] = 0
    assert (model.estimator.raw(elsewhere) - model.estimator.raw(images)).abs().max() > 1e-4


def test_irises_follow_the_eyes(shaped_head) -> None:
    rig = Rig(shaped_head, 2)
    left, right = rig.iris_points.tolist()
    weights = shaped_head.skinning_weights
    assert weights[left, LEFT_EYE] == 1 and weights[right, RIGHT_EYE] == 1
    model_like = torch.zeros(1, 1, 5, 3)
    rest = DrivingParameters(torch.zeros(1, 1, 2), model_like, rig.start_pose.expand(1, 1, -1))
    turned = rest._replace(rotations=model_like.clone())
    turned.rotations[..., LEFT_EYE, 1] = 0.3  # to the head's own left
    at_rest, moved = (rig.pose(rig.mean_head(1), p)[0][0, 0, rig.iris_points] for p in (rest, turned))
    assert moved[0, 0] - at_rest[0, 0] > 0.001
    torch.testing.assert_close(moved[1], at_rest[1])


def test_a_head_without_eyeballs_has_no_irises(head) -> None:
    assert len(Rig(head, 2).iris_points) == 0


def test_the_gaze_term_is_zero_for_true_irises_alone(shaped_head, model_config, people) -> None:
    config = recipe("pretrain")
    torch.manual_seed(0)
    model = FFAvatar(model_config, shaped_head)
    torch.nn.init.normal_(model.estimator.head.weight, std=0.05)
    data = IdentityDataset(config.data, 32, "d", people.read, identity_faces=people.identity_faces, faces=people.faces)
    objective = Objective(replace(config.objective, gaze=2.0), model)
    batch = data.batch([0, 1])
    assert "gaze" not in objective(batch, 0.0)[1]  # a corpus has no irises
    with torch.no_grad():
        output = model(batch.sources, None, batch.drivers, batch.K)
    points = batch.landmarks.clone()
    points[:, :, model.rig.landmark_index] = output.landmarks
    true = replace(batch, landmarks=points, irises=output.irises)
    assert float(objective(true, 0.0)[1]["gaze"]) == pytest.approx(0, abs=1e-4)
    # the same offset in all drivers is the person's shape; another in each is a gaze
    same = replace(true, irises=true.irises + 0.05)
    assert float(objective(same, 0.0)[1]["gaze"]) == pytest.approx(0, abs=1e-4)
    each = torch.linspace(-0.05, 0.05, batch.drivers.shape[1])[:, None, None]
    assert float(objective(replace(true, irises=true.irises + each), 0.0)[1]["gaze"]) > 0.02
