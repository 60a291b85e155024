"""A kit with a head in the packed form of ICT-FaceKit: the open head, larger and elsewhere, with few expressions."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np

from ffavatar_model.head import HeadModel, actions_to_parameters, pose_head_numpy
from pipelines.studio.ict.ict_model import (
    EXPRESSIONS,
    LANDMARKS_68,
    LOWER_TEETH,
    N_MODES,
    N_VERTICES,
    PACKED,
    SCLERAS,
    UPPER_TEETH,
)
from pipelines.studio.ict.ict_wrap import MESH_OF_68, inner_vertices

SIZE, STEP_CM = 1.06, 0.0002
"""Size against the open head, and the unit of the stored offsets."""


def write_ict_kit(root: Path, head: HeadModel, drop: str = "") -> Path:
    """Write the kit without the array ``drop``."""
    template, triangles = head.template.numpy().astype(np.float64), head.triangles.numpy()
    slots = np.setdiff1d(np.arange(11248), LANDMARKS_68)[: len(template)]
    eyes = np.max([head.region(f"{side}_eye").numpy() for side in ("left", "right")], axis=0) > 0.5
    skin = triangles[~(inner_vertices(head) | eyes)[triangles].any(1)]
    mesh = _filled(head, template, slots)
    expression, rotations = (t.numpy() for t in actions_to_parameters(head, {"jawOpen": 1.0}))
    opened, _ = pose_head_numpy(head, np.zeros((1, 0), np.float32), expression, rotations)
    names = sorted(EXPRESSIONS)
    offsets = np.zeros((len(names), 3, N_VERTICES), np.int16)
    moved = _filled(head, opened[0].astype(np.float64), slots) - mesh
    moved[LOWER_TEETH] = (opened[0] - template)[head.region("tongue").numpy().argmax()]
    offsets[names.index("jawOpen")] = np.round(moved * SIZE * 100 / STEP_CM).T
    modes = np.zeros((N_MODES, 3, N_VERTICES), np.int16)
    modes[0, 0] = np.round(mesh[:, 0] * 0.05 * 100 / STEP_CM)
    arrays = {
        "vertices": (mesh * SIZE * 100 + [0, 3, 8]).astype(np.float32),
        "quads": np.append(slots[skin], np.full((len(skin), 1), -1), 1).astype(np.int32),
        "identity_q": modes,
        "expression_q": offsets,
        "expression_names": np.array(names),
        "step_cm": np.float32(STEP_CM),
    }
    arrays.pop(drop, None)
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    path = root / PACKED
    path.parent.mkdir(parents=True)
    path.write_bytes(stream.getvalue())
    (root / "SHA256SUMS").write_text(f"{hashlib.sha256(stream.getvalue()).hexdigest()}  {PACKED}\n")
    return root


def _filled(head: HeadModel, vertices: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """ICT-FaceKit's vertices (N, 3), metres: the head's, its landmarks, eyeballs, and teeth behind the lips."""
    mesh = np.zeros((N_VERTICES, 3))
    mesh[slots] = vertices
    corners = vertices[head.triangles.numpy()[head.landmark_triangles.numpy()]]
    points = np.einsum("lk,lkc->lc", head.landmark_barycentric.numpy(), corners)
    known = {int(point): row for row, point in enumerate(head.landmark_index.tolist())}
    for mark, vertex in enumerate(LANDMARKS_68):
        if MESH_OF_68.get(mark) in known:
            mesh[vertex] = points[known[MESH_OF_68[mark]]]
    g = np.random.default_rng(0)
    for side, sclera in zip((1, -1), SCLERAS, strict=True):
        ball = g.normal(size=(sclera.stop - sclera.start, 3))
        mesh[sclera] = 0.0163 * ball / np.linalg.norm(ball, axis=1, keepdims=True) + [side * 0.0312, 0, 0]
    for teeth, height in ((UPPER_TEETH, -0.062), (LOWER_TEETH, -0.072)):
        mesh[teeth] = g.normal(scale=[0.015, 0.003, 0.01], size=(teeth.stop - teeth.start, 3)) + np.array(
            [0, height, 0.005]
        )
    return mesh
