"""Loss terms, unreduced: every function returns one value an element, and the caller weights and averages them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ffavatar_model.networks.estimator import DrivingParameters
from ffavatar_model.networks.gaussians import CanonicalAvatar
from ffavatar_model.networks.lpips import LPIPS


def photometric(rgb: Tensor, target: Tensor, matte: Tensor, outside: float = 0.2) -> Tensor:
    """Compute the absolute difference of images, weighted by the matte.

    Args:
        rgb: (..., 3, H, W) rendered, in 0 to 1.
        target: (..., 3, H, W).
        matte: (..., 1, H, W) in 0 to 1; the weight is 1 inside it.
        outside: Weight outside the matte.

    Returns:
        (..., 3, H, W).
    """
    return (rgb - target).abs() * (outside + (1 - outside) * matte)


def coverage(alpha: Tensor, matte: Tensor) -> Tensor:
    """Compute the absolute difference (..., 1, H, W) of the rendered alpha and the matte, both in 0 to 1."""
    return (alpha - matte).abs()


def structural(rgb: Tensor, target: Tensor, window: int = 11, sigma: float = 1.5) -> Tensor:
    """Compute 1 − SSIM at every full window, in float32.

    Wang et al., "Image Quality Assessment" (2004): Gaussian window, K1 = 0.01, K2 = 0.03. The window's means are two
    products with banded matrices: on a GPU many times as fast as a convolution of each channel by itself.

    Args:
        rgb: (N, C, H, W) in 0 to 1.
        target: (N, C, H, W) in 0 to 1.
        window: Side of the window, pixels.
        sigma: Standard deviation of the window, pixels.

    Returns:
        (N, C, H - window + 1, W - window + 1).
    """
    with torch.autocast(rgb.device.type, enabled=False):
        rgb, target = (x if x.dtype == torch.float64 else x.float() for x in (rgb, target))
        down, across = (_window_matrix(n, window, sigma, rgb) for n in rgb.shape[-2:])

        def mean(x: Tensor) -> Tensor:
            return down @ x @ across.T

        mu_a, mu_b = mean(rgb), mean(target)
        var_a, var_b = mean(rgb * rgb) - mu_a**2, mean(target * target) - mu_b**2
        covariance = mean(rgb * target) - mu_a * mu_b
        c1, c2 = 0.01**2, 0.03**2
        similarity = (2 * mu_a * mu_b + c1) * (2 * covariance + c2) / ((mu_a**2 + mu_b**2 + c1) * (var_a + var_b + c2))
        return 1 - similarity


def perceptual(network: LPIPS, rgb: Tensor, target: Tensor) -> Tensor:
    """Compute LPIPS (N,) of images (N, 3, H, W) in 0 to 1, over the complete crop with its background."""
    return network(rgb, target)


def ssim_scale(images: Tensor) -> Tensor:
    """Average images (N, C, H, W) down to about 256 pixels, the scale at which SSIM and LPIPS are computed here.

    The factor is max(1, round(min(H, W) / 256)), as the authors of SSIM recommend with their reference code.
    """
    factor = max(1, round(min(images.shape[-2:]) / 256))
    return images if factor == 1 else F.avg_pool2d(images, factor)


def _window_matrix(n: int, window: int, sigma: float, like: Tensor) -> Tensor:
    """Return the matrix (n - window + 1, n) whose product with n values gives their Gaussian mean in each window."""
    offset = torch.arange(n, device=like.device)[None] - torch.arange(n - window + 1, device=like.device)[:, None]
    inside = (offset >= 0) & (offset < window)
    weights = torch.exp(-0.5 * ((offset.to(like) - (window - 1) / 2) / sigma) ** 2) * inside
    return weights / weights.sum(1, keepdim=True)


def landmark(predicted: Tensor, detected: Tensor, valid: Tensor) -> Tensor:
    """Compute the distance of projected and detected landmarks.

    Args:
        predicted: (..., L, 2) in image widths.
        detected: (..., L, 2) in image widths.
        valid: (...) bool, False for images without detected landmarks.

    Returns:
        (..., L) in image widths; 0 where ``valid`` is False.
    """
    distance = (predicted - detected).square().sum(-1).clamp_min(1e-10).sqrt()
    return torch.where(valid[..., None], distance, torch.zeros_like(distance))


def part_shape(predicted: Tensor, detected: Tensor, valid: Tensor) -> Tensor:
    """Compute the distance of the landmarks of one part of a face, each set relative to its own mean.

    The part's position does not count; how far it is opened or bent does.

    Args:
        predicted: (..., K, 2) in image widths.
        detected: (..., K, 2) in image widths.
        valid: (...) bool, False for images without detected landmarks.

    Returns:
        (..., K) in image widths; 0 where ``valid`` is False.
    """
    predicted, detected = (x - x.mean(-2, keepdim=True) for x in (predicted, detected))
    return landmark(predicted, detected, valid)


def fit_image_similarity(points: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Fit the turn, zoom and shift in the image plane that take points onto others, by least squares.

    Args:
        points: (..., N, 2).
        target: (..., N, 2).

    Returns:
        Matrices (..., 2, 2) and shifts (..., 1, 2): ``points @ matrix + shift`` is nearest to ``target``.
    """
    centre, target_centre = points.mean(-2, keepdim=True), target.mean(-2, keepdim=True)
    p, q = points - centre, target - target_centre
    size = p.square().sum((-2, -1)).clamp_min(1e-12)
    along = (p * q).sum((-2, -1)) / size
    across = (p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0]).sum(-1) / size
    matrix = torch.stack((along, across, -across, along), -1).unflatten(-1, (2, 2))
    return matrix, target_centre - centre @ matrix


