"""Meshes in OBJ files. Materials and other files that they name are not opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ADVICE = "name a complete folder with --assets, or download it again"
"""Way out of errors about files of other projects."""


@dataclass(frozen=True, eq=False)
class ObjMesh:
    """A mesh of faces with three or four corners."""

    vertices: NDArray[np.float64]
    """(N, 3) vertices."""
    uv: NDArray[np.float32]
    """(U, 2) texture coordinates, v up; (0, 2) if the file has none."""
    quads: NDArray[np.int64]
    """(F, 4) vertices of the faces; -1 in the last column for a triangle."""
    quads_uv: NDArray[np.int64]
    """(F, 4) texture coordinates of the corners likewise; -1 everywhere if the file has none."""


def read_obj(path: Path) -> ObjMesh:
    """Read an OBJ file.

    Args:
        path: The file.

    Raises:
        ValueError: It is missing, or a line is no vertex, coordinate, or face with three or four corners that exist.
    """
    try:
        vertices = read_vertices(path)
        lines = [line.split() for line in read_text(path).splitlines() if line.startswith(("vt ", "f "))]
        uv = np.array([line[1:3] for line in lines if line[:1] == ["vt"]], np.float32).reshape(-1, 2)
        faces = [[corner.split("/") for corner in line[1:]] for line in lines if line[:1] == ["f"]]
        quads, quads_uv = (np.array([_corners(face, place) for face in faces], np.int64) for place in (0, 1))
        mesh = ObjMesh(vertices, uv, quads.reshape(-1, 4), quads_uv.reshape(-1, 4))
    except (ValueError, IndexError) as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"mesh {path} is damaged ({error}): {ADVICE}") from error
    if mesh.quads.max(initial=-1) >= len(vertices) or mesh.quads_uv.max(initial=-1) >= len(uv):
        raise ValueError(f"mesh {path} is damaged (faces without vertices): {ADVICE}")
    return mesh


def read_vertices(path: Path) -> NDArray[np.float64]:
    """Read the vertices (N, 3) of an OBJ file alone, which takes a tenth of the time.

    Args:
        path: The file.

    Raises:
        ValueError: It is missing, or a line is no vertex.
    """
    words = [line[2:] for line in read_text(path).splitlines() if line.startswith("v ")]
    try:
        return np.array(" ".join(words).split(), np.float64).reshape(len(words), -1)[:, :3]
    except ValueError as error:
        raise ValueError(f"mesh {path} is damaged ({error}): {ADVICE}") from error


def read_text(path: Path) -> str:
    """Return the text of a file of another project.

    Raises:
        ValueError: It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): {ADVICE}") from error


def _corners(face: list[list[str]], place: int) -> list[int]:
    """Return four indices from 0, the last -1 for a triangle; all -1 if corners have no such index."""
    if any(len(corner) <= place or not corner[place] for corner in face):
        return [-1, -1, -1, -1]
    if not 3 <= len(face) <= 4:
        raise ValueError(f"a face with {len(face)} corners")
    return [*(int(corner[place]) - 1 for corner in face), -1][:4]
