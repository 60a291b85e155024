"""Loss terms, unreduced: each function returns one value per element, and the caller weights and averages them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ffavatar_model.networks.efficientnet import EfficientNetDistance
from ffavatar_model.networks.estimator import DrivingParameters
from ffavatar_model.networks.gaussians import CanonicalAvatar
from ffavatar_model.networks.lpips import LPIPS


def photometric(rgb: Tensor, target: Tensor, matte: Tensor, outside: float = 0.2) -> Tensor:
    """Compute the absolute difference of images, weighted by the matte.

    Args:
        rgb: (..., 3, H, W) renderings, 0 to 1.
        target: (..., 3, H, W) images that they are compared with, 0 to 1.
        matte: (..., 1, H, W) in 0 to 1; the weight inside the matte is 1.
        outside: Weight outside the matte.

    Returns:
        (..., 3, H, W) weighted differences.
    """
    return (rgb - target).abs() * (outside + (1 - outside) * matte)


def coverage(alpha: Tensor, matte: Tensor) -> Tensor:
    """Compute the absolute difference (..., 1, H, W) between the rendered alpha and the matte, both in 0 to 1."""
    return (alpha - matte).abs()


def structural(rgb: Tensor, target: Tensor, window: int = 11, sigma: float = 1.5) -> Tensor:
    """Compute 1 − SSIM of each full window, in float32.

    SSIM follows Wang et al., "Image Quality Assessment" (2004): Gaussian window, K1 = 0.01, K2 = 0.03. Means over
    windows are computed as two products with banded matrices, many times as fast on a GPU as a convolution per channel.

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
    """Compute LPIPS (N,) between images (N, 3, H, W) in 0 to 1; the complete crops with background are compared."""
    return network(rgb, target)


def efficientnet(
    network: EfficientNetDistance, rgb: Tensor, target: Tensor, points: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute the EfficientNet distance of complete crops, and of the faces in them at twice the scale.

    Args:
        network: The network.
        rgb: (N, 3, H, W) renderings, 0 to 1.
        target: (N, 3, H, W) images that they are compared with, 0 to 1.
        points: (N, 468, 2) face-mesh points in the targets, image widths; points at zero are not used.
        valid: (N,) bool, False for targets without face-mesh points.

    Returns:
        Two times (N,) distances; the second is 0 if ``valid`` is False.
    """
    grid = face_box_grid(points, rgb.shape[-1])
    boxes = [F.grid_sample(x, grid, padding_mode="border", align_corners=False) for x in (rgb, target)]
    face = network(*boxes)
    return network(rgb, target), torch.where(valid, face, torch.zeros_like(face))


def face_box_grid(points: Tensor, size: int, share: float = 0.5) -> Tensor:
    """Return the sampling grid of a square box around face-mesh points, for ``torch.nn.functional.grid_sample``.

    Args:
        points: (N, P, 2) points, image widths; points at zero are not used.
        size: Pixels along the edge of the sampled box.
        share: Side of the box, as a share of the image's side.

    Returns:
        (N, size, size, 2) positions, -1 to 1 in the image; the box is moved to lie inside the image.
    """
    there = (points != 0).any(-1, keepdim=True)
    low = torch.where(there, points, torch.ones_like(points)).amin(1)
    high = torch.where(there, points, torch.zeros_like(points)).amax(1)
    centre = ((low + high) / 2).clamp(share / 2, 1 - share / 2)
    line = ((torch.arange(size, device=points.device) + 0.5) / size - 0.5) * share
    down, right = torch.meshgrid(line, line, indexing="ij")
    return 2 * (centre[:, None, None] + torch.stack((right, down), -1)) - 1


def ssim_scale(images: Tensor) -> Tensor:
    """Reduce images (N, C, H, W) by averaging to about 256 pixels, the scale at which SSIM and LPIPS are computed.

    The factor is max(1, round(min(H, W) / 256)), as the authors of SSIM recommend in their reference code.
    """
    factor = max(1, round(min(images.shape[-2:]) / 256))
    return images if factor == 1 else F.avg_pool2d(images, factor)


def _window_matrix(n: int, window: int, sigma: float, like: Tensor) -> Tensor:
    """Return the matrix (n - window + 1, n) whose product with n values is their Gaussian mean over each window."""
    offset = torch.arange(n, device=like.device)[None] - torch.arange(n - window + 1, device=like.device)[:, None]
    inside = (offset >= 0) & (offset < window)
    weights = torch.exp(-0.5 * ((offset.to(like) - (window - 1) / 2) / sigma) ** 2) * inside
    return weights / weights.sum(1, keepdim=True)


def landmark(predicted: Tensor, detected: Tensor, valid: Tensor) -> Tensor:
    """Compute the distances between projected and detected landmarks.

    Args:
        predicted: (..., L, 2) projected landmarks, image widths.
        detected: (..., L, 2) detected landmarks, image widths.
        valid: (...) bool, False for images without detected landmarks.

    Returns:
        (..., L) distances, image widths; 0 if ``valid`` is False.
    """
    distance = (predicted - detected).square().sum(-1).clamp_min(1e-10).sqrt()
    return torch.where(valid[..., None], distance, torch.zeros_like(distance))


def part_shape(predicted: Tensor, detected: Tensor, valid: Tensor) -> Tensor:
    """Compute the distances between the landmarks of one part of a face, each set relative to its own mean.

    The position of the part does not matter; its shape, for example its opening, does.

    Args:
        predicted: (..., K, 2) projected landmarks, image widths.
        detected: (..., K, 2) detected landmarks, image widths.
        valid: (...) bool, False for images without detected landmarks.

    Returns:
        (..., K) distances, image widths; 0 if ``valid`` is False.
    """
    predicted, detected = (x - x.mean(-2, keepdim=True) for x in (predicted, detected))
    return landmark(predicted, detected, valid)


def fit_image_similarity(points: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Fit the rotation, scale and shift in the image plane from points to target points, by least squares.

    Args:
        points: (..., N, 2) points.
        target: (..., N, 2) target points.

    Returns:
        Matrices (..., 2, 2) and shifts (..., 1, 2) for which ``points @ matrix + shift`` is closest to ``target``.
    """
    centre, target_centre = points.mean(-2, keepdim=True), target.mean(-2, keepdim=True)
    p, q = points - centre, target - target_centre
    size = p.square().sum((-2, -1)).clamp_min(1e-12)
    along = (p * q).sum((-2, -1)) / size
    across = (p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0]).sum(-1) / size
    matrix = torch.stack((along, across, -across, along), -1).unflatten(-1, (2, 2))
    return matrix, target_centre - centre @ matrix


