"""A tiny kit with two people in the packed form of VALID: a few vertices, but as many faces as the real topology."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.studio.valid.valid_actions import needed_expressions
from pipelines.studio.valid.valid_points import valid_points
from pipelines.studio.valid.valid_source import PARTS

N = 60
"""Number of vertices; the last 12 are the eyeballs, 6 each."""
JOINTS = ("Spine1", "Neck", "Head", "LeftArm", "RightArm", "LeftEye", "RightEye")


def write_valid_kit(root: Path, change: dict[str, object] | None = None) -> Path:
    """Write the kit; ``change`` replaces arrays of the first person, or removes those that are None."""
    g = np.random.default_rng(0)
    names = [*sorted(needed_expressions()), "tongue_Up"]
    vertex_part = np.zeros(N, np.uint8)
    vertex_part[-12:-6], vertex_part[-6:] = 3, 4
    faces = g.integers(0, N - 12, (int(valid_points()[0].max()) + 1, 3)).astype(np.int32)
    part = np.zeros(len(faces), np.uint8)
    for index in (1, 2, 3, 4):
        part[index], faces[index] = index, [N - 12, N - 11, N - 10] if index == 3 else [N - 6, N - 5, N - 4]
    topology = {
        "faces": faces,
        "faces_uv": faces % 4,
        "uv": g.random((4, 2)).astype(np.float32),
        "part": part,
        "vertex_part": vertex_part,
        "part_names": np.array(PARTS),
        "joint_names": np.array(JOINTS),
        "expression_names": np.array(names),
        "expr_step": np.float32(1e-5),
    }
    files = {"topology.npz": _npz(topology)}
    for person in ("One", "Two"):
        vertices = g.normal(scale=0.05, size=(N, 3)).astype(np.float32) + np.float32([0, 1.6, 0.1])
        centres = np.array([[0.03, 1.6, 0.1], [-0.03, 1.6, 0.1]])
        around = np.array([[0, 0, 1], [0, 0, -1], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
        vertices[-12:] = np.concatenate([centre + 0.012 * around for centre in centres])
        joints = np.zeros((len(JOINTS), 3), np.float32)
        joints[-2:], joints[3:5] = centres, [[0.2, 1.4, 0], [-0.2, 1.4, 0]]
        weights = np.zeros((N, len(JOINTS)), np.float16)
        weights[:, 2] = 1
        weights[:5, 2], weights[:5, 0] = 0, 1
        arrays: dict[str, object] = {
            "vertices": vertices,
            "weights": weights,
            "joint_position": joints,
            "expr_ptr": np.arange(len(names) + 1, dtype=np.int32) * 2,
            "expr_index": np.tile(np.array([6, 7], np.uint16), len(names)),
            "expr_delta": np.tile(np.array([[0, -1000, 0], [0, 0, 500]], np.int16), (len(names), 1)),
            "wig_vertices": vertices[:3],
            "wig_faces": np.array([[0, 1, 2]], np.uint16),
            "wig_uv": np.zeros((3, 2), np.float32),
        }
        if person == "One":
            arrays |= change or {}
        files[f"{person}.npz"] = _npz({name: value for name, value in arrays.items() if value is not None})
    for name in ("colour.png", "normal.png"):
        stream = io.BytesIO()
        Image.new("RGB", (8, 8), (128, 128, 255)).save(stream, "PNG")
        files[name] = stream.getvalue()
    row = {"sex": "F", "wig": True, "color": "colour.png", "normal": "normal.png", "wig_color": "colour.png"}
    index = {"avatars": [{"name": "One", **row}, {"name": "Two", **row, "sex": "M", "color": "../../secret.png"}]}
    files["index.json"] = json.dumps(index).encode()
    (root / "valid").mkdir(parents=True)
    lines = []
    for name, data in files.items():
        (root / "valid" / name).write_bytes(data)
        lines.append(f"{hashlib.sha256(data).hexdigest()}  valid/{name}")
    (root / "SHA256SUMS").write_text("\n".join(lines))
    return root


def _npz(arrays: dict[str, object]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()
