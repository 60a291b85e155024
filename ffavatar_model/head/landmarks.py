"""Landmarks: points of the 468-point face mesh on a head's surface."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ffavatar_model.head.interface import HeadModel


def landmark_points(head: HeadModel, vertices: Tensor) -> Tensor:
    """Return the positions of the head's landmarks for posed vertices.

    Args:
        head: The head model, with landmarks.
        vertices: (B, V, 3) posed vertices.

    Returns:
        (B, L, 3); row l is point ``head.landmark_index[l]`` of the 468-point face mesh.
    """
    corners = vertices[:, head.triangles[head.landmark_triangles]]
    return (corners * head.landmark_barycentric[..., None]).sum(2)


def with_landmarks(head: HeadModel, index: Any, triangles: Any, barycentric: Any) -> HeadModel:
    """Return a copy of the head with other landmarks.

    Args:
        head: The head model.
        index: (L,) index of each landmark among the face-mesh points; this and the other two are arrays or tensors.
        triangles: (L,) triangle on which each landmark lies.
        barycentric: (L, 3) barycentric coordinates of each landmark in its triangle.

    Returns:
        A copy of the head with these landmarks.
    """
    return replace(
        head,
        landmark_index=torch.as_tensor(index, dtype=torch.int64),
        landmark_triangles=torch.as_tensor(triangles, dtype=torch.int64),
        landmark_barycentric=torch.as_tensor(barycentric, dtype=torch.float32),
    )
