"""The renderers against a naive loop in float64, and against each other on a GPU (``-m gpu``)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ffavatar_model.renderers import Rendering, compiled, rasterize_reference, render_gaussians

NAMES = ("means", "rotations", "scales", "opacities", "colours", "world_to_camera", "K")


def scene(seed: int, n: int = 36, sets: int = 2, views: int = 2, size: int = 24, opacity: float = 1.0) -> list[Tensor]:
    """Random Gaussians of every shape, some behind the camera, some outside the image, many overlapping."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    cameras = torch.eye(3, 4, dtype=torch.float64).repeat(sets, views, 1, 1)
    cameras[..., :3] += 0.2 * normal(sets, views, 3, 3)
    cameras[..., :3] = torch.linalg.qr(cameras[..., :3])[0]
    cameras[..., :3] *= cameras[..., :3].diagonal(dim1=-2, dim2=-1).sign()[..., None, :]
    cameras[..., 2, 3] = 1.0
    K = torch.tensor([[2.0 * size, 0, 0.45 * size], [0, 2.2 * size, 0.52 * size], [0, 0, 1]], dtype=torch.float64)
    return [
        0.25 * normal(sets, n, 3),
        normal(sets, n, 4),
        0.02 * (0.8 * normal(sets, n, 3)).exp(),
        torch.rand(sets, n, generator=random, dtype=torch.float64) * opacity,
        torch.rand(sets, n, 3, generator=random, dtype=torch.float64),
        cameras,
        K.repeat(sets, views, 1, 1),
    ]


