"""The model: any number of sources in any order, one avatar, driven by images."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from ffavatar_model.camera import pose_to_camera, project_points, virtual_intrinsics
from ffavatar_model.head import HeadModel, landmark_points, pose_head
from ffavatar_model.model import FFAvatar, average_over_timesteps
from ffavatar_model.networks.backbone import Backbone
from ffavatar_model.networks.estimator import DrivingParameters
from ffavatar_model.presets import paper, tiny
from ffavatar_model.renderers.projection import rotation_matrices

SIZE = 32


def random_images(*shape: int, seed: int = 0) -> torch.Tensor:
    small = torch.rand(math.prod(shape), 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(small, (SIZE, SIZE), mode="bicubic").clamp(0, 1).unflatten(0, shape)


def test_order_of_the_sources_changes_nothing(model: FFAvatar):
    sources = random_images(1, 5)
    there = model.reconstruct(sources)
    back = model.reconstruct(sources[:, [3, 0, 4, 2, 1]])
    other = model.reconstruct(random_images(1, 5, seed=1))
    for name, a, b in zip(there._fields, there, back, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5, msg=lambda m, name=name: f"{name}: {m}")
    assert (there.colours - other.colours).abs().max() > 1e-2  # it does depend on what the sources show


def test_padding_changes_nothing_and_every_view_counts(model: FFAvatar):
    sources = random_images(2, 3)
    padded = torch.cat((sources, random_images(2, 2, seed=9)), 1)
    mask = torch.tensor([[True, True, True, False, False]] * 2)
    got, expected = model.reconstruct(padded, mask), model.reconstruct(sources)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    fewer = model.reconstruct(padded, torch.tensor([[True, True, False, False, False]] * 2))
    assert (fewer.colours - expected.colours).abs().max() > 1e-3


@pytest.mark.parametrize("n", [1, 16])
def test_one_to_sixteen_views(model: FFAvatar, n: int):
    avatar = model.reconstruct(random_images(1, n))
    assert avatar.offsets.shape == (1, 400, 3)
    assert all(torch.isfinite(value).all() for value in avatar.tensors().values())


def test_untrained_estimator_puts_a_neutral_head_where_aligned_crops_have_it(head: HeadModel, model_config):
    model = FFAvatar(model_config, head)
    parameters = model.estimate(random_images(1, 2))
    assert (parameters.expression == 0).all() and (parameters.rotations == 0).all()
    K = virtual_intrinsics(SIZE)
    eyes = (head.joint_regressor @ head.template)[3:]
    at = project_points(eyes, pose_to_camera(parameters.pose[0, 0], K, SIZE), K) / SIZE
    torch.testing.assert_close(at, torch.tensor([[0.61, 0.53], [0.39, 0.53]]), atol=2e-3, rtol=0)


def test_points_move_as_the_head_model_does(model: FFAvatar, head: HeadModel):
    random = torch.Generator().manual_seed(0)
    rotations = 0.3 * torch.randn(3, 5, 3, generator=random)
    expression = torch.randn(3, 2, generator=random)
    parameters = DrivingParameters(expression[None], rotations[None], torch.zeros(1, 3, 9))
    means, _ = model.rig.pose(model.rig.mean_head(1), parameters)
    expected = pose_head(head, torch.zeros(3, 0), expression, rotations).vertices
    torch.testing.assert_close(means[0], expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(model.rig.landmarks(means[0]), landmark_points(head, expected), atol=1e-6, rtol=1e-5)


def test_rotations_follow_the_surface(model: FFAvatar, head: HeadModel):
    """A Gaussian's axes turn as the edges round its point do, to first order (finite differences of the posed mesh)."""
    step = 1e-3
    expression = torch.tensor([[[0.0, 0.0]], [[0.0, 0.0]]])
    rotations = torch.zeros(2, 1, 5, 3)
    rotations[1, 0, 2] = step * torch.tensor([1.0, 0.3, 0.1])
    rotations[1, 0, 1] = step * torch.tensor([0.2, 0.8, -0.5])
    rest = model.rig.mean_head(2)
    for changed in (torch.zeros(2), torch.tensor([step, step])):
        expression[1, 0] = changed
        means, turned = model.rig.pose(rest, DrivingParameters(expression, rotations, torch.zeros(2, 1, 9)))
        turn = rotation_matrices(turned.double())[1, 0]
        predicted = torch.stack((turn[:, 2, 1], turn[:, 0, 2], turn[:, 1, 0]), -1) / step
        edges = torch.unique(torch.cat((head.triangles[:, :2], head.triangles[:, 1:])).sort(1).values, dim=0)
        edges = torch.cat((edges, edges.flip(1)))
        e = (means[0, 0][edges[:, 1]] - means[0, 0][edges[:, 0]]).double()
        d = ((means[1, 0] - means[0, 0])[edges[:, 1]] - (means[1, 0] - means[0, 0])[edges[:, 0]]).double() / step
        n = len(head.template)
        inertia = e.square().sum(-1)[:, None, None] * torch.eye(3).double() - e[:, :, None] * e[:, None]
        matrix = torch.zeros(n, 3, 3).double().index_add_(0, edges[:, 0], inertia)
        torque = torch.zeros(n, 3).double().index_add_(0, edges[:, 0], torch.linalg.cross(e, d))
        seen = torch.linalg.solve(matrix, torque)
        # Where skinning weights vary, the surface also bends with them: compare where they hardly do.
        weights = head.skinning_weights
        spread = torch.zeros(n).index_reduce_(
            0, edges[:, 0], (weights[edges[:, 0]] - weights[edges[:, 1]]).abs().amax(-1), "amax"
        )
        calm = spread < 0.02
        assert calm.sum() > 50
        torch.testing.assert_close(predicted[calm], seen[calm], atol=0.12, rtol=0.05)


