"""Picture metrics against scikit-image, inside a matte, and over scales."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from ffavatar_model.evaluation import ms_ssim, psnr, sharpness_ratio, ssim


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    """Two smooth images that differ by noise."""
    g = torch.Generator().manual_seed(3)
    small = torch.rand(2, 3, 12, 12, generator=g)
    target = torch.nn.functional.interpolate(small, (96, 80), mode="bicubic").clamp(0, 1)
    return (target + 0.1 * torch.randn(target.shape, generator=g)).clamp(0, 1), target


def as_image(image: Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).double().numpy()


def test_psnr_and_ssim_are_those_of_scikit_image(pair: tuple[Tensor, Tensor]) -> None:
    rendered, target = pair
    for i in range(2):
        a, b = as_image(rendered[i]), as_image(target[i])
        assert float(psnr(rendered, target)[i]) == pytest.approx(peak_signal_noise_ratio(b, a, data_range=1), abs=1e-4)
        reference, full = structural_similarity(
            a,
            b,
            data_range=1,
            channel_axis=-1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )
        assert float(ssim(rendered, target)[i]) == pytest.approx(reference, abs=1e-4)
        matte = torch.zeros(1, 1, 96, 80)
        matte[..., 30:70, 20:60] = 1
        inside = full[30:70, 20:60].mean()
        assert float(ssim(rendered[i : i + 1], target[i : i + 1], matte)) == pytest.approx(inside, abs=1e-4)


def test_what_lies_outside_the_matte_does_not_count(pair: tuple[Tensor, Tensor]) -> None:
    rendered, target = pair
    matte = torch.zeros(2, 1, 96, 80)
    matte[..., 30:70, 20:60] = 1
    spoilt = torch.where(matte > 0, rendered, 1 - rendered)
    assert torch.equal(psnr(spoilt, target, matte), psnr(rendered, target, matte))
    assert (psnr(spoilt, target) < psnr(rendered, target) - 3).all()


def test_equal_images_score_best_and_more_noise_scores_less(pair: tuple[Tensor, Tensor]) -> None:
    rendered, target = pair
    for metric in (ssim, ms_ssim):
        torch.testing.assert_close(metric(target, target), torch.ones(2))
        half = torch.lerp(target, rendered, 0.5)
        assert (metric(rendered, target) < metric(half, target)).all()
    assert (ms_ssim(rendered, target) > ssim(rendered, target)).all(), "coarse scales average the noise away"


def test_blur_lowers_the_sharpness_ratio_inside_the_matte_alone(pair: tuple[Tensor, Tensor]) -> None:
    target, smooth = pair
    blurred = torch.nn.functional.avg_pool2d(target, 5, 1, 2, count_include_pad=False)
    torch.testing.assert_close(sharpness_ratio(target, target), torch.ones(2))
    assert (sharpness_ratio(blurred, target) < 0.5).all() and (sharpness_ratio(target, smooth) > 2).all()
    torch.testing.assert_close(sharpness_ratio(0.5 * target, target), torch.full((2,), 0.5))
    half = torch.zeros(2, 1, 96, 80)
    half[..., :40] = 1
    mixed = torch.cat((target[..., :41], blurred[..., 41:]), -1)  # the Laplacian reads one pixel beyond the matte
    torch.testing.assert_close(sharpness_ratio(mixed, target, half), torch.ones(2))
    assert (sharpness_ratio(mixed, target, 1 - half) < 0.6).all()
