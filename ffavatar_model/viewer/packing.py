"""An avatar and the part of its head model that moves it, as few bytes as the picture needs.

One deflated block: a line of JSON (``Manifest``), then arrays of whole numbers. Floats become 16-bit steps between the
smallest and the largest value of their last dimension, so positions are off by at most 2.5 µm over 0.33 m. Directions
are kept for the head model's own vertices alone; the page subdivides, and derives how the surface turns from them.
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
STEPS = 65535

Floats = npt.NDArray[np.floating[Any]]


def pack_avatar(
    avatar: CanonicalAvatar,
    header: AvatarHeader,
    head: HeadModel,
    n_expression: int,
    track: Mapping[str, Any] | None = None,
) -> bytes:
    """One avatar (B = 1) for the page.

    Args:
        avatar, header: as ``load_avatar`` gives them.
        head: the head model as it comes from its file; it is subdivided as the header says.
        n_expression: how many of its expression directions the model uses.
        track: ``pack_track``'s, for a page that plays it.

    Raises ``ValueError`` where the avatar has not as many Gaussians as the head has points.
    """
    block = _Block()
    fine = head
    for level in range(header.subdivisions):
        edges, _ = edge_midpoints(fine.triangles, fine.n_vertices)
        block.whole(f"edges_{level}", edges)
        fine = subdivide(fine)
    if avatar.offsets.shape[1] != fine.n_vertices:
        raise ValueError(f"an avatar of {avatar.offsets.shape[1]} Gaussians on a head of {fine.n_vertices} points")
    directions = head.expression_directions[..., :n_expression]
    n_expression = directions.shape[-1]
    joints = head.joint_regressor @ head.template
    block.steps("template", head.template)
    block.steps("weights", head.skinning_weights)
    block.whole("links", unique_edges(fine.triangles))
    # (D, V, 3): one direction after the other, each with a step of its own
    block.steps("directions", directions.permute(2, 0, 1), by_first=True)
    block.steps("correctives", head.pose_correctives.permute(2, 0, 1), by_first=True)
    block.steps("offsets", avatar.offsets[0])
    block.steps("rotations", avatar.rotations[0])
    block.steps("log_scales", avatar.scales[0].clamp_min(1e-12).log())
    block.steps("opacities", avatar.opacities[0][:, None])
    block.steps("colours", avatar.colours[0])
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
    return block.packed(manifest)


def pack_track(parameters: Sequence[DrivingParameters], times_s: Sequence[float]) -> dict[str, Any]:
    """Parameters (1, 1, ...) of each frame and when it is shown, for ``pack_avatar`` or one by one to an open page."""
    return {"times_s": [round(t, 4) for t in times_s], "frames": [track_frame(p) for p in parameters]}


def track_frame(parameters: DrivingParameters) -> list[float]:
    """Expression, 15 of the joint rotations, 9 of the pose: one flat list, rounded to 1e-4."""
    expression, rotations, pose = (value[0, 0].flatten().tolist() for value in parameters)
    return [round(value, 4) for value in (*expression, *rotations, *pose)]


class _Block:
    """Arrays behind one another, each on a multiple of four bytes; 16-bit numbers as two planes of bytes."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._arrays: dict[str, dict[str, Any]] = {}

    def steps(self, name: str, values: Tensor, by_first: bool = False) -> None:
        """Floats as 16-bit steps; each column, or each slice of the first dimension, has its own range."""
        array = values.detach().cpu().double().numpy()
        axis = tuple(range(1, array.ndim)) if by_first else tuple(range(array.ndim - 1))
        low, high = (f(array, axis=axis, keepdims=True) if array.size else np.zeros(0) for f in (np.min, np.max))
        width = np.maximum(high - low, 1e-30)
        steps = np.round((array - low) / width * STEPS).astype("<u2") if array.size else array.astype("<u2")
        self._add(name, steps, low=low.ravel().tolist(), step=(width / STEPS).ravel().tolist())

    def whole(self, name: str, values: Tensor) -> None:
        """Indices, in as few bytes as they need."""
        array = values.cpu().numpy()
        self._add(name, array.astype("<u2" if array.max(initial=0) < 1 << 16 else "<u4"))

    def _add(self, name: str, array: npt.NDArray[Any], **more: Any) -> None:
        self._bytes += b"\0" * (-len(self._bytes) % 4)
        entry = {"offset": len(self._bytes), "shape": list(array.shape), "bytes": array.itemsize}
        self._arrays[name] = {**entry, **more}
        # High and low bytes apart: the high ones repeat, and deflate to little.
        self._bytes += array.reshape(-1, 1).view(np.uint8).T.tobytes()

    def packed(self, manifest: Mapping[str, Any]) -> bytes:
        line = json.dumps({**manifest, "arrays": self._arrays}, separators=(",", ":")).encode() + b"\n"
        return zlib.compress(line + bytes(self._bytes), 9)


def _list(values: Tensor) -> Any:
    """Nested lists, rounded to eight digits."""
    return np.round(values.detach().cpu().double().numpy(), 8).tolist()