def test_views_of_one_timestep_share_their_expression():
    parameters = DrivingParameters(torch.arange(8.0).view(1, 4, 2), torch.zeros(1, 4, 5, 3), torch.rand(1, 4, 9))
    shared = average_over_timesteps(parameters, torch.tensor([[7, 3, 7, 3]]))
    assert shared.expression[0, :, 0].tolist() == [2.0, 4.0, 2.0, 4.0]
    assert torch.equal(shared.pose, parameters.pose)


def test_known_camera_is_rendered_as_given_and_the_estimate_is_kept_apart(model: FFAvatar):
    drivers, K = random_images(1, 2), virtual_intrinsics(SIZE).repeat(1, 2, 1, 1)
    free = model(random_images(1, 1), None, drivers, K)
    known = pose_to_camera(model.estimate(drivers).pose, K, SIZE)
    given = model(random_images(1, 1), None, drivers, K, head_to_camera=known)
    torch.testing.assert_close(free.rendered.rgb, given.rendered.rgb)
    moved = known.clone()
    moved[..., 0, 3] += 0.05
    shifted = model(random_images(1, 1), None, drivers, K, head_to_camera=moved)
    assert (shifted.landmarks - given.landmarks)[..., 0].mean() > 0.05
    torch.testing.assert_close(shifted.estimated_landmarks, given.landmarks)


def test_every_parameter_gets_a_gradient(model: FFAvatar):
    model.train().add_personal()
    output = model(random_images(2, 2), None, random_images(2, 3, seed=3), virtual_intrinsics(SIZE).repeat(2, 3, 1, 1))
    (output.rendered.rgb.square().mean() + output.rendered.alpha.mean() + output.landmarks.square().mean()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert without == []


def test_lifted_colours_are_those_of_the_source(head: HeadModel, model_config):
    """Left half red, right half blue: so is the head, before any training; without lifting it is grey."""
    source = torch.zeros(1, 1, 3, SIZE, SIZE)
    source[..., 0, :, : SIZE // 2], source[..., 2, :, SIZE // 2 :] = 1.0, 1.0
    model = FFAvatar(model_config, head)
    front = (head.template[:, 2] > 0.0) & (head.template[:, 0].abs() > 0.02)
    colours = model.reconstruct(source).colours[0][front]
    own_left = head.template[front, 0] > 0
    assert (colours[own_left, 2] > 0.6).all() and (colours[own_left, 0] < 0.4).all()
    assert (colours[~own_left, 0] > 0.6).all()
    plain = FFAvatar(replace(model_config, lift=False), head).reconstruct(source).colours
    assert (plain - 0.5).abs().max() < 0.2


def test_subdivided_head_gives_more_points(head: HeadModel, model_config):
    model = FFAvatar(replace(model_config, subdivisions=1), head)
    assert model.reconstruct(random_images(1, 1)).offsets.shape[1] == 4 * len(head.template) - 6  # Euler


def test_sizes_are_the_same_classes_and_dinov2_runs(head: HeadModel, model_config):
    assert type(paper().encoder.backbone) is type(tiny().encoder.backbone) is Backbone.Config
    small = Backbone.Config(kind="dinov2", image_size=28, patch=14, width=32, depth=2, heads=2, mlp_ratio=2.0)
    encoder = replace(model_config.encoder, backbone=small, layers=(1, 2))
    avatar = FFAvatar(replace(model_config, encoder=encoder), head).reconstruct(random_images(1, 2))
    assert torch.isfinite(avatar.colours).all()


def test_dinov2_weights_that_are_not_there_are_named(head: HeadModel):
    config = Backbone.Config(kind="dinov2", image_size=28, patch=14, width=32, depth=2, heads=2, weights="/no/such")
    with pytest.raises(ValueError, match=r"/no/such.*no such folder"):
        Backbone(config)
