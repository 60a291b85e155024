"""Colours lifted from the source images to the head's points, without learned parameters.

The query former computes a point's appearance from patches. This module adds the colour of the pixel at the point, for
the pose that the estimator gives for the source image. Views are weighted by how directly they face a point, and
summed, so their order does not matter.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ffavatar_model.camera import project_points, virtual_intrinsics

GRAZING = 0.15
"""Cosine of the angle between surface normal and direction to the camera, below which a point counts as not seen."""


def point_normals(points: Tensor, triangles: Tensor) -> Tensor:
    """Return the unit normals at the points of a mesh.

    Args:
        points: (..., P, 3) points, the mesh's vertices.
        triangles: (F, 3) indices of points, counter-clockwise seen from outside.

    Returns:
        (..., P, 3) outward normals: at each point the mean of its triangles' normals, weighted by area.
    """
    a, b, c = points[..., triangles, :].unbind(-2)
    face = torch.linalg.cross(b - a, c - a)
    at_corners = face[..., None, :].expand(*face.shape[:-1], 3, 3).flatten(-3, -2)
    total = torch.zeros_like(points).index_add_(-2, triangles.flatten(), at_corners)
    return F.normalize(total, dim=-1)


def sum_lifted_colours(
    sources: Tensor, mask: Tensor, points: Tensor, normals: Tensor, head_to_camera: Tensor
) -> tuple[Tensor, Tensor]:
    """Sample S aligned source crops at the head's points, and sum the weighted colours over the sources.

    Args:
        sources: (B, S, 3, H, W) RGB in 0 to 1.
        mask: (B, S) bool, False for padding.
        points: (B, S, P, 3) points of the head, posed as in each source, head axes, metres.
        normals: Normals of the head at rest: (P, 3), or (B, 1, P, 3) if people have different shapes.
        head_to_camera: (B, S, 3, 4) transforms to the virtual camera of aligned crops.

    Returns:
        Sums over the sources: of colours times weights (B, P, 3), and of weights (B, P, 1). A weight is larger if the
        source sees the point more directly. Sums over further sources can be added to these.
    """
    in_crop = project_points(points, head_to_camera, virtual_intrinsics(2, points)) - 1
    sampled = F.grid_sample(sources.flatten(0, 1), in_crop.flatten(0, 1)[:, None], align_corners=False)
    sampled = sampled[:, :, 0].transpose(1, 2).unflatten(0, sources.shape[:2])
    rotation, translation = head_to_camera[..., :3], head_to_camera[..., 3]
    view = F.normalize(points @ rotation.transpose(-1, -2) + translation[:, :, None], dim=-1)
    cosine = -(view * (normals @ rotation.transpose(-1, -2))).sum(-1, keepdim=True)
    inside = (in_crop.abs() < 1).all(-1, keepdim=True)
    weight = ((cosine - GRAZING) / (1 - GRAZING)).clamp(0, 1).square() * inside * mask[:, :, None, None]
    return (weight * sampled).sum(1), weight.sum(1)


def normalize_lifted_colours(colours: Tensor, weights: Tensor) -> Tensor:
    """Convert the sums of ``sum_lifted_colours`` to the four values appended to a point's feature.

    Args:
        colours: (B, P, 3) sums of colours times weights.
        weights: (B, P, 1) sums of the weights.

    Returns:
        (B, P, 4): mean colour (3), and visibility (1) from 0 (not seen) to 1.
    """
    return torch.cat((colours / weights.clamp_min(1e-4), (4 * weights).clamp_max(1)), -1)
