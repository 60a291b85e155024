"""People of the open head without a kit: faces for the face stack, hair and teeth with their classes."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.faces.analysis import FaceAnalyzer
from pipelines.faces.pack import face_pack
from pipelines.media.cameras import aimed_camera
from pipelines.studio.mesh import grid_barycentric
from pipelines.studio.part_classes import Part
from pipelines.studio.people.figure import Pose
from pipelines.studio.people.open_source import OpenSource
from pipelines.studio.people.triangle_atlas import ORDER, atlas_coordinates, pack_atlas
from pipelines.studio.rendering.draws import random_scene
from pipelines.studio.rendering.lookup import sample_bilinear
from pipelines.studio.rendering.ray_renderer import RayRenderer


def test_an_atlas_keeps_colours_that_are_linear_over_triangles() -> None:
    g = np.random.default_rng(0)
    corners = g.uniform(0, 255, (5, 3, 1)).astype(np.float32)
    colours = np.einsum("gk,tkc->tgc", grid_barycentric(ORDER), corners)
    atlas = pack_atlas(colours, np.float32([7]))
    uv = atlas_coordinates(5)
    weights = g.dirichlet([1, 1, 1], 40).astype(np.float32)
    for triangle in range(5):
        places = weights @ uv[triangle]
        found = sample_bilinear(atlas, places[:, 0], places[:, 1])
        np.testing.assert_allclose(found, weights @ corners[triangle], atol=0.05)
    spare = uv[5].mean(0)
    np.testing.assert_allclose(sample_bilinear(atlas, spare[:1], spare[1:]), 7)


def test_the_face_stack_takes_them_for_people_and_tells_them_apart(plain_people: OpenSource) -> None:
    analyzer, people = FaceAnalyzer(face_pack()), []
    renderer, scene = RayRenderer(samples=1), random_scene(np.random.default_rng(3))
    for i in range(4):
        person, vectors = plain_people.person(f"test-person-{i}"), []
        cameras = [
            aimed_camera(yaw, 0.0, distance=1.0, target=np.array([0, -0.012, -0.05]), span=0.42, size=224)
            for yaw in (0.0, 0.5)
        ]
        for image in renderer.render_views(person, person.pose(Pose()), cameras, scene, truth=False):
            found = analyzer.detect(image.rgb)
            assert len(found) == 1 and found[0].score > 0.8
            vectors.append(analyzer.embed(image.rgb, found[0].landmarks5))
        people.append(vectors)
    same = [a @ b for a, b in people]
    different = [people[i][0] @ people[j][0] for i in range(4) for j in range(i)]
    assert min(same) > 0.6 and max(different) < min(same)


def test_looks_follow_the_facts_and_the_truth_names_their_parts(plain_people: OpenSource) -> None:
    people = [plain_people.person(f"open-{i}") for i in range(12)]
    styles = [person.attributes.styles["hair"] for person in people]
    assert len(set(styles)) >= 3
    for person, style in zip(people, styles, strict=True):
        names = {surface.name for surface in person.surfaces}
        assert {"skin", "teeth_upper", "teeth_lower"} <= names
        assert ("hair_long" in names) == (style == "long") and ("hair" in names) == (style != "bald")
        if person.attributes.sex == "female":
            assert style != "bald" and person.attributes.styles["beard"] == "0.0"
    haired = next(p for p, style in zip(people, styles, strict=True) if style in ("short", "long"))
    camera = aimed_camera(0.0, 0.0, distance=1.0, target=np.array([0, -0.012, -0.05]), span=0.3, size=96)
    image = RayRenderer(samples=1).render(
        haired, haired.pose(Pose(actions={"jawOpen": 1.0})), camera, random_scene(np.random.default_rng(0))
    )
    assert image.truth is not None
    share = {part: float((image.truth.part == part).mean()) for part in Part}
    assert share[Part.HAIR] > 0.02 and share[Part.BODY] > 0.2
    assert min(share[p] for p in (Part.UPPER_LIP, Part.LOWER_LIP, Part.UPPER_TEETH)) > 0


def test_a_person_is_the_same_each_time(plain_people: OpenSource) -> None:
    one, again, other = (plain_people.person(name) for name in ("a", "a", "b"))
    np.testing.assert_array_equal(one.surfaces[0].material.base_colour, again.surfaces[0].material.base_colour)
    assert one.attributes == again.attributes and np.abs(one.shape - other.shape).max() > 0.3
    lower = next(i for i, surface in enumerate(one.surfaces) if surface.name == "teeth_lower")
    shut, wide = one.pose(Pose()), one.pose(Pose(actions={"jawOpen": 1.0}))
    assert (shut.vertices[lower] - wide.vertices[lower])[:, 1].mean() > 0.008
    assert shut.vertices[lower - 1] == pytest.approx(wide.vertices[lower - 1])
