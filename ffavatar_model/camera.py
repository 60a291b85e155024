"""Pinhole cameras, and a head's pose as a network sees it in a crop.

Cameras are OpenCV: x right, y down, z forward; metres; pixels with (0, 0) at the outer corner of the
top-left pixel. A head's axes are +X to its own left, +Y up, +Z out of the face.

A **pose** is a tensor (..., 9) that says where and how a head appears in a picture, whatever camera took it:

- entries 0 to 5: the first two columns of the rotation (Zhou et al., "On the Continuity of Rotation
  Representations", 2019) from the head as it stands when it looks straight into the lens, seen
  along the ray through the head's origin;
- entry 6: log of the scale, in picture widths per metre at the origin's depth;
- entries 7 and 8: where the origin appears, -1 to 1 across the picture (x right) and down it (y down).

``pose_to_camera`` turns it into metres for any intrinsics. A crop whose camera is unknown gets
``virtual_intrinsics``: a portrait lens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ffavatar_model.head.skinning import arranged

FOCAL_IN_WIDTHS = 4.0
"""Focal length of the virtual camera in picture widths: a field of view of 14.25°, a head at about 1.1 m."""

CROP_EYE_SPAN = 0.22
"""Distance of the eyes in an aligned crop, of its side. Source: ``pipelines.faces.align.EYE_SPAN``."""
CROP_EYE_LEVEL = 0.53
"""Height of the eyes in an aligned crop, from its top. Source: ``pipelines.faces.align.EYE_LEVEL``."""

POSE_SIZE = 9

_Z_CROSS = ((0, 0, 0, 0, 0, 1, 0, 1, 0), (0, 0, 1, 0, 0, 1, -1, -1, 0))
"""r → the matrix of (z × r) ×; see ``arranged``."""


def virtual_intrinsics(size: int, like: Tensor | None = None) -> Tensor:
    """(3, 3) intrinsics in pixels of a square crop of ``size`` pixels whose camera is not known."""
    focal, centre = FOCAL_IN_WIDTHS * size, size / 2
    K = torch.eye(3) if like is None else torch.eye(3, dtype=like.dtype, device=like.device)
    # fills and not a copy from the host: this may be part of a CUDA graph
    K[:2, :2] *= focal
    K[:2, 2].fill_(centre)
    return K


def rotation_from_6d(values: Tensor) -> Tensor:
    """(..., 6) two columns of any length → (..., 3, 3) rotation, by Gram and Schmidt."""
    first = torch.nn.functional.normalize(values[..., :3], dim=-1)
    second = values[..., 3:] - (first * values[..., 3:]).sum(-1, keepdim=True) * first
    second = torch.nn.functional.normalize(second, dim=-1)
    return torch.stack((first, second, torch.linalg.cross(first, second)), -1)


def rotation_to_6d(rotation: Tensor) -> Tensor:
    """(..., 3, 3) → (..., 6): the first two columns."""
    return rotation[..., :2].transpose(-1, -2).flatten(-2)


def _flip(rotation: Tensor) -> Tensor:
    """(..., 3, 3) after a turn from head axes to the camera's of a head that looks into the lens: y and z flip."""
    x, y, z = rotation.unbind(-1)
    return torch.stack((x, -y, -z), -1)


def _towards(ray: Tensor) -> Tensor:
    """(..., 3) ray with z > 0 → (..., 3, 3) the smallest rotation that takes +z to it.

    Rodrigues' formula about v = z × ray: I + v× + (v×)² / (1 + cos).
    """
    ray = torch.nn.functional.normalize(ray, dim=-1)
    cross = arranged(ray, _Z_CROSS, 3)
    identity = torch.eye(3, dtype=ray.dtype, device=ray.device)
    return identity + cross + cross @ cross / (1 + ray[..., 2:, None])


