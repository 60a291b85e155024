from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.transform import SimilarityTransform

from pipelines.faces.align import (
    ARCFACE_112,
    EYE_LEVEL,
    EYE_SPAN,
    MAX_UPSCALE,
    MOUTH_DROP,
    arcface_transform,
    crop_size,
    crop_transform,
    invert_transform,
    scale_of,
    transform_points,
    warp_crop,
)

FRONTAL = np.array([[350, 300], [450, 300], [400, 360], [365, 415.4545], [435, 415.4545]])
"""A frontal face, eyes 100 pixels apart, mouth 1.1545 eye distances lower."""


def turned(points: np.ndarray, degrees: float, scale: float = 1, shift: tuple[float, float] = (0, 0)) -> np.ndarray:
    c, s = math.cos(math.radians(degrees)) * scale, math.sin(math.radians(degrees)) * scale
    return points @ np.array([[c, -s], [s, c]]).T + shift


def test_the_layout_of_a_frontal_face() -> None:
    where = (transform_points(crop_transform(FRONTAL, 512), FRONTAL) + 0.5) / 512
    np.testing.assert_allclose(where[0], [0.5 - EYE_SPAN / 2, EYE_LEVEL], atol=1e-4)
    np.testing.assert_allclose(where[1], [0.5 + EYE_SPAN / 2, EYE_LEVEL], atol=1e-4)
    np.testing.assert_allclose(where[3:].mean(axis=0), [0.5, EYE_LEVEL + MOUTH_DROP], atol=1e-4)
    assert scale_of(crop_transform(FRONTAL, 512)) == pytest.approx(EYE_SPAN * 512 / 100)


def test_a_margin_shrinks_about_the_middle() -> None:
    plain = transform_points(crop_transform(FRONTAL, 400), FRONTAL) + 0.5
    wide = transform_points(crop_transform(FRONTAL, 400, margin=0.25), FRONTAL) + 0.5
    np.testing.assert_allclose(wide - 200, (plain - 200) / 1.5, atol=1e-9)


@given(st.floats(-170, 170), st.floats(0.05, 8), st.floats(-500, 500), st.floats(-500, 500))
def test_the_crop_does_not_depend_on_where_the_face_is(degrees: float, scale: float, x: float, y: float) -> None:
    face = FRONTAL + np.array([[0, 0], [2, 3], [9, -4], [1, 0], [0, 5]])  # no face is perfect
    moved = turned(face, degrees, scale, (x, y))
    expected = transform_points(crop_transform(face, 256), face)
    np.testing.assert_allclose(transform_points(crop_transform(moved, 256), moved), expected, atol=1e-6)


def test_a_mirrored_face_gives_a_mirrored_crop() -> None:
    face = FRONTAL + np.array([[0, 0], [2, 3], [20, -4], [1, 0], [0, 5]])
    mirrored = (face * [-1, 1])[[1, 0, 2, 4, 3]]
    there = transform_points(crop_transform(face, 256), face)
    expected = (there * [-1, 1] + [255, 0])[[1, 0, 2, 4, 3]]
    np.testing.assert_allclose(transform_points(crop_transform(mirrored, 256), mirrored), expected, atol=1e-9)


def test_a_profile_keeps_the_scale_of_its_height_and_moves_to_the_middle() -> None:
    profile = FRONTAL.copy()
    profile[:, 0] = 400 + (profile[:, 0] - 400) * 0.2
    profile[2, 0] += 40  # looks to the image's right
    transform = crop_transform(profile, 512)
    assert scale_of(transform) == pytest.approx(scale_of(crop_transform(FRONTAL, 512)), rel=1e-4)
    eyes = (transform_points(transform, profile[:2]).mean(axis=0) + 0.5) / 512
    assert 0.6 < eyes[0] <= 0.65 + 1e-9 and eyes[1] == pytest.approx(EYE_LEVEL, abs=1e-4)


@pytest.mark.parametrize(("eye_distance", "size"), [(200, 512), (75.1, 512), (50, 320), (20, 128), (1, 32)])
def test_crop_size_keeps_from_enlarging(eye_distance: float, size: int) -> None:
    face = (FRONTAL - 400) * eye_distance / 100
    assert crop_size(face) == size
    if size > 32:
        assert scale_of(crop_transform(face, size)) <= MAX_UPSCALE + 1e-9


@pytest.mark.parametrize("points", [np.zeros((5, 2)), np.full((5, 2), np.nan)])
def test_points_that_fall_together_are_no_face(points: np.ndarray) -> None:
    for transform in (crop_transform, arcface_transform):
        with pytest.raises(ValueError, match="coincide"):
            transform(points)


def test_arcface_transform_is_the_least_squares_similarity() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        face = turned(ARCFACE_112, rng.uniform(-90, 90), rng.uniform(0.2, 5), (30, -8)) + rng.normal(0, 3, (5, 2))
        expected = SimilarityTransform.from_estimate(face, ARCFACE_112).params[:2]
        np.testing.assert_allclose(arcface_transform(face), expected, atol=1e-8)


@pytest.mark.parametrize("scale", [0.06, 0.3, 0.49, 1.0, 2.3])
def test_warping_puts_each_pixel_where_the_transform_says(scale: float) -> None:
    """A frame whose red is x / 5 and green y / 5: the crop's colours tell where each of its pixels was taken from."""
    y, x = np.mgrid[:900, :1250]
    frame = np.dstack([x / 5, y / 5, np.full(x.shape, 7)]).astype(np.uint8)
    size = 64
    c, s = scale * math.cos(0.3), scale * math.sin(0.3)
    transform = np.array([[c, s, 0], [-s, c, 0]], np.float64)
    transform[:, 2] = size / 2 - transform[:, :2] @ [640, 450]
    crop = warp_crop(frame, transform, size).astype(float)
    rows, columns = np.mgrid[:size, :size]
    there = transform_points(invert_transform(transform), np.dstack([columns, rows]))
    inside = ((there > 12) & (there < [1237, 887])).all(axis=2)
    assert inside.sum() > 1500
    np.testing.assert_allclose(
        crop[inside][:, :2], there[inside] / 5 - 0.4, atol=1.6
    )  # rounded up once more at every halving
    assert (crop[~((there > -30) & (there < [1280, 930])).all(axis=2)] == 0).all()


def test_shrinking_averages() -> None:
    frame = np.zeros((512, 512), np.uint8)
    frame[::2] = 255  # stripes of one pixel would alias
    crop = warp_crop(frame, np.array([[0.25, 0, -9], [0, 0.25, -9]]), 100)
    assert crop.std() < 2 and crop.mean() == pytest.approx(127.5, abs=3)
