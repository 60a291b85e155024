"""People, talking heads and landmarks of the studio."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.faces.analysis import FaceAnalyzer
from pipelines.faces.mesh_detector import MeshDetector
from pipelines.faces.pack import face_pack
from pipelines.media.cameras import aimed_camera
from pipelines.studio.appearance import HAIR_STYLES, random_appearance
from pipelines.studio.captures.talking_head import render_talking_head, write_talking_head
from pipelines.studio.landmark_search import LIGHTING, SIZE, SPAN, TARGET, find_landmarks, open_head_with_landmarks
from pipelines.studio.person import make_person
from pipelines.studio.renderer import build_scene, render_mesh
from pipelines.studio.studio_head import make_studio_head

NEUTRAL = np.zeros((1, 0), np.float32), np.zeros((1, 5, 3), np.float32)


def photograph(person, yaw, size=224):
    camera = aimed_camera(yaw, 0.0, distance=1.0, target=np.array([0, -0.012, -0.05]), span=0.42, size=size)
    return render_mesh(build_scene(person.meshes(*NEUTRAL)[0]), camera, LIGHTING, (0.3, 0.3, 0.33)).rgb


def test_the_face_stack_takes_them_for_people_and_tells_them_apart(studio_head):
    analyzer, people = FaceAnalyzer(face_pack()), []
    for i in range(4):
        person, vectors = make_person(studio_head, f"test-person-{i}"), []
        for yaw in (0.0, 0.5):
            image = photograph(person, yaw)
            found = analyzer.detect(image)
            assert len(found) == 1 and found[0].score > 0.8
            vectors.append(analyzer.embed(image, found[0].landmarks5))
        people.append(vectors)
    same = [a @ b for a, b in people]
    different = [people[i][0] @ people[j][0] for i in range(4) for j in range(i)]
    assert min(same) > 0.6 and max(different) < min(same)


def test_a_person_is_the_same_each_time_and_keeps_the_appearance(studio_head):
    one, again, other = (make_person(studio_head, name) for name in ("a", "a", "b"))
    np.testing.assert_array_equal(one.surface.colours, again.surface.colours)
    np.testing.assert_array_equal(one.meshes(*NEUTRAL)[0].vertices, again.meshes(*NEUTRAL)[0].vertices)
    assert one.appearance == again.appearance != other.appearance
    assert np.abs(one.shape - other.shape).max() > 0.5
    assert np.isfinite(one.surface.colours).all()
    assert one.surface.colours.min() >= 0 and one.surface.colours.max() <= 1


def test_every_kind_of_appearance_occurs():
    appearances = [random_appearance(f"look-{i}") for i in range(150)]
    assert {appearance.hair_style for appearance in appearances} == set(HAIR_STYLES)
    for share in (
        [bool(x.glasses) for x in appearances],
        [x.beard > 0 for x in appearances],
        [x.freckles > 0 for x in appearances],
    ):
        assert 0.05 < np.mean(share) < 0.6
    assert np.std([sum(appearance.skin) for appearance in appearances]) > 0.3


def test_hair_stands_off_and_follows_the_head(studio_head):
    person = make_person(studio_head, "hairy")
    person = replace(person, offset=np.zeros_like(person.offset), accessories=())
    turned = np.zeros((1, 5, 3), np.float32)
    turned[0, 1, 1] = 0.4
    bare = person.meshes(NEUTRAL[0], turned)[0].vertices
    off = np.zeros_like(person.offset)
    off[studio_head.template[:, 1].argmax()] = [0, 0, 0.01]
    moved = replace(person, offset=off).meshes(NEUTRAL[0], turned)[0].vertices - bare
    top = moved[studio_head.template[:, 1].argmax()]
    np.testing.assert_allclose(top, [0.01 * np.sin(0.4), 0, 0.01 * np.cos(0.4)], atol=1e-5)


def test_a_talking_head_is_written_with_its_truth(capture_studio, tmp_path):
    video = render_talking_head(capture_studio, "talker", 0.4, 10, 96)
    truth = pq.read_table(write_talking_head(video, tmp_path / "talker.mp4"))
    assert (tmp_path / "talker.mp4").stat().st_size > 1000 and truth.num_rows == 4
    assert truth.equals(render_talking_head(capture_studio, "talker", 0.4, 10, 96).truth)
    assert not truth.equals(render_talking_head(capture_studio, "talker", 0.4, 10, 96, take=1).truth)
    long = render_talking_head(capture_studio, "talker", 20, 3, 96).truth
    yaw = long["yaw_deg"].to_numpy()
    assert np.abs(yaw).max() <= 30.01 and np.ptp(yaw) > 15
    place = np.array(long["head_to_world"].to_pylist()).reshape(-1, 3, 4)
    np.testing.assert_allclose(np.degrees(np.arctan2(place[:, 0, 2], place[:, 2, 2])), yaw, atol=1e-3)
    with pytest.raises(ValueError, match="give no video"):
        render_talking_head(capture_studio, "talker", 0.0, 10, 96)


@pytest.fixture(scope="module")
def found(studio_head):
    detector = MeshDetector.load()
    return find_landmarks(studio_head.model, lambda image: detector.detect(image)[0])


def test_landmarks_lie_where_the_detector_sees_them_on_another_person(studio_head, found):
    detector = MeshDetector.load()
    assert len(found.index) > 350 and np.median(found.spread) < 0.002
    np.testing.assert_allclose(found.barycentric.sum(1), 1, atol=1e-5)
    person = make_person(studio_head, "landmarks")
    camera = aimed_camera(0.2, 0.0, distance=1.0, target=TARGET, span=SPAN, size=SIZE)
    bare = person.surface.posed(person.meshes(*NEUTRAL)[0].vertices[: len(studio_head.template)])
    seen, _ = detector.detect(render_mesh(bare, camera, LIGHTING, (0.3, 0.3, 0.3)).rgb)
    corners = person.surface.vertices[studio_head.triangles[found.triangles]]
    pixels, _ = camera.project((corners * found.barycentric[..., None]).sum(1))
    off = np.linalg.norm(pixels - seen[found.index, :2], axis=1) * SPAN / SIZE
    assert off.mean() < 0.005  # metres
    lips = {int(i): t for i, t in zip(found.index, found.triangles, strict=True)}
    jaw = studio_head.weights[:, 2]
    if 13 in lips and 14 in lips:
        assert jaw[studio_head.triangles[lips[13]]].mean() < 0.3 < 0.7 < jaw[studio_head.triangles[lips[14]]].mean()


def test_a_detector_that_finds_no_face_is_an_error(studio_head, monkeypatch):
    monkeypatch.setattr("pipelines.studio.landmark_search.VIEWS", ((0.0, 0.0),))
    with pytest.raises(ValueError, match="of 468 face-mesh points found on head model 'open'"):
        find_landmarks(studio_head.model, lambda image: np.full((468, 3), -1000.0))


def test_landmarks_are_kept_in_the_heads_file(studio_head, found, tmp_path, monkeypatch):
    monkeypatch.setattr("ffavatar_model.head.open_head.make_open_head", lambda: studio_head.model)
    monkeypatch.setattr("pipelines.studio.landmark_search.find_landmarks", lambda head, detect: found)
    head = open_head_with_landmarks(tmp_path, lambda: len)
    again = open_head_with_landmarks(tmp_path, lambda: pytest.fail("the detector was loaded again"))
    assert again.n_landmarks == head.n_landmarks == len(found.index) and again.digest == studio_head.model.digest


def test_only_the_open_head_can_be_painted(studio_head):
    with pytest.raises(ValueError, match="lacks the regions"):
        make_studio_head(replace(studio_head.model, regions=studio_head.model.regions[:, :0], region_names=()))
