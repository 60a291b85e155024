"""People of the open head: even facts, shoulders that follow the neck, eyes that turn alone, and checked kits."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pipelines.faces.weight_cache import cache_dir
from pipelines.studio.assets.kit import open_kit
from pipelines.studio.people.figure import Pose
from pipelines.studio.people.identities import STRATA, draw_facts
from pipelines.studio.people.open_source import OpenSource, open_source
from pipelines.studio.people.proxies import Binding, rigid_motion, split_jaws


def test_consecutive_people_have_each_sex_age_and_tone_once() -> None:
    facts = [draw_facts(f"open-{i}") for i in range(STRATA)]
    assert Counter((f.sex, f.age, f.tone) for f in facts).most_common(1)[0][1] == 1
    share = np.mean([draw_facts(f"open-{i}").unusual for i in range(3000)])
    assert 0.01 < share < 0.03


def test_a_bound_vertex_follows_its_base_vertices() -> None:
    base = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 4]], np.float32)
    ends = np.array([[0, 1], [0, 2], [0, 3]])
    weight = np.array([[0.5, 0.5, 0]], np.float32)
    offset = np.array([[0, 0.5, 0]], np.float32)
    binding = Binding(np.array([[0, 1, 2]]), weight, offset, ends, np.array([1, 1, 1], np.float32))
    np.testing.assert_allclose(binding.fit(base), [[0.5, 1, 0]])  # half way, and half of twice the unit higher
    moved = base + np.float32([0, 0, 1])
    np.testing.assert_allclose(binding.fit(moved, binding.scales(base)), [[0.5, 1, 1]])


def test_teeth_move_rigidly() -> None:
    g = np.random.default_rng(0)
    rest = g.normal(size=(20, 3)).astype(np.float32)
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]], np.float32)
    rotation, shift = rigid_motion(rest, rest @ turn.T + np.float32([1, 2, 3]))
    np.testing.assert_allclose(rotation, turn, atol=1e-5)
    np.testing.assert_allclose(shift, [1, 2, 3], atol=1e-5)
    points = np.float32([[0, 0, 0], [1, 0, 0], [0, 0, 1], [0, 5, 0], [1, 5, 0], [0, 5, 1]])
    jaws = split_jaws(points, np.int32([[0, 1, 2], [3, 4, 5]]))
    assert jaws.tolist() == [True] * 3 + [False] * 3
    gums = np.float32([[0, -2, 0], [0, 7, 0], [0.2, 7, 0]])
    jaws = split_jaws(np.append(points, gums, 0), np.int32([[0, 1, 2], [3, 4, 5], [6, 7, 8]]))
    assert jaws.tolist() == [True] * 3 + [False] * 3 + [True, False, False], "one piece of gums has both jaws"


def test_a_kit_is_whole_or_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no readable SHA256SUMS"):
        open_kit(tmp_path)
    (tmp_path / "a.json").write_text("{}")
    digest = hashlib.sha256(b"{}").hexdigest()
    (tmp_path / "SHA256SUMS").write_text(f"{digest}  a.json\n{digest}  lost.json\n")
    kit = open_kit(tmp_path)
    assert kit.table("a.json") == {}
    with pytest.raises(ValueError, match=r"lost\.json cannot be read"):
        kit.data("lost.json")
    with pytest.raises(ValueError, match=r"names no other\.json"):
        kit.data("other.json")
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(ValueError, match="corrupt or of another version"):
        kit.data("a.json")
    (tmp_path / "SHA256SUMS").write_text(f"{digest}  ../a.json\n")
    with pytest.raises(ValueError, match="line 1"):
        open_kit(tmp_path)


@pytest.fixture(scope="module")
def open_people(studio_head) -> OpenSource:
    """People of the open head; their base mesh is built once into the machine's cache, as the head is."""
    return open_source(cache_dir(), lambda _: studio_head.model)


def test_a_pose_turns_the_shoulders_the_eyes_and_the_jaw(open_people) -> None:
    person = open_people.person("open-3")
    rest, nod = person.pose(Pose()), person.pose(Pose(neck=(0.3, 0.0, 0.0)))
    skin = rest.vertices[0]
    assert skin[:, 1].min() < rest.head_vertices[:, 1].min() - 0.05, "shoulders below the head"
    np.testing.assert_array_equal(nod.head_vertices, rest.head_vertices)
    moved = np.linalg.norm(nod.vertices[0] - skin, axis=1)
    assert moved[skin[:, 1] < -0.25].min() > 0.01
    left = person.pose(Pose(gaze=((0.3, 0.0), (0.3, 0.0))))
    assert (left.gaze[:, 0] > 0.25).all() and np.abs(rest.gaze[:, 0]).max() < 1e-6
    assert (left.landmarks[468, 0] - rest.landmarks[468, 0]) > 0.002
    opened = person.pose(Pose(actions={"jawOpen": 1.0}))
    lower_lip, nose = 14, 1  # of the 468-point mesh
    fall = (rest.landmarks - opened.landmarks)[:, 1]
    assert fall[lower_lip] > 0.008 and abs(fall[nose]) < 0.003