def motion(predicted: Tensor, detected: Tensor, valid: Tensor, rigid: Tensor) -> Tensor:
    """Compare the motion of a person's projected landmarks between drivers with that of the detected landmarks.

    For each driver, a similarity fitted to the points that follow the skull aligns projected and detected landmarks, so
    the head's pose does not matter. The remaining difference is due to the person's shape, which is the same in all
    drivers, or to expressions. Subtracting the mean over the person's drivers removes the part due to shape.

    Args:
        predicted: (B, D, L, 2) projected landmarks, image widths.
        detected: (B, D, L, 2) detected landmarks, image widths.
        valid: (B, D) bool, False for drivers without detected landmarks.
        rigid: (K,) rows of the landmarks that follow the skull.

    Returns:
        (B, D, L) distances, image widths; 0 if ``valid`` is False.
    """
    # The gradient includes the fit. Otherwise it would change poses, and the next fit would undo the change.
    matrix, shift = fit_image_similarity(predicted[..., rigid, :], detected[..., rigid, :])
    difference = predicted @ matrix + shift - detected
    weight = valid[..., None, None].to(difference)
    mean = (difference * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp_min(1)
    distance = (difference - mean).square().sum(-1).clamp_min(1e-10).sqrt()
    return torch.where(valid[..., None], distance, torch.zeros_like(distance))


def offset_size(avatar: CanonicalAvatar) -> Tensor:
    """Compute the length (B, P) of the offset of each Gaussian from its head point, decimetres."""
    return 10 * avatar.offsets.square().sum(-1).clamp_min(1e-12).sqrt()


def scale_excess(avatar: CanonicalAvatar, spacing: Tensor, allowed: float = 1.5) -> Tensor:
    """Compute the excess of standard deviations over a multiple of the point spacing.

    Args:
        avatar: B avatars of P Gaussians.
        spacing: (P,) mean distance of each point to its neighbours, metres.
        allowed: Largest standard deviation without a loss, in spacings.

    Returns:
        (B, P, 3) excess in spacings, 0 for standard deviations within the limit.
    """
    return (avatar.scales / spacing[:, None] - allowed).clamp_min(0)


def expression_size(parameters: DrivingParameters) -> Tensor:
    """Compute squared expression coefficients (B, D, E), a Gaussian prior in the head model's units."""
    return parameters.expression.square()


def person_mean(parameters: DrivingParameters) -> Tensor:
    """Compute the squared mean (B, E + 15) of expression and joint rotations over the D drivers of each person.

    A deviation that is constant over all drivers is due to the person's shape and not to an expression. Without this
    term the estimator explains the shape of a chin by a rotation of the jaw.
    """
    return _expression_and_joints(parameters).mean(1).square()


def disagreement(each: DrivingParameters, shared: DrivingParameters, weight: Tensor) -> Tensor:
    """Compute the difference of each view's estimate from the mean over its timestep.

    It should be 0, because all views of one timestep show the same expression.

    Args:
        each: (B, D, ...) parameters estimated from each view.
        shared: (B, D, ...) means of these over each timestep (``model.average_over_timesteps``).
        weight: (B, D) weights of the views, larger if a view sees more of the face.

    Returns:
        (B, D, E + 15) weighted squared differences.
    """
    return weight[..., None] * (_expression_and_joints(each) - _expression_and_joints(shared)).square()


def _expression_and_joints(parameters: DrivingParameters) -> Tensor:
    """Return expression and joint rotations (B, D, E + 15); rotations are in units of 0.2 rad, to match in size."""
    return torch.cat((parameters.expression, parameters.rotations.flatten(-2) / 0.2), -1)


def joint_size(parameters: DrivingParameters) -> Tensor:
    """Compute squared joint rotations (B, D, 5, 3), rad²."""
    return parameters.rotations.square()
