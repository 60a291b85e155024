"""Projection of 3D Gaussians to the image plane (EWA splatting), with exactly the conventions of gsplat 1.5.3."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

EPS_2D = 0.3
"""Value added to the diagonal of each projected covariance, px², so that a Gaussian covers at least about a pixel."""
NEAR_PLANE = 0.01
"""Smallest depth of a drawn Gaussian, metres."""
ALPHA_MIN = 1.0 / 255.0
"""Smallest alpha that is blended."""
MAX_EXTENT = 3.33
"""Number of standard deviations beyond which the alpha of a Gaussian of opacity 1 is below ``ALPHA_MIN``."""


class Projected(NamedTuple):
    """N Gaussians of each of B sets in the image planes of V cameras."""

    means: Tensor
    """(B, V, N, 2) centres, pixels: x right, y down, (0, 0) at the outer corner of the top-left pixel."""
    conics: Tensor
    """(B, V, N, 3) upper triangle (xx, xy, yy) of the inverse 2D covariance, 1/px²."""
    depths: Tensor
    """(B, V, N) z in camera axes, metres."""
    radii: Tensor
    """(B, V, N, 2) half extents of the visible box, pixels, without gradient; 0 for Gaussians that are not drawn."""


def rotation_matrices(quaternions: Tensor) -> Tensor:
    """Convert quaternions (..., 4), w x y z, of any length but 0, to rotation matrices (..., 3, 3)."""
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    rows = (
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    )
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def project(
    means: Tensor,
    rotations: Tensor,
    scales: Tensor,
    opacities: Tensor,
    world_to_camera: Tensor,
    K: Tensor,
    width: int,
    height: int,
) -> Projected:
    """Project B sets of Gaussians into V cameras each.

    The covariance J W Σ Wᵀ Jᵀ + 0.3 I follows Zwicker et al., "EWA Splatting" (2002). As in gsplat, the Jacobian J is
    evaluated at a point that is clamped to 1.3 times the field of view.

    Args:
        means: (B, N, 3) centres, metres, world axes.
        rotations: (B, N, 4) quaternions w, x, y, z.
        scales: (B, N, 3) standard deviations, metres.
        opacities: (B, N) 0 to 1; smaller ones give smaller visible boxes.
        world_to_camera: (B, V, 3, 4) transforms, OpenCV axes, metres.
        K: (B, V, 3, 3) intrinsics, pixels.
        width: Width of the images, pixels.
        height: Height of the images, pixels.

    Returns:
        The Gaussians in the image planes.
    """
    turn, shift = world_to_camera[..., :3], world_to_camera[..., 3]
    in_camera = torch.einsum("bvij,bnj->bvni", turn, means) + shift[:, :, None]
    x, y, z = in_camera.unbind(-1)
    depth = z.clamp_min(NEAR_PLANE)
    fx, fy, cx, cy = (K[..., i, j, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    margin_x, margin_y = 0.15 * width / fx, 0.15 * height / fy
    slope_x = (x / depth).clamp(-(cx / fx + margin_x), (width - cx) / fx + margin_x)
    slope_y = (y / depth).clamp(-(cy / fy + margin_y), (height - cy) / fy + margin_y)

    axes = rotation_matrices(rotations) * scales[..., None, :]
    axes = torch.einsum("bvij,bnjk->bvnik", turn, axes)
    # Rows of J W R S; products of these rows are the entries of the projected covariance.
    row_x = (fx / depth)[..., None] * (axes[..., 0, :] - slope_x[..., None] * axes[..., 2, :])
    row_y = (fy / depth)[..., None] * (axes[..., 1, :] - slope_y[..., None] * axes[..., 2, :])
    xx = row_x.square().sum(-1) + EPS_2D
    yy = row_y.square().sum(-1) + EPS_2D
    xy = (row_x * row_y).sum(-1)
    determinant = xx * yy - xy * xy
    conics = torch.stack((yy, -xy, xx), -1) / determinant[..., None]
    pixels = torch.stack((fx * x / depth + cx, fy * y / depth + cy), -1)

    with torch.no_grad():
        opacity = opacities[:, None].expand_as(z)
        extent = (2 * (opacity / ALPHA_MIN).clamp_min(1).log()).sqrt().clamp_max(MAX_EXTENT)
        radii = extent[..., None] * torch.stack((xx, yy), -1).sqrt()
        drawn = (z >= NEAR_PLANE) & (opacity >= ALPHA_MIN) & (determinant > 0) & torch.isfinite(pixels).all(-1)
        radii = torch.where(drawn[..., None], radii, torch.zeros_like(radii))
    return Projected(pixels, conics, z, radii)
