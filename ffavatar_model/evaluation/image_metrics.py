"""Image metrics inside a matte. Images (N, 3, H, W) are RGB in 0 to 1; the result is one value per image."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW, SIGMA = 11, 1.5
"""Side and standard deviation of SSIM's Gaussian window, pixels (Wang et al. 2004)."""
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of MS-SSIM's five scales (Wang, Simoncelli and Bovik 2003)."""
_C1, _C2 = 0.01**2, 0.03**2
"""Stabilising constants of SSIM, for values in 0 to 1 (K1 = 0.01, K2 = 0.03)."""


def psnr(rendered: Tensor, target: Tensor, matte: Tensor | None = None) -> Tensor:
    """Compute the peak signal-to-noise ratio.

    Args:
        rendered: (N, 3, H, W) renderings.
        target: (N, 3, H, W) images that they are compared with.
        matte: (N, 1, H, W) weights of the squared errors; None weights all pixels equally.

    Returns:
        (N,) dB.
    """
    weight = torch.ones_like(target) if matte is None else matte.expand_as(target)
    error = ((rendered.clamp(0, 1) - target).square() * weight).sum((1, 2, 3))
    return -10 * (error / weight.sum((1, 2, 3)).clamp_min(1)).clamp_min(1e-10).log10()


def ssim(rendered: Tensor, target: Tensor, matte: Tensor | None = None) -> Tensor:
    """Compute the mean structural similarity over full windows.

    Windows have Gaussian weights and population covariance; the result is the mean over three channels. It equals
    scikit-image's ``structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    data_range=1)``.

    Args:
        rendered: (N, 3, H, W) renderings.
        target: (N, 3, H, W) images that they are compared with.
        matte: (N, 1, H, W); a window's weight is the value at its middle. None weights all windows equally.

    Returns:
        (N,) similarities, 1 for equal images.
    """
    similarity, _ = _similarity_maps(rendered.clamp(0, 1), target)
    return _weighted_mean(similarity, matte)


def ms_ssim(rendered: Tensor, target: Tensor, matte: Tensor | None = None) -> Tensor:
    """Compute the multi-scale structural similarity.

    It uses five scales, or fewer if a smaller image would have no full window; the weights are then renormalised.

    Args:
        rendered: (N, 3, H, W) renderings.
        target: (N, 3, H, W) images that they are compared with.
        matte: (N, 1, H, W) weights, as in ``ssim``.

    Returns:
        (N,) similarities, 1 for equal images.
    """
    rendered = rendered.clamp(0, 1)
    scales = 1
    while scales < len(SCALE_WEIGHTS) and min(target.shape[-2:]) >> scales >= WINDOW:
        scales += 1
    weights = torch.tensor(SCALE_WEIGHTS[:scales], dtype=torch.float64)
    total = torch.ones(len(target), device=target.device)
    for i, weight in enumerate((weights / weights.sum()).tolist()):
        similarity, contrast = _similarity_maps(rendered, target)
        value = _weighted_mean(similarity if i == scales - 1 else contrast, matte)
        total = total * value.clamp_min(0) ** weight
        rendered, target = F.avg_pool2d(rendered, 2), F.avg_pool2d(target, 2)
        matte = None if matte is None else F.avg_pool2d(matte, 2)
    return total


def sharpness_ratio(rendered: Tensor, target: Tensor, matte: Tensor | None = None) -> Tensor:
    """Compute the ratio of the mean absolute Laplacian of renderings to that of their targets, in luminance.

    Args:
        rendered: (N, 3, H, W) renderings.
        target: (N, 3, H, W) images that they are compared with.
        matte: (N, 1, H, W) weights of the pixels; None weights all pixels equally.

    Returns:
        (N,) ratios: 1 is as sharp as the target, below 1 is blurred.
    """
    kernel = target.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])[None, None]
    weight = torch.ones_like(target[:, :1]) if matte is None else matte
    weight = weight[..., 1:-1, 1:-1]
    ours, theirs = (
        (F.conv2d(luminance(x), kernel).abs() * weight).sum((1, 2, 3)) for x in (rendered.clamp(0, 1), target)
    )
    return ours / theirs.clamp_min(1e-9)


def luminance(images: Tensor) -> Tensor:
    """Return the luma (N, 1, H, W) of RGB images (N, 3, H, W), with the weights of Rec. 601."""
    return (images * images.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)


def _similarity_maps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return maps of SSIM and of its contrast-structure part, (N, 3, H', W'), one value per full window."""
    offset = torch.arange(WINDOW, dtype=a.dtype, device=a.device) - WINDOW // 2
    kernel = torch.exp(-0.5 * (offset / SIGMA) ** 2)
    kernel = (kernel / kernel.sum()).expand(a.shape[1], 1, 1, -1)

    def mean(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, kernel, groups=x.shape[1]), kernel.transpose(-1, -2), groups=x.shape[1])

    mu_a, mu_b = mean(a), mean(b)
    var_a, var_b, covariance = mean(a * a) - mu_a**2, mean(b * b) - mu_b**2, mean(a * b) - mu_a * mu_b
    contrast = (2 * covariance + _C2) / (var_a + var_b + _C2)
    return (2 * mu_a * mu_b + _C1) / (mu_a**2 + mu_b**2 + _C1) * contrast, contrast


def _weighted_mean(values: Tensor, matte: Tensor | None) -> Tensor:
    edge = WINDOW // 2
    weight = torch.ones_like(values) if matte is None else matte[..., edge:-edge, edge:-edge].expand_as(values)
    return (values * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp_min(1e-6)
