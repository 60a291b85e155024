"""Judges of face images for the evaluation: the face stack's embedder and mesh, and LPIPS."""

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

LEAST_MESH_SCORE = 0.5
"""Score of a face mesh below which it counts as not found."""


def open_judges(pack: str | None, lpips: Path | None, device: torch.device) -> Judges:
    """Load the embedder and the mesh of the face stack, and LPIPS.

    Args:
        pack: Name of another insightface pack, for the embedder.
        lpips: File of LPIPS's weights (``ffavatar_model.networks.lpips``); None leaves LPIPS out.
        device: Where LPIPS runs.

    Raises:
        ValueError: The file holds no weights of LPIPS.
        FileNotFoundError: There is no such file.
    """
    network = None if lpips is None else load_lpips(lpips).to(device)
    analyzer, mesh = FaceAnalyzer(face_pack(pack)), MeshDetector.load()

    def embed(image: Tensor) -> Tensor | None:
        rgb = to_pixels(image)
        faces = analyzer.detect(rgb)
        if not faces:
            return None
        return torch.from_numpy(analyzer.embed(rgb, max(faces, key=lambda face: face.score).landmarks5))

    def landmarks(image: Tensor) -> Tensor | None:
        rgb = to_pixels(image)
        points, score = mesh.detect(rgb)
        return torch.from_numpy(points[:, :2] / rgb.shape[1]) if score >= LEAST_MESH_SCORE else None

    return Judges(embed=embed, landmarks=landmarks, lpips=network)


def to_pixels(image: Tensor) -> np.ndarray:
    """Return (H, W, 3) uint8 pixels of an image (3, H, W) in 0 to 1."""
    return np.ascontiguousarray((image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy())
