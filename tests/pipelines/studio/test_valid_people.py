"""People of VALID: the 52 actions, eyes and shoulders, damaged kits, and no training."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.faces.mesh_detector import MeshDetector
from pipelines.media.cameras import aimed_camera
from pipelines.studio.assets.kit import open_kit
from pipelines.studio.captures.capture_studio import CaptureStudio
from pipelines.studio.motion.gazing import gaze_actions
from pipelines.studio.motion.sides import face_actions
from pipelines.studio.part_classes import Part
from pipelines.studio.people.figure import Pose, require_training
from pipelines.studio.people.nearest import closest_barycentric, nearest_on_mesh
from pipelines.studio.registration.mesh_points import SIZE, SPAN, TARGET
from pipelines.studio.rendering.draws import random_scene
from pipelines.studio.rendering.ray_renderer import RayRenderer
from pipelines.studio.valid.valid_actions import action_mixtures, mix_expressions
from pipelines.studio.valid.valid_source import ValidSource
from tests.support.valid_kit import write_valid_kit

KIT = os.environ.get("FFAVATAR_ASSETS", "")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> ValidSource:
    return ValidSource(open_kit(write_valid_kit(tmp_path_factory.mktemp("kit"))))


def test_the_52_actions_are_mixed_and_others_are_refused():
    assert set(action_mixtures()) == face_actions() | set(gaze_actions(((0.0, 0.0), (0.0, 0.0))))
    assert mix_expressions({"jawOpen": 0.5, "mouthClose": 0.5}) == {"MouthOpen": 0.0, "Chew": 0.5}
    assert mix_expressions({"browOuterUpLeft": 1.0}) == {"LLbrowUp": 1.3, "LbrowUp": 0.25}
    with pytest.raises(ValueError, match="no action 'smirk'"):
        mix_expressions({"smirk": 1.0})


def test_a_pose_moves_the_face_the_eyes_and_the_shoulders(source):
    person = source.person("One")
    rest = person.pose(Pose())
    assert person.attributes.sex == "female" and person.attributes.styles == {"hair": "wig"}
    assert rest.landmarks.shape == (478, 3) and np.isfinite(rest.landmarks).all()
    assert [s.name for s in person.surfaces][:2] == ["skin", "eyes"] and person.surfaces[-1].part == Part.HAIR
    assert len(rest.vertices) == len(person.surfaces)
    opened = person.pose(Pose({"jawOpen": 0.5}))
    vertex = int(np.flatnonzero(person.vertex[0] == 6)[0])
    fall = (opened.vertices[0] - rest.vertices[0])[vertex]
    np.testing.assert_allclose(fall, [0, -0.7 * 0.01, 0], atol=1e-6)
    left = person.pose(Pose(gaze=((0.4, 0.0), (0.4, 0.0))))
    assert (left.gaze[:, 0] > 0.35).all() and (left.vertices[1][:, 0] - rest.vertices[1][:, 0]).max() > 0.003
    assert left.landmarks[468, 0] - rest.landmarks[468, 0] > 0.003
    turned = person.pose(Pose(neck=(0.0, 0.5, 0.0)))
    moved = np.linalg.norm(turned.vertices[0] - rest.vertices[0], axis=1)
    assert (moved[np.isin(person.vertex[0], range(5))] > 1e-3).all() and moved[vertex] == 0
    np.testing.assert_array_equal(turned.vertices[-1], rest.vertices[-1])


def test_ids_stand_for_avatars(source):
    assert source.names == ("One", "Two")
    assert [source.avatar_of(name) for name in ("Two", "x-0", "x-1", "x-12")] == ["Two", "One", "Two", "One"]
    assert source.person("x-0").identity_id == "x-0"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"expr_delta": None}, r"lacks the arrays \['expr_delta'\]"),
        ({"expr_index": np.full(4, 999, np.uint16)}, "does not fit"),
        ({"vertices": np.zeros((3, 3), np.float32)}, "does not fit"),
    ],
)
def test_a_damaged_person_is_one_line(tmp_path: Path, change, message):
    with pytest.raises(ValueError, match=message):
        ValidSource(open_kit(write_valid_kit(tmp_path, change))).person("One")


def test_a_kit_that_is_changed_or_climbs_out_is_refused(source, tmp_path):
    with pytest.raises(ValueError, match=r"SHA256SUMS names no valid/\.\./\.\./secret\.png"):
        source.person("Two")
    root = write_valid_kit(tmp_path)
    (root / "valid" / "topology.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"topology\.npz is corrupt or of another version"):
        ValidSource(open_kit(root)).person("One")


def test_no_training_sees_them(source):
    with pytest.raises(ValueError, match="source 'valid' are kept for evaluation: name open or ict"):
        require_training(source)
    with pytest.raises(ValueError, match="kept for evaluation"):
        CaptureStudio(source, None, RayRenderer())


def test_the_nearest_point_of_a_triangle_is_inside_on_an_edge_or_a_corner():
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    points = np.array([[0.25, 0.25, 9], [0.5, -3, 0], [-1, -1, 0], [2, 2, 1]])
    there = closest_barycentric(points, np.broadcast_to(corners, (4, 3, 3))) @ corners
    np.testing.assert_allclose(there, [[0.25, 0.25, 0], [0.5, 0, 0], [0, 0, 0], [0.5, 0.5, 0]], atol=1e-12)
    triangle, weights = nearest_on_mesh(points, np.append(corners, corners + 5, 0), np.array([[0, 1, 2], [3, 4, 5]]))
    assert triangle.tolist() == [1, 0, 0, 0] and np.allclose(weights.sum(1), 1)


@pytest.mark.skipif(not KIT, reason="FFAVATAR_ASSETS names no kit of assets")
def test_the_points_lie_where_the_detector_sees_them_on_the_real_people():
    source, detector = ValidSource(open_kit(Path(KIT))), MeshDetector.load()
    scene = replace(random_scene(np.random.default_rng(3)), key=None)
    camera = aimed_camera(0.0, 0.0, distance=1.0, target=TARGET, span=SPAN, size=SIZE)
    assert len(source.names) == 38
    for name in ("White_M_3", "NHPI_M_2"):
        figure = source.person(name)
        posed = figure.pose(Pose({"jawOpen": 0.4}))
        found, score = detector.detect(RayRenderer(1).render(figure, posed, camera, scene, truth=False).rgb)
        off = np.linalg.norm(camera.project(posed.landmarks[:468])[0] - found[:, :2], axis=1) * SPAN / SIZE
        assert score > 0.9 and off.mean() < 0.003, f"{name}: {off.mean()} m"
        assert figure.pose(Pose({"tongueOut": 1.0})).vertices[4][:, 2].max() > posed.vertices[4][:, 2].max() + 0.02
