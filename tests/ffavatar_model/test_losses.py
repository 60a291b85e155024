"""Loss terms: unreduced, right on hand-made cases; SSIM against another implementation."""

from __future__ import annotations

import pytest
import torch

from ffavatar_model import losses
from ffavatar_model.model import average_over_timesteps
from ffavatar_model.networks.estimator import DrivingParameters
from ffavatar_model.networks.gaussians import CanonicalAvatar


def test_photometric_counts_outside_the_matte_less():
    rgb, target = torch.full((1, 3, 2, 2), 0.5), torch.zeros(1, 3, 2, 2)
    matte = torch.tensor([[[[1.0, 0.0], [0.5, 1.0]]]])
    expected = 0.5 * torch.tensor([[1.0, 0.2], [0.6, 1.0]])
    torch.testing.assert_close(losses.photometric(rgb, target, matte), expected.expand(1, 3, 2, 2))


def test_structural_is_one_minus_ssim():
    metrics = pytest.importorskip("skimage.metrics")
    random = torch.Generator().manual_seed(0)
    a = torch.rand(1, 3, 40, 40, generator=random, dtype=torch.float64)
    b = (a + 0.2 * torch.randn(1, 3, 40, 40, generator=random, dtype=torch.float64)).clamp(0, 1)
    _, image = metrics.structural_similarity(
        a[0].numpy(),
        b[0].numpy(),
        channel_axis=0,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    ours = 1 - losses.structural(a, b)[0]
    torch.testing.assert_close(ours, torch.from_numpy(image)[:, 5:-5, 5:-5], atol=1e-6, rtol=0)
    assert losses.structural(a, a).abs().max() < 1e-9


def test_landmark_ignores_images_without_and_has_finite_gradients_at_zero():
    found = torch.rand(2, 2, 5, 2)
    predicted = (found + torch.tensor([0.3, 0.4])).requires_grad_()
    distance = losses.landmark(predicted, found, torch.tensor([[True, False], [True, True]]))
    expected = torch.full((2, 2, 5), 0.5)
    expected[0, 1] = 0
    torch.testing.assert_close(distance, expected)
    exact = found.clone().requires_grad_()
    losses.landmark(exact, found, torch.ones(2, 2, dtype=torch.bool)).sum().backward()
    assert exact.grad is not None and torch.isfinite(exact.grad).all()


def test_motion_sees_a_brow_that_rises_and_neither_a_pose_nor_a_shape():
    random = torch.Generator().manual_seed(0)
    detected = torch.rand(1, 3, 12, 2, generator=random)
    rigid, valid = torch.arange(6), torch.ones(1, 3, dtype=torch.bool)
    turn, shift = torch.tensor([[0.9, 0.3], [-0.3, 0.9]]), torch.tensor([0.1, -0.2])
    assert losses.motion(detected @ turn + shift, detected, valid, rigid).max() < 1e-4, "pose does not count"
    other = detected.clone()
    other[:, :, 8] += 0.1
    assert losses.motion(other, detected, valid, rigid).max() < 1e-4, "nor does what is the same in all drivers"
    risen = detected.clone()
    risen[:, 0, 8:, 1] += 0.03
    each = losses.motion(risen, detected, valid, rigid)
    assert each[0, 0, 8:].min() > 0.015 and each[..., :8].max() < 1e-4, "a complete part that rises does"
    assert losses.motion(risen, detected, torch.tensor([[True, False, True]]), rigid)[0, 1].max() == 0


def test_motion_has_no_gradient_along_a_pose():
    """Shift, turn and zoom of the predicted landmarks change nothing: otherwise the term makes heads drift."""
    random = torch.Generator().manual_seed(0)
    detected, predicted = torch.rand(1, 3, 12, 2, generator=random), torch.rand(1, 3, 12, 2, generator=random)
    predicted.requires_grad_()
    valid = torch.ones(1, 3, dtype=torch.bool)
    losses.motion(predicted, detected, valid, torch.arange(6))[..., 6:].mean().backward()
    assert predicted.grad is not None and predicted.grad.abs().max() > 1e-4
    points, slope = predicted.detach(), predicted.grad
    turned = torch.stack((-points[..., 1], points[..., 0]), -1)
    assert slope.sum(-2).abs().max() < 1e-5
    assert (slope * points).sum((-2, -1)).abs().max() < 1e-5 and (slope * turned).sum((-2, -1)).abs().max() < 1e-5


def test_regularisers_measure_what_they_say():
    avatar = CanonicalAvatar(
        torch.tensor([[[0.03, 0.04, 0.0]]]),
        torch.ones(1, 1, 4),
        torch.tensor([[[0.01, 0.02, 0.04]]]),
        torch.ones(1, 1),
        torch.ones(1, 1, 3),
    )
    torch.testing.assert_close(losses.offset_size(avatar), torch.tensor([[0.5]]))
    excess = losses.scale_excess(avatar, torch.tensor([0.01]), allowed=1.5)
    torch.testing.assert_close(excess, torch.tensor([[[0.0, 0.5, 2.5]]]))


def test_disagreement_is_how_far_a_view_is_from_what_its_timestep_shares():
    expression = torch.tensor([[[1.0], [3.0], [7.0]]])
    rotations = torch.zeros(1, 3, 5, 3)
    rotations[0, 1, 2, 0] = 0.4
    each = DrivingParameters(expression, rotations, torch.zeros(1, 3, 9))
    weight = torch.tensor([[1.0, 3.0, 0.5]])
    shared = average_over_timesteps(each, torch.tensor([[4, 4, 9]]), weight)
    found = losses.disagreement(each, shared, weight)
    assert found.shape == (1, 3, 16)
    torch.testing.assert_close(found[0, :, 0], torch.tensor([2.25, 0.75, 0.0]))  # the mean is 2.5, and 7 stands alone
    torch.testing.assert_close(found[0, :, 1 + 6], torch.tensor([2.25, 0.75, 0.0]))  # jaw: 0 and 2 units, mean 1.5
    others = [i for i in range(16) if i not in (0, 7)]
    assert found[..., others].abs().max() == 0
