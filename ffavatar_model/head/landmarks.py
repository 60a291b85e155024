"""Face-mesh points on a head's surface."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ffavatar_model.head.interface import HeadModel


def landmark_points(head: HeadModel, vertices: Tensor) -> Tensor:
    """Return the head's landmarks on posed vertices.

    Args:
        head: The head model, with landmarks.
        vertices: (B, V, 3) posed.

    Returns:
        (B, L, 3); row l is point ``head.landmark_index[l]`` of the 468-point face mesh.
    """
    corners = vertices[:, head.triangles[head.landmark_triangles]]
    return (corners * head.landmark_barycentric[..., None]).sum(2)


def with_landmarks(head: HeadModel, index: Any, triangles: Any, barycentric: Any) -> HeadModel:
    """Return the same head with other landmarks.

    Args:
        head: The head model.
        index: (L,) index of each landmark among the face-mesh points; an array or a tensor, as the others.
        triangles: (L,) triangle of each landmark.
        barycentric: (L, 3) barycentric coordinates in that triangle.

    Returns:
        A copy with these landmarks.
    """
    return replace(
        head,
        landmark_index=torch.as_tensor(index, dtype=torch.int64),
        landmark_triangles=torch.as_tensor(triangles, dtype=torch.int64),
        landmark_barycentric=torch.as_tensor(barycentric, dtype=torch.float32),
    )
