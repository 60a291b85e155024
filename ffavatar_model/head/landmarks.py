"""Face-mesh points on a head's surface."""

from __future__ import annotations

from torch import Tensor

from ffavatar_model.head.interface import HeadModel


def landmark_points(head: HeadModel, vertices: Tensor) -> Tensor:
    """(B, L, 3) the head's landmarks on posed vertices (B, V, 3).

    Row l is point ``head.landmark_index[l]`` of the 468-point face mesh.
    """
    corners = vertices[:, head.triangles[head.landmark_triangles]]
    return (corners * head.landmark_barycentric[..., None]).sum(2)
