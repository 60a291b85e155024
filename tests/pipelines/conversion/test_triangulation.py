"""Points from several views: exact on exact pixels, and wrong where the cameras are wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipelines.conversion.head_finder import MEAN_LANDMARKS, fit_head_pose
from pipelines.conversion.triangulation import fit_similarity, triangulate
from pipelines.media.cameras import Camera, aimed_camera, rotation_yxz

YAWS = (0.0, 0.5, -0.6, 0.2)
CAMERAS = [
    aimed_camera(yaw, 0.3 * yaw, distance=1.0 + 0.1 * i, target=np.zeros(3), span=0.5, size=400, roll=0.2 * i)
    for i, yaw in enumerate(YAWS)
]
G = np.random.default_rng(0)
POINTS = G.normal(scale=0.06, size=(40, 3))
PIXELS = np.stack([camera.project(POINTS)[0] for camera in CAMERAS])


def test_exact_pixels_give_the_points_back_whichever_cameras_see_them():
    seen = PIXELS.copy()
    seen[0, :10] = seen[3, 5:20] = np.nan
    seen[1:, 39] = np.nan
    found = triangulate(CAMERAS, seen)
    np.testing.assert_allclose(found.points[:39], POINTS[:39], atol=1e-12)
    assert np.isnan(found.points[39]).all() and np.nanmax(found.error_px) < 1e-8


def test_noise_of_pixels_becomes_noise_of_pixels_and_a_wrong_view_counts_less():
    noisy = PIXELS + G.normal(scale=0.5, size=PIXELS.shape)
    found = triangulate(CAMERAS, noisy)
    assert np.linalg.norm(found.points - POINTS, axis=1).max() < 0.005
    assert 0.2 < np.median(found.error_px) < 0.8
    noisy[2, ::4] += 30
    robust, plain = (triangulate(CAMERAS, noisy, soft_px=soft) for soft in (1.0, np.inf))
    off = [np.linalg.norm(t.points - POINTS, axis=1)[::4].mean() for t in (robust, plain)]
    assert off[0] < 0.003 < off[1]


@pytest.mark.parametrize(
    "harm",
    [
        lambda c: replace(c, world_to_camera=np.column_stack([c.world_to_camera[:, :3].T, c.world_to_camera[:, 3]])),
        lambda c: replace(  # camera to world taken for its inverse
            c, world_to_camera=np.column_stack([c.world_to_camera[:, :3].T, c.centre])
        ),
        lambda c: replace(c, world_to_camera=c.world_to_camera * np.array([1, 1, 1, 1000.0])),
        lambda c: replace(c, world_to_camera=np.diag([1.0, -1, -1]) @ c.world_to_camera),  # OpenGL's axes
        lambda c: replace(c, K=np.diag([0.5, 0.5, 1]) @ c.K),
        lambda c: replace(c, K=c.K + np.array([[0, 0, 1.0], [0, 0, 0], [0, 0, 0]])),  # one pixel aside
    ],
    ids=["transposed", "inverse", "millimetres", "axes", "scaled K", "shifted K"],
)
def test_a_wrong_camera_shows(harm):
    def worst(cameras: list[Camera]) -> float:
        """Pixels: known points through the cameras, and the triangulated ones' reprojection and place."""
        found = triangulate(cameras, PIXELS)
        known = max(float(np.abs(c.project(POINTS)[0] - p).max()) for c, p in zip(cameras, PIXELS, strict=True))
        return max(known, float(np.nanmax(found.error_px)), 1e3 * float(np.abs(found.points - POINTS).max()))

    assert worst(CAMERAS) < 0.1 < worst([harm(c) for c in CAMERAS])
    assert worst([*CAMERAS[:3], harm(CAMERAS[3])]) > 0.1, "one wrong camera among right ones shows too"


def test_a_known_shape_is_placed_with_its_size_in_spite_of_wrong_points():
    turn, shift = rotation_yxz(0.4, -0.2, 0.1), np.array([0.3, -0.1, 2.0])
    points = 1.07 * MEAN_LANDMARKS @ turn.T + shift
    points[3] += 0.05
    points[4] = np.nan
    fit = fit_similarity(MEAN_LANDMARKS, points)
    np.testing.assert_allclose(fit.head_to_world, np.column_stack([turn, shift]), atol=1e-3)
    assert fit.scale == pytest.approx(1.07, abs=0.003)
    with pytest.raises(ValueError, match="5 points"):
        fit_similarity(MEAN_LANDMARKS[:5], points[5:10])


def test_views_that_do_not_show_one_head_are_told():
    seen = {f"c{i}": c.project(MEAN_LANDMARKS)[0] for i, c in enumerate(CAMERAS)}
    cameras = {f"c{i}": c for i, c in enumerate(CAMERAS)}
    head = fit_head_pose(cameras, seen)
    assert head is not None and head.error_px < 1e-6
    np.testing.assert_allclose(head.fit.head_to_world, np.eye(3, 4), atol=1e-9)
    shifted = {name: pixels + 60 * (i - 1.5) for i, (name, pixels) in enumerate(seen.items())}
    assert fit_head_pose(cameras, shifted) is None
    g = np.random.default_rng(1)
    assert fit_head_pose(cameras, {name: g.uniform(0, 400, pixels.shape) for name, pixels in seen.items()}) is None