def naive(values: list[Tensor], width: int, height: int) -> Rendering:
    """Every Gaussian at every pixel, one after the other, written from the definition."""
    means, quaternions, scales, opacities, colours, cameras, Ks = values
    pixels = torch.stack(torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy"), -1) + 0.5
    images: list[Tensor] = []
    for b in range(len(means)):
        for v in range(cameras.shape[1]):
            R, t, K = cameras[b, v, :, :3], cameras[b, v, :, 3], Ks[b, v]
            at = means[b] @ R.T + t
            T = torch.ones(height, width, dtype=means.dtype)
            alive = torch.ones(height, width, dtype=torch.bool)
            out = torch.zeros(5, height, width, dtype=means.dtype)
            for i in at[:, 2].argsort().tolist():
                x, y, z = at[i]
                if z < 0.01:
                    continue
                w, qx, qy, qz = quaternions[b, i] / quaternions[b, i].norm()
                turn = torch.stack(
                    (
                        1 - 2 * (qy**2 + qz**2),
                        2 * (qx * qy - w * qz),
                        2 * (qx * qz + w * qy),
                        2 * (qx * qy + w * qz),
                        1 - 2 * (qx**2 + qz**2),
                        2 * (qy * qz - w * qx),
                        2 * (qx * qz - w * qy),
                        2 * (qy * qz + w * qx),
                        1 - 2 * (qx**2 + qy**2),
                    )
                ).reshape(3, 3)
                M = R @ turn @ torch.diag(scales[b, i])
                fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
                sx = (x / z).clamp(-cx / fx - 0.15 * width / fx, (width - cx) / fx + 0.15 * width / fx)
                sy = (y / z).clamp(-cy / fy - 0.15 * height / fy, (height - cy) / fy + 0.15 * height / fy)
                zero = torch.zeros((), dtype=means.dtype)
                J = torch.stack((fx / z, zero, -fx * sx / z, zero, fy / z, -fy * sy / z)).reshape(2, 3)
                conic = (J @ M @ M.T @ J.T + 0.3 * torch.eye(2, dtype=means.dtype)).inverse()
                d = pixels - torch.stack((fx * x / z + cx, fy * y / z + cy))
                sigma = 0.5 * torch.einsum("hwi,ij,hwj->hw", d, conic, d)
                alpha = (opacities[b, i] * (-sigma).exp()).clamp_max(0.999)
                alpha = torch.where(alpha < 1 / 255, 0.0, alpha)
                alive = alive & (T * (1 - alpha) > 1e-4)
                alpha = torch.where(alive, alpha, 0.0)
                features = torch.cat((colours[b, i], torch.ones(1, dtype=means.dtype), z[None]))
                out = out + features[:, None, None] * alpha * T
                T = T * (1 - alpha)
            images.append(out)
    image = torch.stack(images).unflatten(0, cameras.shape[:2])
    return Rendering(image[:, :, :3], image[:, :, 3:4], image[:, :, 4:] / image[:, :, 3:4].clamp_min(1e-10))


def gradients(rendered: Rendering, values: list[Tensor]) -> list[Tensor]:
    """Return the gradients of a fixed random weighting of every output."""
    random = torch.Generator().manual_seed(1)
    loss = sum(
        (image * torch.rand(image.shape, generator=random, dtype=torch.float64).to(image)).sum() for image in rendered
    )
    return list(torch.autograd.grad(loss, values))


@pytest.mark.parametrize(("seed", "width", "height", "opacity"), [(0, 24, 24, 1.0), (1, 23, 18, 0.3), (2, 9, 30, 1.0)])
def test_reference_equals_naive_loop_in_values_and_gradients(seed: int, width: int, height: int, opacity: float):
    values = [v.requires_grad_() for v in scene(seed, opacity=opacity)]
    got, expected = render_gaussians(*values, width, height), naive(values, width, height)
    assert expected.alpha.max() > 0.3 and expected.alpha.min() < 0.1
    for name, a, b in zip(Rendering._fields, got, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-7, msg=lambda m, name=name: f"{name}: {m}")
    for name, a, b in zip(NAMES, gradients(got, values), gradients(expected, values), strict=True):
        torch.testing.assert_close(a, b, atol=1e-7, rtol=1e-6, msg=lambda m, name=name: f"gradient of {name}: {m}")


def test_opaque_stack_ends_where_the_light_ends():
    """Forty opaque layers: blending stops at 1e-4, and what lies behind changes nothing and gets no gradient."""
    values = scene(3, n=40, sets=1, views=1)
    values[0] = torch.zeros_like(values[0])
    values[0][..., 2] = torch.linspace(-0.2, 0.2, 40)
    values[2], values[3] = torch.full_like(values[2], 0.5), torch.ones_like(values[3])
    values = [v.requires_grad_() for v in values]
    got, expected = render_gaussians(*values, 24, 24), naive(values, 24, 24)
    torch.testing.assert_close(got.rgb, expected.rgb, atol=1e-9, rtol=1e-7)
    colour = gradients(got, values)[4]
    assert (colour[0, 0] != 0).all() and (colour[0, 20:] == 0).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_compiled_blending_equals_the_naive_loop_in_values_and_gradients(threads: int):
    """Float32 on a CPU is blended by compiled loops: same images, same gradients, on any number of threads."""
    assert compiled.has_numba()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for seed, width, height, opacity in ((0, 24, 24, 1.0), (1, 23, 18, 0.3), (2, 9, 30, 1.0)):
            values = [v.requires_grad_() for v in scene(seed, n=60, opacity=opacity)]
            single = [v.detach().float().requires_grad_() for v in values]
            got, expected = render_gaussians(*single, width, height), naive(values, width, height)
            for name, a, b in zip(Rendering._fields, got, expected, strict=True):
                torch.testing.assert_close(a.double(), b, atol=2e-4, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}")
            again = gradients(got, single)
            for name, a, b in zip(NAMES, again, gradients(expected, values), strict=True):
                assert (a.double() - b).norm() < 2e-4 * b.norm(), f"gradient of {name}"
            assert all(map(torch.equal, again, gradients(render_gaussians(*single, width, height), single))), (
                "same every time"
            )
    finally:
        torch.set_num_threads(before)


def test_compiled_blending_ends_where_the_light_ends_and_keeps_what_is_not_a_number():
    values = scene(3, n=40, sets=1, views=1)
    values[0] = torch.zeros_like(values[0])
    values[0][..., 2] = torch.linspace(-0.2, 0.2, 40)
    values[2], values[3] = torch.full_like(values[2], 0.5), torch.ones_like(values[3])
    single = [v.float().requires_grad_() for v in values]
    got = render_gaussians(*single, 24, 24)
    torch.testing.assert_close(got.rgb.double(), naive(values, 24, 24).rgb, atol=1e-5, rtol=1e-5)
    colour = gradients(got, single)[4]
    assert (colour[0, 0] != 0).all() and (colour[0, 20:] == 0).all()
    broken = [v.detach().clone() for v in single]
    broken[4][0, 0, 0] = torch.nan
    assert render_gaussians(*broken, 24, 24).rgb.isnan().any(), "training stops at a loss that is not a number"


def test_float32_is_close_and_background_fills_what_is_not_covered():
    values = scene(4, n=300, size=48)
    exact = render_gaussians(*values, 48, 48)
    single = render_gaussians(*(v.float() for v in values), 48, 48, torch.tensor([0.2, 0.4, 0.6]))
    background = torch.tensor([0.2, 0.4, 0.6], dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(single.rgb.double(), exact.rgb + (1 - exact.alpha) * background, atol=2e-4, rtol=1e-3)


def test_nothing_in_sight_gives_the_background_and_zero_gradients():
    values = [v.requires_grad_() for v in scene(5)]
    with torch.no_grad():
        values[5][..., 2, 3] = -10.0
    got = render_gaussians(*values, 16, 16, torch.ones(3))
    assert (got.rgb == 1).all() and (got.alpha == 0).all() and (got.depth == 0).all()
    assert all((g == 0).all() for g in gradients(got, values))


def test_sets_and_views_do_not_mix():
    values = scene(6, sets=3, views=2)
    together = render_gaussians(*values, 24, 24).rgb
    alone = render_gaussians(*(v[1:2] for v in values), 24, 24).rgb
    torch.testing.assert_close(together[1:2], alone)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: torch.cuda.is_available() is False")
@pytest.mark.parametrize(("seed", "n", "size"), [(0, 200, 48), (1, 5000, 200), (2, 20000, 256)])
def test_gsplat_equals_reference_in_values_and_gradients(seed: int, n: int, size: int):
    values = [v.float().cuda().requires_grad_() for v in scene(seed, n=n, size=size, opacity=0.9)]
    fast = render_gaussians(*values, size, size)
    slow_rgb, slow_alpha, slow_depth = rasterize_reference(*values, size, size)
    slow = Rendering(slow_rgb, slow_alpha, slow_depth / slow_alpha.clamp_min(1e-10))
    for name, a, b in zip(("rgb", "alpha"), fast, slow, strict=False):
        error = (a - b).abs()
        # A Gaussian right at the 1/255 or the 1e-4 limit may fall on either side in float32.
        assert error.mean() < 1e-5, f"{name}: mean error {error.mean():.2e}"
        assert (error > 1e-3).float().mean() < 1e-3, f"{name}: {(error > 1e-3).float().mean():.2e} of the pixels differ"
    names = ("means", "rotations", "scales", "opacities", "colours")
    for name, a, b in zip(names, gradients(fast, values[:5]), gradients(slow, values[:5]), strict=True):
        assert (a - b).norm() < 1e-3 * b.norm(), f"gradient of {name}: off by {((a - b).norm() / b.norm()):.2e}"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: torch.cuda.is_available() is False")
def test_gsplat_equals_the_naive_loop():
    values = [v.cuda().float() for v in scene(7)]
    fast, exact = render_gaussians(*values, 24, 24), naive(scene(7), 24, 24)
    assert (fast.rgb.cpu() - exact.rgb).abs().max() < 1e-3
    assert (fast.depth.cpu() - exact.depth).abs().max() < 1e-2
