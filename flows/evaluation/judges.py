"""Networks that judge face images in the evaluation: a face pack's embedder, the face mesh, and LPIPS."""

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
"""Score below which a face mesh counts as not found."""


def open_judges(pack: str | None, lpips: Path | None, device: torch.device) -> Judges:
    """Load a face pack's embedder, the face mesh, and LPIPS.

    Args:
        pack: Name or folder of the embedder's face pack; None for the embedded pack.
        lpips: File with the weights of LPIPS (``ffavatar_model.networks.lpips``); None to leave LPIPS out.
        device: Device of LPIPS.

    Raises:
        ValueError: ``lpips`` is not a file of LPIPS weights.
        FileNotFoundError: ``lpips`` does not exist.
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
    """Convert a (3, H, W) image in 0 to 1 to (H, W, 3) uint8 pixels."""
    return np.ascontiguousarray((image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy())
