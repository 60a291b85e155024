"""The rig: cameras all round, a world of its own, truth that explains the images."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.studio.captures.camera_rig import RigSpec, plan_rig
from pipelines.studio.part_classes import Part

SPEC = RigSpec(n_cameras=5, width=84, height=128, chair=True)
SEGMENTS = {"EXP_neutral_peak": 1, "EXP_none": 0, "EXP_free_face": 2}


@pytest.fixture(scope="module")
def rig(capture_studio):
    return plan_rig(capture_studio, "rig-person", SPEC, SEGMENTS, first_frame=100, frame_step=4, fps=30)


def test_the_plan_is_the_same_each_time_and_its_frames_are_numbered(capture_studio, rig):
    again = plan_rig(capture_studio, "rig-person", SPEC, SEGMENTS, first_frame=100, frame_step=4, fps=30)
    assert [m.frame_index for m in rig.timesteps] == [100, 104, 108]
    assert [m.segment for m in rig.timesteps] == ["EXP_neutral_peak", "EXP_free_face", "EXP_free_face"]
    assert rig.timesteps[1].time_s == pytest.approx(104 / 30)
    for a, b in zip(rig.timesteps, again.timesteps, strict=True):
        np.testing.assert_array_equal(a.head_to_world, b.head_to_world)
    assert np.abs(rig.timesteps[0].expression).max() < 1e-6


def test_cameras_stand_all_round_and_the_world_is_the_rigs_own(rig):
    place = rig.timesteps[0].head_to_world
    assert np.linalg.norm(place[:, :3] - np.eye(3)) > 0.3
    np.testing.assert_allclose(place[:, :3] @ place[:, :3].T, np.eye(3), atol=1e-12)
    seen_from_head = [place[:, :3].T @ (camera.centre - place[:, 3]) for camera in rig.cameras.values()]
    yaws = np.degrees([np.arctan2(x, z) for x, _, z in seen_from_head])
    assert abs(yaws[0]) < 25 and (np.abs(yaws) > 110).sum() >= 2 and np.ptp(yaws) > 180


def test_the_truth_explains_images_and_parts(rig):
    timestep = rig.timesteps[0]
    vertices = timestep.vertices @ timestep.head_to_world[:, :3].T + timestep.head_to_world[:, 3]
    for view in rig.render_views(timestep):
        camera = rig.cameras[view.camera_id]
        assert view.rgb.shape == (128, 84, 3) and view.parts.shape == view.alpha.shape == (128, 84)
        pixels, depth = camera.project(vertices)
        inside = ((pixels > 0) & (pixels < (84, 128))).all(1)
        assert inside.mean() > 0.95 and (depth > 0.5).all()
        person = (view.parts != Part.BACKGROUND) & (view.parts != Part.CHAIR)
        x, y = pixels[inside].astype(int).T
        near = np.max([np.roll(person, s, (0, 1)) for s in ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))], axis=0)
        hidden = view.parts[y, x] == Part.CHAIR
        assert (near[y, x] | hidden).mean() > 0.99
        assert not view.alpha[view.parts == Part.CHAIR].any() and view.alpha[person].min() > 0
        assert rig.render_background(view.camera_id).shape == (128, 84, 3)
    front = next(iter(rig.render_views(timestep)))
    assert {Part.BODY, Part.UPPER_LIP, Part.CHAIR} <= set(np.unique(front.parts))


def test_a_rig_without_cameras_or_names_is_refused(capture_studio):
    with pytest.raises(ValueError, match="0 cameras and 3 frames"):
        plan_rig(capture_studio, "x", RigSpec(n_cameras=0, width=8, height=8), SEGMENTS)
    with pytest.raises(ValueError, match="1 names for 5 cameras"):
        plan_rig(capture_studio, "x", SPEC, SEGMENTS, camera_names=("a",))
