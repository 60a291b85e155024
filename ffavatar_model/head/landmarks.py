"""Face-mesh points on a head's surface."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ffavatar_model.head.interface import HeadModel


def landmark_points(head: HeadModel, vertices: Tensor) -> Tensor:
    """(B, L, 3) the head's landmarks on posed vertices (B, V, 3).

    Row l is point ``head.landmark_index[l]`` of the 468-point face mesh.
    """
    corners = vertices[:, head.triangles[head.landmark_triangles]]
    return (corners * head.landmark_barycentric[..., None]).sum(2)


def with_landmarks(head: HeadModel, index: Any, triangles: Any, barycentric: Any) -> HeadModel:
    """The same head with landmarks (L,), (L,), (L, 3) (arrays or tensors) in place of those that it had."""
    return replace(
        head,
        landmark_index=torch.as_tensor(index, dtype=torch.int64),
        landmark_triangles=torch.as_tensor(triangles, dtype=torch.int64),
        landmark_barycentric=torch.as_tensor(barycentric, dtype=torch.float32),
    )
