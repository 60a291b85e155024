"""Loss terms. Every function returns unreduced values; the caller weights and averages them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ffavatar_model.networks.estimator import DrivingParameters
from ffavatar_model.networks.gaussians import CanonicalAvatar
from ffavatar_model.networks.lpips import LPIPS


def photometric(rgb: Tensor, target: Tensor, matte: Tensor, outside: float = 0.2) -> Tensor:
    """Absolute difference (..., 3, H, W) of pictures in 0 to 1.

    It counts once inside the matte (..., 1, H, W), and ``outside`` times elsewhere.
    """
    return (rgb - target).abs() * (outside + (1 - outside) * matte)


def coverage(alpha: Tensor, matte: Tensor) -> Tensor:
    """Absolute difference (..., 1, H, W) of the rendered alpha and the matte, both 0 to 1."""
    return (alpha - matte).abs()


def structural(rgb: Tensor, target: Tensor, window: int = 11, sigma: float = 1.5) -> Tensor:
    """1 − SSIM, (N, C, H', W') for pictures (N, C, H, W) in 0 to 1, over full windows only, in float32.

    Wang et al., "Image Quality Assessment" (2004): Gaussian window, K1 = 0.01, K2 = 0.03. The window's means are two
    products with banded matrices: on a GPU many times as fast as a convolution of each channel by itself.
    """
    with torch.autocast(rgb.device.type, enabled=False):
        rgb, target = (x if x.dtype == torch.float64 else x.float() for x in (rgb, target))
        down, across = (_window_means(n, window, sigma, rgb) for n in rgb.shape[-2:])

        def mean(x: Tensor) -> Tensor:
            return down @ x @ across.T

        mu_a, mu_b = mean(rgb), mean(target)
        var_a, var_b = mean(rgb * rgb) - mu_a**2, mean(target * target) - mu_b**2
        both = mean(rgb * target) - mu_a * mu_b
        c1, c2 = 0.01**2, 0.03**2
        similarity = (2 * mu_a * mu_b + c1) * (2 * both + c2) / ((mu_a**2 + mu_b**2 + c1) * (var_a + var_b + c2))
        return 1 - similarity


def perceptual(network: LPIPS, rgb: Tensor, target: Tensor) -> Tensor:
    """LPIPS (N,) of pictures (N, 3, H, W) in 0 to 1, of whole crops as they stand over the background."""
    return network(rgb, target)


def ssim_scale(pictures: Tensor) -> Tensor:
    """(N, C, H, W) averaged down to about 256 pixels, the scale at which SSIM is meant to be taken; LPIPS is, too.

    By a factor of max(1, round(min(H, W) / 256)), as the authors of SSIM recommend with their reference code.
    """
    factor = max(1, round(min(pictures.shape[-2:]) / 256))
    return pictures if factor == 1 else F.avg_pool2d(pictures, factor)


def _window_means(n: int, window: int, sigma: float, like: Tensor) -> Tensor:
    """(n - window + 1, n) whose product with n values gives their Gaussian means over each full window."""
    offset = torch.arange(n, device=like.device)[None] - torch.arange(n - window + 1, device=like.device)[:, None]
    inside = (offset >= 0) & (offset < window)
    weights = torch.exp(-0.5 * ((offset.to(like) - (window - 1) / 2) / sigma) ** 2) * inside
    return weights / weights.sum(1, keepdim=True)


def landmark(predicted: Tensor, found: Tensor, valid: Tensor) -> Tensor:
    """Distance (..., L) of landmarks (..., L, 2), in picture widths; 0 where ``valid (...)`` is False."""
    distance = (predicted - found).square().sum(-1).clamp_min(1e-10).sqrt()
    return torch.where(valid[..., None], distance, torch.zeros_like(distance))


def part_shape(predicted: Tensor, found: Tensor, valid: Tensor) -> Tensor:
    """Distance (..., K) of the landmarks (..., K, 2) of one part of a face, each set taken about its own middle.

    Where the part lies does not count, how it is opened or bent does. 0 where ``valid (...)`` is False.
    """
    predicted, found = (x - x.mean(-2, keepdim=True) for x in (predicted, found))
    return landmark(predicted, found, valid)


def offset_size(avatar: CanonicalAvatar) -> Tensor:
    """(B, P) length of each Gaussian's offset from its head point, decimetres."""
    return 10 * avatar.offsets.square().sum(-1).clamp_min(1e-12).sqrt()


def scale_excess(avatar: CanonicalAvatar, spacing: Tensor, allowed: float = 1.5) -> Tensor:
    """(B, P, 3) by how much a standard deviation exceeds ``allowed`` spacings of its point, in spacings."""
    return (avatar.scales / spacing[:, None] - allowed).clamp_min(0)


def expression_size(parameters: DrivingParameters) -> Tensor:
    """(B, D, E) squared expression coefficients: a Gaussian prior in the head model's own units."""
    return parameters.expression.square()


def standing(parameters: DrivingParameters) -> Tensor:
    """(B, E + 15) squared mean of a person's drivers (B, D): what stands still is who they are, not what they do.

    Without it the estimator says the shape of a chin with the jaw.
    """
    return _moving(parameters).mean(1).square()


def disagreement(each: DrivingParameters, shared: DrivingParameters, weight: Tensor) -> Tensor:
    """(B, D, E + 15) squared distance of what each view says from what its moment shares, times ``weight (B, D)``.

    A face does one thing at a moment, from wherever it is seen; ``weight`` is how much of it a view sees.
    """
    return weight[..., None] * (_moving(each) - _moving(shared)).square()


def _moving(parameters: DrivingParameters) -> Tensor:
    """(B, D, E + 15) expression, and joint rotations in units of 0.2 rad: they have the size of a coefficient."""
    return torch.cat((parameters.expression, parameters.rotations.flatten(-2) / 0.2), -1)


def joint_size(parameters: DrivingParameters) -> Tensor:
    """(B, D, 5, 3) squared joint rotations, rad²."""
    return parameters.rotations.square()
