"""Plain PyTorch blender of the reference renderer: front-to-back alpha blending of projected Gaussians.

It works on any device and for any floating type. The backward pass is written by hand: autograd would keep about
fifteen tensors of (pixel, Gaussian) pairs. This pass keeps two, and computes sums over pixels and over Gaussians as
small matrix products. ``compiled`` is the faster equivalent for float32 on the CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ffavatar_model.renderers.projection import ALPHA_MIN
from ffavatar_model.renderers.reference_tiles import TILE, TileBlock

ALPHA_MAX = 0.999
"""Largest alpha of a Gaussian, so that it never completely hides the Gaussians behind it."""
TRANSMITTANCE_MIN = 1e-4
"""Smallest transmittance: blending of a pixel ends before the Gaussian that would reduce it below this."""

_EMPTY = -1e4
"""Log opacity of the padding entry of a tile's list."""


def _pixel_basis(like: Tensor) -> Tensor:
    """Return 1, u, v, u², uv, v² (TILE², 6) at a tile's pixel centres; u and v are measured from the tile's centre."""
    centres = torch.arange(TILE, dtype=like.dtype, device=like.device) + 0.5 - TILE / 2
    v, u = (grid.flatten() for grid in torch.meshgrid(centres, centres, indexing="ij"))
    return torch.stack((torch.ones_like(u), u, v, u * u, u * v, v * v), -1)


def _polynomial(local: Tensor) -> Tensor:
    """Return the coefficients (B, K, 6) of log α in the basis of ``_pixel_basis``.

    ``local`` (B, K, 6) is offset x, y from the tile's centre, conic xx, xy, yy, and log opacity.
    """
    x, y, a, b, c, log_opacity = local.unbind(-1)
    gx, gy = a * x + b * y, b * x + c * y
    return torch.stack((log_opacity - 0.5 * (gx * x + gy * y), gx, gy, -0.5 * a, -b, -0.5 * c), -1)


def _polynomial_backward(local: Tensor, grad: Tensor) -> Tensor:
    """Compute the vector-Jacobian product of ``_polynomial``."""
    x, y, a, b, c, _ = local.unbind(-1)
    g0, gu, gv, guu, guv, gvv = grad.unbind(-1)
    return torch.stack(
        (
            a * gu + b * gv - (a * x + b * y) * g0,
            b * gu + c * gv - (b * x + c * y) * g0,
            x * gu - 0.5 * (x * x * g0 + guu),
            y * gu + x * gv - x * y * g0 - guv,
            y * gv - 0.5 * (y * y * g0 + gvv),
            g0,
        ),
        -1,
    )


def _tile_centres(tiles: Tensor, columns: int, rows: int, like: Tensor) -> Tensor:
    """Return the centre (B, 2) of each tile, in pixels of its image."""
    position = torch.stack((tiles % columns, tiles // columns % rows), -1).to(like.dtype)
    return (position + 0.5) * TILE


class _Blend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, n_images: int, width: int, height: int, blocks: list[TileBlock]) -> Tensor:
        columns, rows = -(-width // TILE), -(-height // TILE)
        basis = _pixel_basis(table)
        channels = table.shape[1] - 6
        out = table.new_zeros(n_images * rows * columns, TILE * TILE, channels)
        saved: list[tuple[Tensor, Tensor]] = []
        for tiles, members in blocks:
            values = table[members]
            local = values[..., :6].clone()
            local[..., :2] -= _tile_centres(tiles, columns, rows, table)[:, None]
            log_alpha = basis @ _polynomial(local).transpose(1, 2)
            alpha = log_alpha.exp_().clamp_(max=ALPHA_MAX)
            alpha = torch.threshold_(alpha, ALPHA_MIN, 0.0)
            left = 1 - alpha
            after = left.cumprod(-1)
            alpha *= after > TRANSMITTANCE_MIN
            before = after.div_(left)
            out[tiles] = torch.bmm(alpha * before, values[..., 6:])
            saved.append((alpha, before))
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(table)
            ctx.columns, ctx.rows, ctx.blocks, ctx.saved = columns, rows, blocks, saved
        return out

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        (table,) = ctx.saved_tensors
        basis = _pixel_basis(table)
        grad_table = torch.zeros_like(table)
        for (tiles, members), (alpha, before) in zip(ctx.blocks, ctx.saved, strict=True):
            values, grad = table[members], grad_out[tiles]
            local = values[..., :6].clone()
            local[..., :2] -= _tile_centres(tiles, ctx.columns, ctx.rows, table)[:, None]
            weight = alpha * before
            gain = torch.bmm(grad, values[..., 6:].transpose(1, 2))
            behind = (weight * gain).cumsum(-1)
            behind = behind[..., -1:] - behind
            grad_alpha = before * gain - behind.div_(1 - alpha)
            grad_log = grad_alpha.mul_(alpha).mul_(alpha < ALPHA_MAX)
            grad_values = torch.cat(
                (
                    _polynomial_backward(local, grad_log.transpose(1, 2) @ basis),
                    torch.bmm(weight.transpose(1, 2), grad),
                ),
                -1,
            )
            grad_table.index_add_(0, members.flatten(), grad_values.flatten(0, 1))
        return grad_table, None, None, None, None


def blend(
    means: Tensor, conics: Tensor, opacities: Tensor, features: Tensor, blocks: list[TileBlock], width: int, height: int
) -> Tensor:
    """Blend the features of projected Gaussians into images.

    The rules are gsplat's: α = min(0.999, opacity · exp(−½ dᵀ conic d)) at pixel centres; a Gaussian with α < 1/255 is
    skipped; blending of a pixel ends before its transmittance falls below 1e-4. A feature of ones gives the coverage.

    Args:
        means: (I, N, 2) centres, pixels.
        conics: (I, N, 3) upper triangle of the inverse covariance, 1/px².
        opacities: (I, N) 0 to 1.
        features: (I, N, C) values to blend.
        blocks: Result of ``reference_tiles.blocks_of_tiles``.
        width: Width of the images, pixels.
        height: Height of the images, pixels.

    Returns:
        (I, C, height, width) blended features.
    """
    n_images = means.shape[0]
    log_opacity = opacities.clamp_min(1e-12).log()[..., None]
    table = torch.cat((means, conics, log_opacity, features), -1).flatten(0, 1)
    padding = torch.zeros_like(table[:1])
    padding[:, 5] = _EMPTY
    out = _Blend.apply(torch.cat((table, padding)), n_images, width, height, blocks)
    rows, columns = -(-height // TILE), -(-width // TILE)
    out = out.view(n_images, rows, columns, TILE, TILE, -1).permute(0, 5, 1, 3, 2, 4)
    return out.reshape(n_images, -1, rows * TILE, columns * TILE)[..., :height, :width]
