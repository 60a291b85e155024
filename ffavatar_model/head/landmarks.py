"""Landmarks: points of the 468-point face mesh on a head's surface."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ffavatar_model.head.interface import LEFT_EYE, RIGHT_EYE, HeadModel


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


def iris_vertices(head: HeadModel) -> Tensor:
    """Return the vertex at the centre of each iris: the frontal vertex of an eyeball nearest to its axis.

    Args:
        head: The head model.

    Returns:
        (2,) int64 vertices of the head's own left and right eye; empty if an eye's joint moves no vertex as a whole.
    """
    joints, found = head.joint_regressor @ head.template, []
    for joint in (LEFT_EYE, RIGHT_EYE):
        ball = (head.skinning_weights[:, joint] > 0.5).nonzero()[:, 0]
        from_centre = head.template[ball] - joints[joint]
        frontal = from_centre[:, 2] > 0
        if not frontal.any():
            return torch.zeros(0, dtype=torch.int64, device=head.template.device)
        from_axis = torch.where(frontal, from_centre[:, :2].norm(dim=-1), torch.inf)
        found.append(ball[from_axis.argmin()])
    return torch.stack(found)


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
