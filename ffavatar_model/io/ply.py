"""Reader and writer of 3D Gaussians as ``.ply`` files, in the layout of Kerbl et al.'s reference code.

The viewer of that code assumes spherical harmonics of degree 3 and does not read the header. So the 45 coefficients of
higher degrees are written, as zeros.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ffavatar_model.atomic_file import write_atomically

SH_0 = 0.28209479177387814
"""Value of the spherical harmonic of degree 0: colour = 0.5 + SH_0 · f_dc."""
PROPERTIES = (
    "x",
    "y",
    "z",
    "nx",
    "ny",
    "nz",
    "f_dc_0",
    "f_dc_1",
    "f_dc_2",
    *(f"f_rest_{i}" for i in range(45)),
    "opacity",
    "scale_0",
    "scale_1",
    "scale_2",
    "rot_0",
    "rot_1",
    "rot_2",
    "rot_3",
)


def write_ply(path: Path, means: Tensor, rotations: Tensor, scales: Tensor, opacities: Tensor, colours: Tensor) -> None:
    """Write N Gaussians atomically, as binary little-endian float32; colours do not depend on the viewing direction.

    Args:
        path: Path of the file.
        means: (N, 3) centres, metres, written unchanged.
        rotations: (N, 4) quaternions w, x, y, z; they are normalised here.
        scales: (N, 3) standard deviations, metres; written as logarithms.
        opacities: (N,) 0 to 1; written as logits.
        colours: (N, 3) RGB, 0 to 1.
    """
    columns = (
        means,
        torch.zeros_like(means),
        (colours - 0.5) / SH_0,
        means.new_zeros(len(means), 45),
        torch.logit(opacities.clamp(1e-6, 1 - 1e-6))[:, None],
        scales.clamp_min(1e-12).log(),
        torch.nn.functional.normalize(rotations, dim=-1),
    )
    table = torch.cat([c.detach().float().cpu() for c in columns], -1).numpy().astype("<f4")
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(table)}"]
    lines += [f"property float {name}" for name in PROPERTIES]
    write_atomically(path, ("\n".join([*lines, "end_header"]) + "\n").encode() + table.tobytes())


def read_ply(path: Path) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Read means, rotations, scales, opacities and colours from a file written by ``write_ply``.

    Raises:
        ValueError: The file has another layout or is cut off; the message names the file.
    """
    header, end, body = path.read_bytes().partition(b"end_header\n")
    lines = header.decode("ascii", "replace").split("\n")
    names = tuple(line.split()[-1] for line in lines if line.startswith("property float "))
    counts = [int(line.split()[2]) for line in lines if line.startswith("element vertex ")]
    if not end or lines[0] != "ply" or names != PROPERTIES or len(counts) != 1:
        raise ValueError(f"{path}: not a .ply of 3D Gaussians in the reference layout")
    if len(body) != counts[0] * len(PROPERTIES) * 4:
        raise ValueError(f"{path}: {len(body)} bytes for {counts[0]} Gaussians; it is cut off")
    table = torch.from_numpy(np.frombuffer(body, "<f4").reshape(counts[0], -1).astype(np.float32))
    means, _, dc, _, opacity, scales, rotations = table.split((3, 3, 3, 45, 1, 3, 4), -1)
    return means, rotations, scales.exp(), torch.sigmoid(opacity[:, 0]), 0.5 + SH_0 * dc
