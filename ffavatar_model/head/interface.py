"""The interface of every head model: a template, linear directions, five joints and skinning weights.

Lengths are in metres. Axes are right-handed: +X to the head's own left, +Y up, +Z out of the face. The origin is midway
between the centres of the template's two eyeballs. Rotations are axis-angle vectors in radians. Each joint rotates
relative to its parent, about axes parallel to the head's. Joints and their order are FLAME's: root, neck, jaw, left
eye, right eye; "left" is the head's own left.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

JOINT_NAMES = ("root", "neck", "jaw", "left_eye", "right_eye")
PARENTS = (-1, 0, 1, 1, 1)
"""Index of each joint's parent; -1 for the root."""
N_JOINTS = len(JOINT_NAMES)
ROOT, NECK, JAW, LEFT_EYE, RIGHT_EYE = range(N_JOINTS)


@dataclass(frozen=True, kw_only=True)
class HeadModel:
    """Tensors of a head model, float32 (indices int64).

    V, F, S and E are the numbers of vertices, triangles, shape directions and expression directions. Coefficients of
    shape and expression are in standard deviations of the population from which the directions were computed.

    Raises:
        ValueError: Shapes are inconsistent, or an index is out of range; the message names the field.
    """

    name: str
    template: Tensor
    """(V, 3) vertices of the mean head at rest, metres."""
    shape_directions: Tensor
    """(V, 3, S) metres per unit of shape coefficient."""
    expression_directions: Tensor
    """(V, 3, E) metres per unit of expression coefficient."""
    pose_correctives: Tensor
    """(V, 3, 36) metres per entry of (R - I) of joints 1 to 4, row by row; (V, 3, 0) if the model has none."""
    joint_regressor: Tensor
    """(5, V) weights that compute joint positions from shaped vertices (before expression); rows sum to one."""
    skinning_weights: Tensor
    """(V, 5) linear blend skinning weights; rows sum to one."""
    triangles: Tensor
    """(F, 3) int64 vertex indices, counter-clockwise seen from outside."""
    uvs: Tensor
    """(U, 2) texture coordinates, v up; (0, 2) if the model has none."""
    uv_triangles: Tensor
    """(F, 3) int64 indices into ``uvs``; (0, 3) if the model has none."""
    landmark_index: Tensor
    """(L,) int64 index of each landmark among the 468 face-mesh points; empty until ``with_landmarks`` adds some."""
    landmark_triangles: Tensor
    """(L,) int64 triangle on which each landmark lies."""
    landmark_barycentric: Tensor
    """(L, 3) barycentric coordinates of each landmark in its triangle."""
    regions: Tensor
    """(V, R) soft masks of R named regions, 0 to 1; (V, 0) if the model has none."""
    region_names: tuple[str, ...] = ()
    action_names: tuple[str, ...] = ()
    """Names of facial actions (ARKit's: jawOpen, eyeBlinkLeft ...); empty if the model has none."""
    action_expression: Tensor
    """(A, E) expression coefficients of each action at full strength."""
    action_rotations: Tensor
    """(A, 5, 3) joint rotations of each action at full strength, axis-angle, radians."""

    def __post_init__(self) -> None:
        v, f, a = self.template.shape[0], self.triangles.shape[0], len(self.action_names)
        landmarks, e = self.landmark_index.shape[0], self.expression_directions.shape[-1]
        expected: dict[str, tuple[int | None, ...]] = {
            "template": (v, 3),
            "shape_directions": (v, 3, None),
            "expression_directions": (v, 3, None),
            "pose_correctives": (v, 3, 9 * (N_JOINTS - 1) if self.pose_correctives.shape[-1] else 0),
            "joint_regressor": (N_JOINTS, v),
            "skinning_weights": (v, N_JOINTS),
            "triangles": (f, 3),
            "uvs": (None, 2),
            "uv_triangles": (f if self.uvs.shape[0] else 0, 3),
            "landmark_triangles": (landmarks,),
            "landmark_barycentric": (landmarks, 3),
            "landmark_index": (landmarks,),
            "regions": (v, len(self.region_names)),
            "action_expression": (a, e),
            "action_rotations": (a, N_JOINTS, 3),
        }
        for name, shape in expected.items():
            found = tuple(getattr(self, name).shape)
            if len(found) != len(shape) or any(s is not None and s != n for s, n in zip(shape, found, strict=True)):
                raise ValueError(f"head model {self.name!r}: {name} has shape {found}, expected {shape} (None is any)")
        for name, limit in (("triangles", v), ("uv_triangles", self.uvs.shape[0]), ("landmark_triangles", f)):
            index = getattr(self, name)
            if index.numel() and not (int(index.min()) >= 0 and int(index.max()) < limit):
                raise ValueError(f"head model {self.name!r}: {name} points outside 0 to {limit - 1}")

    @property
    def n_vertices(self) -> int:
        """Number of vertices, V."""
        return self.template.shape[0]

    @property
    def n_shape(self) -> int:
        """Number of shape coefficients, S."""
        return self.shape_directions.shape[-1]

    @property
    def n_expression(self) -> int:
        """Number of expression coefficients, E."""
        return self.expression_directions.shape[-1]

    @property
    def n_landmarks(self) -> int:
        """Number of landmarks, L."""
        return self.landmark_index.shape[0]

    @property
    def digest(self) -> str:
        """First 32 hexadecimal digits of a sha256 of all tensors and names, except those of the landmarks."""
        h = hashlib.sha256(repr((self.name, self.region_names, self.action_names)).encode())
        for name, tensor in self.tensors().items():
            if not name.startswith("landmark_"):
                h.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
                h.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return h.hexdigest()[:32]

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by field name, in the order of the fields."""
        return {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Tensor)}

    def to(self, device: torch.device | str) -> HeadModel:
        """Return a copy of the head with its tensors on ``device``."""
        return replace(self, **{name: tensor.to(device) for name, tensor in self.tensors().items()})  # type: ignore[arg-type]

    def region(self, name: str) -> Tensor:
        """Return the soft mask (V,) of a named region.

        Raises:
            KeyError: The head has no region called ``name``; the message lists its regions.
        """
        if name not in self.region_names:
            raise KeyError(f"head model {self.name!r} has no region {name!r}; it has {list(self.region_names)}")
        return self.regions[:, self.region_names.index(name)]
