"""The face stack on the real weights, loaded once a run; photographs that installed packages ship."""

from __future__ import annotations

from pathlib import Path

import cv2
import insightface
import numpy as np
import pytest
import skimage.data

from pipelines.faces.align import crop_transform, warp_crop
from pipelines.faces.analysis import FaceAnalyzer
from pipelines.faces.matte import MatteModel
from pipelines.faces.mesh_detector import MeshDetector
from pipelines.faces.pack import FacePack, embedded_pack


@pytest.fixture(scope="session")
def pack() -> FacePack:
    return embedded_pack()


@pytest.fixture(scope="session")
def analyzer(pack: FacePack) -> FaceAnalyzer:
    return FaceAnalyzer(pack)


@pytest.fixture(scope="session")
def mesh_detector() -> MeshDetector:
    return MeshDetector.load()


@pytest.fixture(scope="session")
def matte_model() -> MatteModel:
    return MatteModel.load()


@pytest.fixture(scope="session")
def six_people() -> np.ndarray:
    """insightface's test photograph: six faces. (886, 1280, 3) RGB."""
    path = Path(insightface.__file__).parent / "data" / "images" / "t1.jpg"
    return np.ascontiguousarray(cv2.imread(str(path))[:, :, ::-1])


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """(512, 512, 3) RGB: one woman, facing the camera."""
    return np.ascontiguousarray(skimage.data.astronaut())


@pytest.fixture(scope="session")
def astronaut_crop(analyzer: FaceAnalyzer, astronaut: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(crop (256, 256, 3), frame → crop transform, landmarks in the frame)."""
    landmarks = analyzer.detect(astronaut)[0].landmarks5
    transform = crop_transform(landmarks, 256)
    return warp_crop(astronaut, transform, 256), transform, landmarks