def pose_to_camera(pose: Tensor, K: Tensor, width: int) -> Tensor:
    """(..., 9) pose in a square picture of ``width`` pixels with ``K (..., 3, 3)`` → (..., 3, 4) head to camera."""
    focal = K.diagonal(dim1=-2, dim2=-1)[..., :2]
    depth = focal.mean(-1, keepdim=True) / (width * pose[..., 6:7].exp())
    slope = ((pose[..., 7:9] + 1) * (width / 2) - K[..., :2, 2]) / focal
    ray = torch.cat((slope, torch.ones_like(slope[..., :1])), -1)
    turn = _flip(_towards(ray) @ rotation_from_6d(pose[..., :6]))
    return torch.cat((turn, (ray * depth)[..., None]), -1)


def camera_to_pose(head_to_camera: Tensor, K: Tensor, width: int) -> Tensor:
    """The inverse of ``pose_to_camera`` for a head in front of the camera."""
    at = head_to_camera[..., 3]
    ray = at / at[..., 2:3]
    focal = (K[..., 0, 0] + K[..., 1, 1]) / 2
    scale = (focal / (width * at[..., 2])).log()
    u = (ray[..., 0] * K[..., 0, 0] + K[..., 0, 2]) * (2 / width) - 1
    v = (ray[..., 1] * K[..., 1, 1] + K[..., 1, 2]) * (2 / width) - 1
    turn = _flip(_towards(ray).transpose(-1, -2) @ head_to_camera[..., :3])
    return torch.cat((rotation_to_6d(turn), torch.stack((scale, u, v), -1)), -1)


def aligned_pose(eye_distance: float) -> Tensor:
    """(9,) pose of a head that looks straight out of an aligned crop, its eyes ``eye_distance`` metres apart.

    The head's origin lies midway between its eyes (``ffavatar_model.head``).
    """
    scale = torch.tensor(CROP_EYE_SPAN / eye_distance).log()
    return torch.tensor([1.0, 0, 0, 0, 1.0, 0, float(scale), 0.0, 2 * CROP_EYE_LEVEL - 1])


def project_points(points: Tensor, head_to_camera: Tensor, K: Tensor) -> Tensor:
    """(..., N, 3) points in metres, (..., 3, 4), (..., 3, 3) → (..., N, 2) pixels. Depth is clamped to 1 cm."""
    in_camera = points @ head_to_camera[..., :3].transpose(-1, -2) + head_to_camera[..., None, :, 3]
    homogeneous = in_camera @ K.transpose(-1, -2)
    return homogeneous[..., :2] / homogeneous[..., 2:].clamp_min(0.01)


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """(..., 3, 4) rigid transform that applies ``inner`` first, then ``outer``."""
    turn = outer[..., :3] @ inner[..., :3]
    return torch.cat((turn, outer[..., :3] @ inner[..., 3:] + outer[..., 3:]), -1)


def reframe_pose(pose: Tensor, similarity: Tensor, from_width: int, to_width: int) -> Tensor:
    """A pose (..., 9) in one square picture as it appears in another.

    Args:
        similarity: (2, 3) from pixels of the first picture to pixels of the second, pixel centres at whole numbers (as
            in OpenCV; the model's are at +0.5).
        from_width, to_width: pixels along the edge of the two.

    Exact for a weak perspective: the picture plane turns by the similarity's angle, the scale by its factor.
    """
    linear, shift = similarity[:, :2], similarity[:, 2]
    factor = linear.det().abs().sqrt()
    turn = torch.eye(3).to(pose)
    turn[:2, :2] = linear / factor
    pixel = (pose[..., 7:9] + 1) * (from_width / 2) - 0.5
    place = (pixel @ linear.T + shift + 0.5) * (2 / to_width) - 1
    scale = pose[..., 6:7] + (factor * from_width / to_width).log()
    rotation = turn @ rotation_from_6d(pose[..., :6])
    return torch.cat((rotation_to_6d(rotation), scale, place), -1)
