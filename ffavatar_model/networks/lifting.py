"""Colours lifted from the source images onto the head's points, before anything is learned.

The query former derives a point's appearance from patches; this adds the pixel itself, under the pose that the
estimator gives for the source. Views are weighted by how squarely they see a point, so their order changes nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ffavatar_model.camera import project_points, virtual_intrinsics

GRAZING = 0.15
"""Cosine between surface normal and view below which a point counts as not seen."""


def point_normals(points: Tensor, triangles: Tensor) -> Tensor:
    """Return the unit normals of a mesh's points.

    Args:
        points: (..., P, 3) vertices.
        triangles: (F, 3) indices, counter-clockwise seen from outside.

    Returns:
        (..., P, 3) outward normals, each the mean of its triangles' normals weighted by their area.
    """
    a, b, c = points[..., triangles, :].unbind(-2)
    face = torch.linalg.cross(b - a, c - a)
    at_corners = face[..., None, :].expand(*face.shape[:-1], 3, 3).flatten(-3, -2)
    total = torch.zeros_like(points).index_add_(-2, triangles.flatten(), at_corners)
    return F.normalize(total, dim=-1)


def sum_lifted_colours(
    sources: Tensor, mask: Tensor, points: Tensor, normals: Tensor, head_to_camera: Tensor
) -> tuple[Tensor, Tensor]:
    """Sample S aligned source crops at the head's points, and sum over the sources.

    Args:
        sources: (B, S, 3, H, W) RGB in 0 to 1.
        mask: (B, S) bool, False is padding.
        points: (B, S, P, 3) the head posed as in each source, head axes, metres.
        normals: (P, 3) of the head at rest, or (B, 1, P, 3) of each person's.
        head_to_camera: (B, S, 3, 4) for the virtual camera of aligned crops.

    Returns:
        Colours (B, P, 3) weighted by how well each source sees the point, and those weights (B, P, 1), both summed
        over the sources. The sums of further sources can be added to them.
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
    """Turn the sums of ``sum_lifted_colours`` into the last entries of a point's feature.

    Args:
        colours: (B, P, 3) weighted sums.
        weights: (B, P, 1) sums of the weights.

    Returns:
        (B, P, 4): the mean colour (3), and how well the point was seen, 0 (not at all) to 1.
    """
    return torch.cat((colours / weights.clamp_min(1e-4), (4 * weights).clamp_max(1)), -1)
