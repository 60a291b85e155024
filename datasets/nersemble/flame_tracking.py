"""The benchmark's FLAME tracking, ``flame2023_tracking_v2.npz``: FLAME parameters and head pose per frame.

FLAME itself is posed with a zero root rotation. The head's transform is applied afterwards: rotation by Euler angles
XYZ, multiplication by ``scale``, addition of ``translation``. The Euler angles are intrinsic: first about X, then about
the rotated Y, then about the rotated Z (scipy's ``"XYZ"``, as in ``nersemble_benchmark.models.flame`` 0.2.0).
"""

from __future__ import annotations

import io
import json
import lzma
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nersemble.errors import NersembleError

Floats = NDArray[np.float32]

N_SHAPE, N_EXPRESSION = 300, 100
"""Numbers of shape and expression coefficients."""
MAX_BYTES = 64 << 20
"""Largest unpacked size of a file, bytes; 50,000 frames have 28 MB."""

_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, RuntimeError),
    *(NotImplementedError, MemoryError, RecursionError),
)
"""Errors of a damaged file: each method of compression has its own."""


@dataclass(frozen=True)
class FlameTracking:
    """Tracking of a sequence of T frames; names and shapes of the fields are those of the file."""

    shape: Floats
    """(1, 300) shape coefficients."""
    expression: Floats
    """(T, 100) expression coefficients."""
    rotation: Floats
    """(T, 3) rotations of the head: Euler angles XYZ, radians."""
    rotation_matrices: Floats
    """(T, 3, 3) the same rotations as matrices."""
    translation: Floats
    """(T, 3) translations of the head, metres."""
    jaw: Floats
    """(T, 3) axis-angles of the jaw, radians."""
    frames: NDArray[np.int64]
    """(T,) frame numbers."""
    scale: Floats
    """(1, 1) scale of the head."""
    neck: Floats
    """(T, 3) axis-angles of the neck, radians."""
    eyes: Floats
    """(T, 6) axis-angles of the left and the right eye, radians."""

    def __len__(self) -> int:
        return len(self.expression)

    def joint_rotations(self) -> Floats:
        """Return the axis-angles (T, 5, 3), radians, of root (zero), neck, jaw, left eye and right eye."""
        n = len(self)
        parts = (np.zeros((n, 3)), self.neck, self.jaw, self.eyes[:, :3], self.eyes[:, 3:])
        return np.stack(parts, axis=1).astype(np.float32)

    def head_to_world(self) -> NDArray[np.float64]:
        """Return the head's transforms M (T, 3, 4) with the scale.

        At frame t, a point p of the posed FLAME head is at ``M[t, :, :3] @ p + M[t, :, 3]`` in the world.
        """
        linear = rotations_from_euler_xyz(np.asarray(self.rotation, np.float64)) * float(self.scale.reshape(-1)[0])
        return np.concatenate([linear, np.asarray(self.translation, np.float64)[..., None]], axis=-1)


def rotations_from_euler_xyz(angles: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the rotations Rx · Ry · Rz (T, 3, 3) of intrinsic Euler angles XYZ.

    Args:
        angles: (T, 3) angles about X, about the rotated Y, and about the rotated Z, radians.
    """
    x, y, z = np.moveaxis(np.asarray(angles, np.float64), -1, 0)
    zero, one = np.zeros_like(x), np.ones_like(x)

    def matrix(rows: list[list[Any]]) -> NDArray[np.float64]:
        return np.stack([np.stack(row, -1) for row in rows], -2)

    about_x = matrix([[one, zero, zero], [zero, np.cos(x), -np.sin(x)], [zero, np.sin(x), np.cos(x)]])
    about_y = matrix([[np.cos(y), zero, np.sin(y)], [zero, one, zero], [-np.sin(y), zero, np.cos(y)]])
    about_z = matrix([[np.cos(z), -np.sin(z), zero], [np.sin(z), np.cos(z), zero], [zero, zero, one]])
    return about_x @ about_y @ about_z


def euler_xyz_from_rotations(rotations: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the angles (T, 3), radians, of rotations (T, 3, 3); the inverse of ``rotations_from_euler_xyz``.

    The second angle is within ±90 degrees.
    """
    m = np.asarray(rotations, np.float64)
    y = np.arcsin(np.clip(m[:, 0, 2], -1, 1))
    return np.stack([np.arctan2(-m[:, 1, 2], m[:, 2, 2]), y, np.arctan2(-m[:, 0, 1], m[:, 0, 0])], axis=-1)


def read_tracking(path: Path) -> FlameTracking:
    """Read and check a tracking file.

    Args:
        path: The file.

    Raises:
        NersembleError: The file is missing or not an npz file, unpacks to more than ``MAX_BYTES``, lacks a key, or
            holds an array with another shape or with values that are not finite.
    """
    names = [f.name for f in fields(FlameTracking)]
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MAX_BYTES:
            raise NersembleError(f"{path}: {unpacked} bytes unpacked; a tracking file has at most {MAX_BYTES}")
        with np.load(path, allow_pickle=False) as arrays:
            values = {name: arrays[name] for name in names if name in arrays.files}
            unknown = sorted(set(arrays.files) - set(names))
    except FileNotFoundError:
        raise NersembleError(
            f"{path}: the tracking is missing; download the benchmark's asset flame2023_tracking_v2"
        ) from None
    except NersembleError:
        raise
    except _DAMAGE as error:
        raise NersembleError(f"{path}: no tracking file ({type(error).__name__}: {error})") from error
    if missing := [name for name in names if name not in values]:
        raise NersembleError(f"{path}: lacks {missing}; it has {sorted([*values, *unknown])}")
    n = len(values["expression"])
    shapes = {
        "shape": (1, N_SHAPE),
        "expression": (n, N_EXPRESSION),
        "rotation": (n, 3),
        "rotation_matrices": (n, 3, 3),
        "translation": (n, 3),
        "jaw": (n, 3),
        "frames": (n,),
        "scale": (1, 1),
        "neck": (n, 3),
        "eyes": (n, 6),
    }
    for name, shape in shapes.items():
        array = values[name]
        if array.dtype.kind not in "fiu" or array.shape != shape or not np.isfinite(array).all():
            message = f"{name} is {array.dtype} {array.shape}; {shape} of finite numbers are needed"
            raise NersembleError(f"{path}: {message}")
    return FlameTracking(**{name: values[name] for name in names})


def write_tracking(path: Path, tracking: FlameTracking, head: Mapping[str, str] | None = None) -> None:
    """Write a tracking file; the folder is made if it does not exist.

    If the head model is not FLAME, it is named in the comment of the zip archive, which numpy and the official kit
    ignore. The arrays have the official form in any case.

    Args:
        path: The file.
        tracking: Content of the file.
        head: Name and digest of the head model, for ``read_head_mark``; None for FLAME.
    """
    data = io.BytesIO()
    np.savez(data, **{f.name: getattr(tracking, f.name) for f in fields(tracking)})
    if head is not None:
        with zipfile.ZipFile(data, "a") as archive:
            archive.comment = json.dumps({"head": dict(head)}, sort_keys=True).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.getvalue())


def read_head_mark(path: Path) -> dict[str, str] | None:
    """Read name and digest of the head model from a tracking file's mark; None for official files (FLAME)."""
    try:
        with zipfile.ZipFile(path) as archive:
            content = json.loads(archive.comment or b"null")
    except _DAMAGE:
        return None
    head = content.get("head") if isinstance(content, dict) else None
    return {str(k): str(v) for k, v in head.items()} if isinstance(head, dict) else None
