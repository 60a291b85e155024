"""Packing of an avatar for the browser, with the part of the head model that animates it.

The result is one deflated block: a line of JSON, then arrays of integers. Floats are stored as 16-bit steps between the
smallest and the largest value of each column or direction, so the error of a position is at most 2.5 µm over 0.33 m.
Directions are stored for the head model's own vertices only. The page subdivides them, and derives rotations of the
surface from them.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ffavatar_model.camera import FOCAL_IN_WIDTHS, aligned_pose
from ffavatar_model.head import JOINT_NAMES, PARENTS, HeadModel, subdivide
from ffavatar_model.head.interface import LEFT_EYE, RIGHT_EYE
from ffavatar_model.head.subdivision import edge_midpoints
from ffavatar_model.io.avatar import AvatarHeader
from ffavatar_model.networks.estimator import DrivingParameters
from ffavatar_model.networks.gaussians import CanonicalAvatar
from ffavatar_model.networks.rig import unique_edges
from ffavatar_model.renderers.blending import ALPHA_MAX
from ffavatar_model.renderers.projection import ALPHA_MIN, EPS_2D, MAX_EXTENT, NEAR_PLANE

FORMAT = 1
"""Version of the packed format."""
STEPS = 65535
"""Number of steps between the smallest and the largest float."""

Floats = npt.NDArray[np.floating[Any]]


def pack_avatar(
    avatar: CanonicalAvatar,
    header: AvatarHeader,
    head: HeadModel,
    n_expression: int,
    track: Mapping[str, Any] | None = None,
) -> bytes:
    """Pack one avatar for the viewer's page.

    Args:
        avatar: Canonical Gaussians with B = 1, from ``load_avatar``.
        header: The avatar's header, from ``load_avatar``.
        head: The head model before subdivision; it is subdivided ``header.subdivisions`` times.
        n_expression: Number of the head's expression directions that the model uses.
        track: Frames from ``pack_track`` for the page to play; None for a page without frames.

    Returns:
        The deflated block.

    Raises:
        ValueError: The number of Gaussians is not the number of vertices of the subdivided head.
    """
    block = _Block()
    fine = head
    for level in range(header.subdivisions):
        edges, _ = edge_midpoints(fine.triangles, fine.n_vertices)
        block.add_indices(f"edges_{level}", edges)
        fine = subdivide(fine)
    if avatar.offsets.shape[1] != fine.n_vertices:
        raise ValueError(f"an avatar of {avatar.offsets.shape[1]} Gaussians on a head of {fine.n_vertices} points")
    directions = head.expression_directions[..., :n_expression]
    n_expression = directions.shape[-1]
    joints = head.joint_regressor @ head.template
    block.add_floats("template", head.template)
    block.add_floats("weights", head.skinning_weights)
    block.add_indices("links", unique_edges(fine.triangles))
    # (D, V, 3): one direction after another, each with its own range
    block.add_floats("directions", directions.permute(2, 0, 1), by_first=True)
    block.add_floats("correctives", head.pose_correctives.permute(2, 0, 1), by_first=True)
    block.add_floats("offsets", avatar.offsets[0])
    block.add_floats("rotations", avatar.rotations[0])
    block.add_floats("log_scales", avatar.scales[0].clamp_min(1e-12).log())
    block.add_floats("opacities", avatar.opacities[0][:, None])
    block.add_floats("colours", avatar.colours[0])
    actions = [
        {"name": name, "expression": _list(expression[:n_expression]), "rotations": _list(rotations)}
        for name, expression, rotations in zip(
            head.action_names, head.action_expression, head.action_rotations, strict=True
        )
    ]
    manifest = {
        "format": FORMAT,
        "avatar": asdict(header),
        "points": fine.n_vertices,
        "vertices": head.n_vertices,
        "expressions": n_expression,
        "subdivisions": header.subdivisions,
        "joints": _list(joints),
        "joint_names": JOINT_NAMES,
        "parents": PARENTS,
        "actions": actions,
        "start_pose": _list(aligned_pose(float((joints[LEFT_EYE] - joints[RIGHT_EYE]).norm()))),
        "focal_in_widths": FOCAL_IN_WIDTHS,
        "eps_2d": EPS_2D,
        "near_plane": NEAR_PLANE,
        "alpha_min": ALPHA_MIN,
        "alpha_max": ALPHA_MAX,
        "max_extent": MAX_EXTENT,
        "track": track,
    }
    return block.compress(manifest)


def pack_track(parameters: Sequence[DrivingParameters], times_s: Sequence[float]) -> dict[str, Any]:
    """Pack the frames of a driver for ``pack_avatar``.

    Args:
        parameters: Driving parameters (1, 1, ...) of each frame.
        times_s: Time of each frame, seconds.

    Returns:
        Times and values, which JSON can represent.
    """
    return {"times_s": [round(t, 4) for t in times_s], "frames": [track_frame(p) for p in parameters]}


def track_frame(parameters: DrivingParameters) -> list[float]:
    """Return expression (E), joint rotations (15) and pose (9) of parameters (1, 1, ...) as a list, rounded to 1e-4."""
    expression, rotations, pose = (value[0, 0].flatten().tolist() for value in parameters)
    return [round(value, 4) for value in (*expression, *rotations, *pose)]


class _Block:
    """Consecutive arrays, each at an offset that is a multiple of four bytes.

    The bytes of an array's numbers are in separate planes: all first bytes, then all second bytes, and so on.
    """

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._arrays: dict[str, dict[str, Any]] = {}

    def add_floats(self, name: str, values: Tensor, by_first: bool = False) -> None:
        """Add floats as 16-bit steps; each column, or each slice of the first dimension, has its own range."""
        array = values.detach().cpu().double().numpy()
        axis = tuple(range(1, array.ndim)) if by_first else tuple(range(array.ndim - 1))
        low, high = (f(array, axis=axis, keepdims=True) if array.size else np.zeros(0) for f in (np.min, np.max))
        width = np.maximum(high - low, 1e-30)
        steps = np.round((array - low) / width * STEPS).astype("<u2") if array.size else array.astype("<u2")
        self._add(name, steps, low=low.ravel().tolist(), step=(width / STEPS).ravel().tolist())

    def add_indices(self, name: str, values: Tensor) -> None:
        """Add indices, as 16-bit numbers if all of them fit, as 32-bit numbers otherwise."""
        array = values.cpu().numpy()
        self._add(name, array.astype("<u2" if array.max(initial=0) < 1 << 16 else "<u4"))

    def _add(self, name: str, array: npt.NDArray[Any], **more: Any) -> None:
        self._bytes += b"\0" * (-len(self._bytes) % 4)
        entry = {"offset": len(self._bytes), "shape": list(array.shape), "bytes": array.itemsize}
        self._arrays[name] = {**entry, **more}
        # High and low bytes are in separate planes: high bytes repeat and compress well.
        self._bytes += array.reshape(-1, 1).view(np.uint8).T.tobytes()

    def compress(self, manifest: Mapping[str, Any]) -> bytes:
        """Return the deflated block: the manifest with the arrays' offsets, then the arrays."""
        line = json.dumps({**manifest, "arrays": self._arrays}, separators=(",", ":")).encode() + b"\n"
        return zlib.compress(line + bytes(self._bytes), 9)


def _list(values: Tensor) -> Any:
    """Convert a tensor to nested lists, rounded to eight decimals."""
    return np.round(values.detach().cpu().double().numpy(), 8).tolist()
