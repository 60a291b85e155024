from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipelines.faces import quality
from pipelines.faces.align import ARCFACE_112


def chequers(size: int, cell: int, low: int = 60, high: int = 180) -> np.ndarray:
    y, x = np.mgrid[:size, :size] // cell
    return np.where((x + y) % 2, high, low).astype(np.uint8)


def test_sharpness_is_the_laplacians_variance() -> None:
    stripes = np.tile(np.array([50, 100] * 56, np.uint8), (112, 1))  # Laplacian: +100, -100, +100 ...
    assert quality.sharpness(stripes) == pytest.approx(100**2)
    assert quality.sharpness(np.full((112, 112), 77, np.uint8)) == 0


def test_sharpness_falls_with_blur_and_with_small_faces() -> None:
    image = np.dstack([chequers(448, 12)] * 3)
    landmarks = ARCFACE_112 * 4
    sharp = quality.sharpness(quality.aligned_grey(image, landmarks))
    soft = quality.sharpness(quality.aligned_grey(cv2.GaussianBlur(image, (0, 0), 4), landmarks))
    small = cv2.resize(image, (40, 40), interpolation=cv2.INTER_AREA)
    tiny = quality.sharpness(quality.aligned_grey(small, ARCFACE_112 * 40 / 112))
    assert soft < sharp / 10 and tiny < sharp / 10


def test_what_surrounds_the_face_does_not_count_as_sharp() -> None:
    grey = chequers(112, 1)
    grey[10:-10, 10:-10] = 100
    assert quality.sharpness(grey) == 0


def test_aligned_grey_is_aligned() -> None:
    image = np.zeros((300, 400, 3), np.uint8)
    landmarks = ARCFACE_112 * 1.5 + [90, 60]
    for x, y in landmarks:
        cv2.circle(image, (round(x), round(y)), 4, (255, 255, 255), -1)
    grey = quality.aligned_grey(image, landmarks)
    assert grey.shape == (112, 112)
    for x, y in ARCFACE_112:
        assert grey[round(y), round(x)] > 200


@pytest.mark.parametrize(
    ("grey", "expected"),
    [
        (np.full((112, 112), 128, np.uint8), 128 / 255),
        (np.full((112, 112), 255, np.uint8), 0.0),
        (np.zeros((112, 112), np.uint8), 0.0),
        (np.repeat(np.array([255, 102], np.uint8), 56)[None].repeat(112, 0), (1 + 0.4) / 2 - 0.5),
    ],
)
def test_exposure(grey: np.ndarray, expected: float) -> None:
    assert quality.exposure(grey) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("box", "share"),
    [
        ((10, 10, 20, 30), 1.0),
        ((-5, 0, 5, 10), 0.5),
        ((90, 40, 110, 60), 0.25),
        ((200, 0, 210, 10), 0.0),
        ((5, 5, 5, 9), 0.0),
        ((-50, -25, 150, 75), 0.25),
    ],
)
def test_completeness_in_a_frame_of_100_by_50(box: tuple[float, ...], share: float) -> None:
    assert quality.completeness(box, 100, 50) == pytest.approx(share)


def noisy_frame() -> np.ndarray:
    rng = np.random.default_rng(3)
    smooth = cv2.GaussianBlur(rng.normal(128, 60, (240, 320)), (0, 0), 2) * 3 - 256
    return np.dstack([np.clip(smooth + rng.normal(0, 2, smooth.shape), 0, 255).astype(np.uint8)] * 3)


@pytest.mark.parametrize("box", [(0, 0, 320, 240), (37, 21, 203, 190)])
def test_compression_sees_the_blocks_of_a_jpeg(box: tuple[int, ...]) -> None:
    frame = noisy_frame()
    values = [quality.compression(frame, box)]
    for strength in (30, 8):
        data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, strength])[1]
        values.append(quality.compression(cv2.imdecode(data, cv2.IMREAD_COLOR), box))
    assert abs(values[0]) < 0.05
    assert values[0] < values[1] < values[2] and values[2] > 0.3


def test_compression_knows_the_frames_grid() -> None:
    """A staircase of 8 pixels: infinitely blocky on the grid, not at all half a block off it."""
    frame = np.dstack([np.tile(np.repeat(np.arange(20) * 10, 8), (64, 1)).astype(np.uint8)] * 3)
    frame[:, ::2] += 1
    assert quality.compression(frame, (0, 0, 160, 64)) > 2
    assert quality.compression(np.roll(frame, 4, axis=1), (8, 0, 152, 64)) < 0


def test_compression_of_nothing_is_none() -> None:
    assert quality.compression(noisy_frame(), (0, 0, 15, 100)) == 0
    assert quality.compression(np.zeros((64, 64, 3), np.uint8), (0, 0, 64, 64)) == 0


def test_occlusion_is_the_uncovered_share() -> None:
    corners = np.array([[20, 20], [79, 20], [79, 79], [20, 79]])
    mesh = np.zeros((468, 3))
    mesh[:, :2] = corners[np.arange(468) % 4]
    matte = np.full((100, 100), 255, np.uint8)
    assert quality.occlusion(mesh, matte) == 0
    matte[:, :35] = 0
    assert quality.occlusion(mesh, matte) == pytest.approx(15 / 60)
    matte[:] = 0
    assert quality.occlusion(mesh, matte) == 1
    mesh[:, 0] += 50  # the part of the face beyond the crop is left out
    matte[:, 70:85] = 255
    assert quality.occlusion(mesh, matte) == pytest.approx(0.5)
    mesh[:, 0] += 200
    assert quality.occlusion(mesh, matte) == 1
