"""Studio people as arrays: the crops are those of the face stack, and truth lies where it is seen."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.conversion.head_crops import HEAD_CENTRE
from pipelines.faces.align import EYE_LEVEL, EYE_SPAN
from pipelines.media.cameras import aimed_camera
from pipelines.studio.captures.capture_studio import CaptureStudio
from pipelines.studio.captures.portraits import (
    LEFT_EYE,
    MOUTH,
    RIGHT_EYE,
    crop_camera,
    render_all_round_views,
    render_portraits,
)


def test_a_cut_camera_projects_as_the_cut_image_shows() -> None:
    camera = aimed_camera(0.2, 0.1, distance=1.0, target=HEAD_CENTRE, span=0.6, size=500, roll=0.05)
    points = HEAD_CENTRE + np.random.default_rng(0).normal(scale=0.05, size=(20, 3))
    turn = np.radians(12)
    transform = 0.7 * np.array([[np.cos(turn), -np.sin(turn), 20.0], [np.sin(turn), np.cos(turn), -40.0]])
    before, depth = camera.project(points)
    cut, cut_depth = crop_camera(camera, transform, 128).project(points)
    expected = (before - 0.5) @ transform[:, :2].T + transform[:, 2] + 0.5
    np.testing.assert_allclose(cut, expected, atol=1e-9)
    np.testing.assert_allclose(cut_depth, depth)
    assert crop_camera(camera, transform, 128).K[0, 1] == 0


def test_portraits_are_aligned_crops_of_one_person(capture_studio: CaptureStudio) -> None:
    seen = render_portraits(capture_studio, "someone", 4, 96)
    again = render_portraits(capture_studio, "someone", 4, 96)
    assert np.array_equal(seen.rgb, again.rgb) and seen.rgb.shape == (4, 96, 96, 3)
    assert (np.abs(seen.azimuth) < 75).all() and len(set(seen.timestep.tolist())) == 4
    straight = np.abs(seen.azimuth).argmin()
    marks = seen.landmarks[straight]
    right, left = marks[list(RIGHT_EYE)].mean(0), marks[list(LEFT_EYE)].mean(0)
    assert abs(np.linalg.norm(left - right) - EYE_SPAN) < 0.05
    assert abs((left + right)[1] / 2 - EYE_LEVEL) < 0.06
    # landmarks of the face lie on the person
    at = (marks[[1, *MOUTH]] * 96).astype(int)
    assert (seen.matte[straight][at[:, 1], at[:, 0]] > 200).all()
    assert 0.2 < (seen.matte > 127).mean() < 0.9
    assert np.abs(seen.expression).max() > 0.5 and not np.allclose(seen.expression[0], seen.expression[1])


def test_images_from_all_round_have_cameras_that_project_the_landmarks(capture_studio: CaptureStudio) -> None:
    seen = render_all_round_views(capture_studio, "someone", 1, 6, 96)
    assert (np.diff(np.sort(seen.azimuth)) > 20).all() and np.abs(seen.azimuth).max() > 120
    assert len(set(seen.timestep.tolist())) == 1 and np.allclose(seen.expression, seen.expression[0])
    # one set of points explains all the views: least squares from two views predicts the others
    rows = []
    P = [K @ pose for K, pose in zip(seen.K, seen.head_to_camera, strict=True)]
    for k in range(6):
        x, y = seen.landmarks[k, 1] * 96
        rows += [P[k][0] - x * P[k][2], P[k][1] - y * P[k][2]]
    system = np.array(rows)
    point, residual, *_ = np.linalg.lstsq(system[:, :3], -system[:, 3], rcond=None)
    assert float(residual[0]) < 1e-4 and np.linalg.norm(point - [0, -0.04, 0.05]) == pytest.approx(0, abs=0.04)
