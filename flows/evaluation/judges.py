"""What judges pictures of faces: the face stack's embedder and mesh, and LPIPS, as the evaluation wants them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ffavatar_model.evaluation import Judges
from ffavatar_model.networks.lpips import load_lpips
from pipelines.faces.analysis import FaceAnalyzer
from pipelines.faces.mesh_detector import MeshDetector
from pipelines.faces.pack import face_pack

SURE = 0.5
"""Score from which the mesh of a picture means something."""


def open_judges(pack: str | None, lpips: Path | None, device: torch.device) -> Judges:
    """Embedder and mesh of the face stack (``pack`` names another insightface pack), and LPIPS where a file is given.

    ``lpips``: see ``ffavatar_model.networks.lpips``. Raises ``ValueError`` or ``FileNotFoundError`` for a file that is none.
    """
    network = None if lpips is None else load_lpips(lpips).to(device)
    analyzer, mesh = FaceAnalyzer(face_pack(pack)), MeshDetector.load()

    def embed(picture: Tensor) -> Tensor | None:
        rgb = as_pixels(picture)
        faces = analyzer.detect(rgb)
        if not faces:
            return None
        return torch.from_numpy(analyzer.embed(rgb, max(faces, key=lambda face: face.score).landmarks5))

    def landmarks(picture: Tensor) -> Tensor | None:
        rgb = as_pixels(picture)
        points, score = mesh.detect(rgb)
        return torch.from_numpy(points[:, :2] / rgb.shape[1]) if score >= SURE else None

    return Judges(embed=embed, landmarks=landmarks, lpips=network)


def as_pixels(picture: Tensor) -> np.ndarray:
    """(H, W, 3) uint8 of a picture (3, H, W) in 0 to 1."""
    return np.ascontiguousarray((picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy())
