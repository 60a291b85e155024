"""MakeHuman's own files: proxies (.mhclo) as arrays, and the textures of materials (.mhmat)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.studio.people.obj_files import ADVICE, read_text

AXES = ("x_scale", "y_scale", "z_scale")


@dataclass(frozen=True)
class ProxyFile:
    """Content of a proxy's file."""

    obj_file: str
    """File of the mesh, relative to this one."""
    material: str | None
    """File of the material, relative to this one."""
    arrays: dict[str, NDArray[Any]]
    """Binding to the base mesh, under the names that ``proxies.read_proxy`` reads."""


def read_proxy_file(path: Path) -> ProxyFile:
    """Read a proxy's file.

    Args:
        path: The file.

    Raises:
        ValueError: It is missing or damaged.
    """
    words = [line.split() for line in read_text(path).splitlines() if line.strip() and not line.startswith(("#", "//"))]
    head = {row[0]: row[1:] for row in reversed(words) if row[0][0].isalpha()}
    try:
        scales = np.array([[float(word) for word in head[axis][:3]] for axis in AXES])
        rows, hidden = _sections(words)
        bound = np.array([row if len(row) == 9 else [row[0]] * 3 + [1, 0, 0, 0, 0, 0] for row in rows], np.float64)
        arrays: dict[str, NDArray[Any]] = {
            "bind_index": bound[:, :3].astype(np.int64),
            "bind_weight": bound[:, 3:6].astype(np.float32),
            "bind_offset": bound[:, 6:].astype(np.float32),
            "scale_vertex": scales[:, :2].astype(np.int64),
            "scale_denominator": scales[:, 2].astype(np.float32),
            "delete_vertex": np.array(hidden, np.int64),
        }
        return ProxyFile(head["obj_file"][0], head["material"][0] if head.get("material") else None, arrays)
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"proxy {path} is damaged ({error!r}): {ADVICE}") from error


def read_texture_of(material: Path) -> Path | None:
    """Return the path of the colour texture that a material names, or None if it names none."""
    for line in read_text(material).splitlines():
        if line.startswith("diffuseTexture"):
            return material.parent / line.split(maxsplit=1)[1].strip()
    return None


def _sections(words: list[list[str]]) -> tuple[list[list[float]], list[int]]:
    """Return the rows of bindings, and the hidden vertices, which are numbers and ranges ``a - b``."""
    rows: list[list[float]] = []
    hidden: list[int] = []
    section = ""
    for row in words:
        if row[0][0].isalpha():
            section = row[0]
        elif section == "verts":
            rows.append([float(word) for word in row])
        elif section == "delete_verts":
            for place, word in enumerate(row):
                if word != "-":
                    first = hidden[-1] + 1 if place and row[place - 1] == "-" else int(word)
                    hidden += range(first, int(word) + 1)
    return rows, hidden
