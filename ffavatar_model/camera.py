"""Pinhole cameras, and the pose of a head in an image.

Cameras are OpenCV: x right, y down, z forward; metres; pixels with (0, 0) at the outer corner of the
top-left pixel. A head's axes are +X to its own left, +Y up, +Z out of the face.

A **pose** is a tensor (..., 9): position, scale and orientation of a head in an image, for any camera:

- entries 0 to 5: the first two columns (Zhou et al., "On the Continuity of Rotation Representations",
  2019) of the rotation away from a head that looks straight into the lens, as viewed along the ray
  through the head's origin;
- entry 6: logarithm of the scale, in image widths per metre at the origin's depth;
- entries 7 and 8: position of the origin in the image, x from -1 (left) to 1 (right), y from -1 (top)
  to 1 (bottom).

``pose_to_camera`` converts a pose to a transform in metres for any intrinsics. A crop from an unknown
camera gets ``virtual_intrinsics``, those of a portrait lens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ffavatar_model.head.skinning import signed_matrix

FOCAL_IN_WIDTHS = 4.0
"""Focal length of the virtual camera in image widths: the field of view is 14.25°, and a head is about 1.1 m away."""

CROP_EYE_SPAN = 0.22
"""Distance between the eyes in an aligned crop, as a share of its side; equal to ``pipelines.faces.align.EYE_SPAN``."""
CROP_EYE_LEVEL = 0.53
"""Distance of the eyes from the top of an aligned crop, as a share of its side; ``pipelines.faces.align.EYE_LEVEL``."""

POSE_SIZE = 9
"""Number of entries of a pose."""

_Z_CROSS = ((0, 0, 0, 0, 0, 1, 0, 1, 0), (0, 0, 1, 0, 0, 1, -1, -1, 0))
"""Entries of the matrix [z × r]× (the cross product with z × r) for a vector r; see ``signed_matrix``."""


def virtual_intrinsics(size: int, like: Tensor | None = None) -> Tensor:
    """Return the intrinsics of the virtual camera that replaces an unknown one.

    Args:
        size: Pixels along the edge of the square crop.
        like: Tensor whose dtype and device are used; None means float32 on the CPU.

    Returns:
        (3, 3) intrinsics in pixels.
    """
    focal, centre = FOCAL_IN_WIDTHS * size, size / 2
    K = torch.eye(3) if like is None else torch.eye(3, dtype=like.dtype, device=like.device)
    # no copy from the host, because this may be part of a CUDA graph
    K[:2, :2] *= focal
    K[:2, 2].fill_(centre)
    return K


def rotation_from_6d(values: Tensor) -> Tensor:
    """Convert two column vectors of any length (..., 6) to a rotation (..., 3, 3), by Gram-Schmidt."""
    first = torch.nn.functional.normalize(values[..., :3], dim=-1)
    second = values[..., 3:] - (first * values[..., 3:]).sum(-1, keepdim=True) * first
    second = torch.nn.functional.normalize(second, dim=-1)
    return torch.stack((first, second, torch.linalg.cross(first, second)), -1)


def rotation_to_6d(rotation: Tensor) -> Tensor:
    """Return the first two columns (..., 6) of rotations (..., 3, 3)."""
    return rotation[..., :2].transpose(-1, -2).flatten(-2)


def _flip(rotation: Tensor) -> Tensor:
    """Return the rotation that first flips y and z (head axes to camera axes of a head that faces the lens)."""
    x, y, z = rotation.unbind(-1)
    return torch.stack((x, -y, -z), -1)


def _rotation_to(ray: Tensor) -> Tensor:
    """Return the smallest rotation (..., 3, 3) that takes +z to the direction of a ray (..., 3) with z > 0.

    The formula is Rodrigues' with v = z × ray: I + [v]× + [v]×² / (1 + cos).
    """
    ray = torch.nn.functional.normalize(ray, dim=-1)
    cross = signed_matrix(ray, _Z_CROSS, 3)
    identity = torch.eye(3, dtype=ray.dtype, device=ray.device)
    return identity + cross + cross @ cross / (1 + ray[..., 2:, None])


def pose_to_camera(pose: Tensor, K: Tensor, width: int) -> Tensor:
    """Convert a pose to a transform from head to camera.

    Args:
        pose: (..., 9) pose in a square image.
        K: (..., 3, 3) intrinsics of that image, pixels.
        width: Pixels along the image's edge.

    Returns:
        (..., 3, 4) transform, metres, OpenCV axes.
    """
    focal = K.diagonal(dim1=-2, dim2=-1)[..., :2]
    depth = focal.mean(-1, keepdim=True) / (width * pose[..., 6:7].exp())
    slope = ((pose[..., 7:9] + 1) * (width / 2) - K[..., :2, 2]) / focal
    ray = torch.cat((slope, torch.ones_like(slope[..., :1])), -1)
    rotation = _flip(_rotation_to(ray) @ rotation_from_6d(pose[..., :6]))
    return torch.cat((rotation, (ray * depth)[..., None]), -1)


def camera_to_pose(head_to_camera: Tensor, K: Tensor, width: int) -> Tensor:
    """Convert a transform from head to camera to a pose: the inverse of ``pose_to_camera``.

    Args:
        head_to_camera: (..., 3, 4) transform, metres, OpenCV axes; the head is in front of the camera.
        K: (..., 3, 3) intrinsics of a square image, pixels.
        width: Pixels along the image's edge.

    Returns:
        (..., 9) pose.
    """
    origin = head_to_camera[..., 3]
    ray = origin / origin[..., 2:3]
    focal = (K[..., 0, 0] + K[..., 1, 1]) / 2
    scale = (focal / (width * origin[..., 2])).log()
    u = (ray[..., 0] * K[..., 0, 0] + K[..., 0, 2]) * (2 / width) - 1
    v = (ray[..., 1] * K[..., 1, 1] + K[..., 1, 2]) * (2 / width) - 1
    rotation = _flip(_rotation_to(ray).transpose(-1, -2) @ head_to_camera[..., :3])
    return torch.cat((rotation_to_6d(rotation), torch.stack((scale, u, v), -1)), -1)


def aligned_pose(eye_distance: float) -> Tensor:
    """Return the pose (9,) of a head that looks straight out of an aligned crop.

    ``eye_distance`` is the distance between the eyes, in metres. The head's origin is midway between its eyes
    (``ffavatar_model.head.interface``).
    """
    scale = torch.tensor(CROP_EYE_SPAN / eye_distance).log()
    return torch.tensor([1.0, 0, 0, 0, 1.0, 0, float(scale), 0.0, 2 * CROP_EYE_LEVEL - 1])


def project_points(points: Tensor, head_to_camera: Tensor, K: Tensor) -> Tensor:
    """Project points into an image; depths below 1 cm count as 1 cm.

    Args:
        points: (..., N, 3) metres, head axes.
        head_to_camera: (..., 3, 4) transform, metres, OpenCV axes.
        K: (..., 3, 3) intrinsics, pixels.

    Returns:
        (..., N, 2) pixels.
    """
    in_camera = points @ head_to_camera[..., :3].transpose(-1, -2) + head_to_camera[..., None, :, 3]
    homogeneous = in_camera @ K.transpose(-1, -2)
    return homogeneous[..., :2] / homogeneous[..., 2:].clamp_min(0.01)


def compose_rigid(outer: Tensor, inner: Tensor) -> Tensor:
    """Return the rigid transform (..., 3, 4) that applies ``inner`` first, then ``outer``."""
    rotation = outer[..., :3] @ inner[..., :3]
    return torch.cat((rotation, outer[..., :3] @ inner[..., 3:] + outer[..., 3:]), -1)


def reframe_pose(pose: Tensor, similarity: Tensor, from_width: int, to_width: int) -> Tensor:
    """Convert a pose in one square image to the pose of the same head in another.

    The similarity's angle rotates the head in the image plane, and its factor multiplies the scale. This is exact for
    weak perspective.

    Args:
        pose: (..., 9) pose in the first image.
        similarity: (2, 3) transform from pixels of the first image to pixels of the second. Its pixel centres are at
            whole numbers, as in OpenCV; in the model they are at +0.5.
        from_width: Pixels along the edge of the first image.
        to_width: Pixels along the edge of the second image.

    Returns:
        (..., 9) pose in the second image.
    """
    linear, shift = similarity[:, :2], similarity[:, 2]
    factor = linear.det().abs().sqrt()
    turn = torch.eye(3).to(pose)
    turn[:2, :2] = linear / factor
    pixel = (pose[..., 7:9] + 1) * (from_width / 2) - 0.5
    position = (pixel @ linear.T + shift + 0.5) * (2 / to_width) - 1
    scale = pose[..., 6:7] + (factor * from_width / to_width).log()
    rotation = turn @ rotation_from_6d(pose[..., :6])
    return torch.cat((rotation_to_6d(rotation), scale, position), -1)