def motion(predicted: Tensor, detected: Tensor, valid: Tensor, rigid: Tensor) -> Tensor:
    """Compute how far a person's landmarks move between drivers otherwise than the detected ones do.

    Each driver's predicted landmarks are laid onto the detected ones by the points that follow the skull: a face-rigid
    frame, in which poses do not count. The difference that is left belongs to the person's shape, which is the same in
    all drivers, or to an expression, which is not: the person's mean is subtracted.

    Args:
        predicted: (B, D, L, 2) in image widths.
        detected: (B, D, L, 2) in image widths.
        valid: (B, D) bool, False for drivers without detected landmarks.
        rigid: (K,) rows of the landmarks that follow the skull.

    Returns:
        (B, D, L) in image widths; 0 where ``valid`` is False.
    """
    # The fit is differentiated, too: held fixed, it has the gradient ask a pose for what the next fit takes back.
    matrix, shift = fit_image_similarity(predicted[..., rigid, :], detected[..., rigid, :])
    difference = predicted @ matrix + shift - detected
    weight = valid[..., None, None].to(difference)
    mean = (difference * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp_min(1)
    distance = (difference - mean).square().sum(-1).clamp_min(1e-10).sqrt()
    return torch.where(valid[..., None], distance, torch.zeros_like(distance))


def offset_size(avatar: CanonicalAvatar) -> Tensor:
    """Compute the length (B, P) of each Gaussian's offset from its head point, decimetres."""
    return 10 * avatar.offsets.square().sum(-1).clamp_min(1e-12).sqrt()


def scale_excess(avatar: CanonicalAvatar, spacing: Tensor, allowed: float = 1.5) -> Tensor:
    """Compute by how much standard deviations exceed a multiple of the point spacing.

    Args:
        avatar: B avatars of P Gaussians.
        spacing: (P,) mean distance of each point to its neighbours, metres.
        allowed: Largest standard deviation without a loss, in spacings.

    Returns:
        (B, P, 3) in spacings, 0 where the limit holds.
    """
    return (avatar.scales / spacing[:, None] - allowed).clamp_min(0)


def expression_size(parameters: DrivingParameters) -> Tensor:
    """Compute squared expression coefficients (B, D, E): a Gaussian prior in the head model's own units."""
    return parameters.expression.square()


def person_mean(parameters: DrivingParameters) -> Tensor:
    """Compute the squared mean (B, E + 15) of the expression and rotations of each person's D drivers.

    A constant over all drivers belongs to the person's shape and not to an expression: without this term the estimator
    explains the shape of a chin by the jaw's rotation.
    """
    return _expression_and_joints(parameters).mean(1).square()


def disagreement(each: DrivingParameters, shared: DrivingParameters, weight: Tensor) -> Tensor:
    """Compute how far the estimate of each view is from the mean of its timestep.

    All views of one timestep show the same expression.

    Args:
        each: (B, D, ...) parameters estimated from each view.
        shared: (B, D, ...) their means over the timestep (``model.average_over_timesteps``).
        weight: (B, D) how much of the face each view sees.

    Returns:
        (B, D, E + 15) weighted squared differences.
    """
    return weight[..., None] * (_expression_and_joints(each) - _expression_and_joints(shared)).square()


def _expression_and_joints(parameters: DrivingParameters) -> Tensor:
    """Return expression and joint rotations (B, D, E + 15), rotations in units of 0.2 rad, as large as coefficients."""
    return torch.cat((parameters.expression, parameters.rotations.flatten(-2) / 0.2), -1)


def joint_size(parameters: DrivingParameters) -> Tensor:
    """Compute squared joint rotations (B, D, 5, 3), rad²."""
    return parameters.rotations.square()
