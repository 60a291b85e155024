"""Midpoint subdivision of a head model: more points on the same surface, posed in the same way."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ffavatar_model.head.interface import HeadModel


def subdivide(head: HeadModel) -> HeadModel:
    """Return a head with each edge's midpoint as a new vertex, and four triangles for each old one.

    FLAME's 5,023 vertices become 20,018. Every per-vertex quantity of a midpoint is the mean over the ends of its edge.
    Joints are regressed from the old vertices alone, so the old vertices of the posed, subdivided head have the same
    positions as before.
    """
    edges, faces = edge_midpoints(head.triangles, head.n_vertices)

    def extend(values: Tensor) -> Tensor:
        return torch.cat([values, values[edges].mean(1)])

    uvs, uv_triangles = head.uvs, head.uv_triangles
    if uvs.shape[0]:
        uv_edges, uv_triangles = edge_midpoints(uv_triangles, uvs.shape[0])
        uvs = torch.cat([uvs, uvs[uv_edges].mean(1)])
    # A point on an old triangle lies on one of the four new triangles that replace it.
    triangle, barycentric = _refine(head.landmark_triangles, head.landmark_barycentric)
    return replace(
        head,
        template=extend(head.template),
        shape_directions=extend(head.shape_directions),
        expression_directions=extend(head.expression_directions),
        pose_correctives=extend(head.pose_correctives),
        joint_regressor=torch.cat([head.joint_regressor, head.joint_regressor.new_zeros(5, len(edges))], 1),
        skinning_weights=extend(head.skinning_weights),
        triangles=faces,
        uvs=uvs,
        uv_triangles=uv_triangles,
        regions=extend(head.regions),
        landmark_triangles=triangle,
        landmark_barycentric=barycentric,
    )


def edge_midpoints(triangles: Tensor, n_points: int) -> tuple[Tensor, Tensor]:
    """Split every triangle into four at the midpoints of its edges.

    Args:
        triangles: (F, 3) indices of points.
        n_points: Number of points, n.

    Returns:
        Unique edges (M, 2), whose midpoints are points n to n + M - 1, and the new triangles (4 F, 3): four
        consecutive ones for each old triangle.
    """
    a, b, c = triangles.unbind(1)
    pairs = torch.stack([torch.stack([b, c], 1), torch.stack([c, a], 1), torch.stack([a, b], 1)], 1)
    edges, inverse = torch.unique(pairs.reshape(-1, 2).sort(1).values, dim=0, return_inverse=True)
    bc, ca, ab = (inverse.reshape(-1, 3) + n_points).unbind(1)
    corners = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (bc, ca, ab)]
    return edges, torch.stack([torch.stack(t, 1) for t in corners], 1).reshape(-1, 3)


def _refine(triangle: Tensor, barycentric: Tensor) -> tuple[Tensor, Tensor]:
    """Convert points on old triangles to points on the new triangles of ``edge_midpoints``."""
    largest, corner = barycentric.max(1)
    inner = largest < 0.5
    outer_coordinates = 2 * barycentric - torch.nn.functional.one_hot(corner, 3).to(barycentric)
    child = torch.where(inner, torch.full_like(corner, 3), corner)
    # Corners of the inner triangle are the midpoints opposite to a, b and c: a new coordinate is 1 - 2 x the old one.
    return 4 * triangle + child, torch.where(inner[:, None], 1 - 2 * barycentric, outer_coordinates)
