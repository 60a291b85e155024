"""People of ICT-FaceKit: the open head wrapped around them, their actions, and damaged data."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pipelines.faces.weight_cache import cache_dir
from pipelines.studio.assets.kit import open_kit
from pipelines.studio.ict.ict_model import load_ict_model
from pipelines.studio.ict.ict_source import IctSource, open_ict_source
from pipelines.studio.ict.ict_wrap import carried, wrap_head
from pipelines.studio.people.figure import Pose, require_training
from pipelines.studio.people.obj_files import read_obj
from pipelines.studio.people.open_source import OpenSource, open_source
from tests.support.ict_kit import SIZE, write_ict_kit

KIT = os.environ.get("FFAVATAR_ASSETS", "")


@pytest.fixture(scope="module")
def open_people(studio_head) -> OpenSource:
    return open_source(cache_dir(), lambda _: studio_head.model)


@pytest.fixture(scope="module")
def kit_root(studio_head, tmp_path_factory) -> Path:
    return write_ict_kit(tmp_path_factory.mktemp("ict"), studio_head.model)


@pytest.fixture(scope="module")
def source(open_people, kit_root) -> IctSource:
    return open_ict_source(kit_root / "cache", open_people, open_kit(kit_root))


def test_the_open_head_is_wrapped_around_the_other_head(studio_head, kit_root):
    head, model = studio_head.model, load_ict_model(open_kit(kit_root))
    wrap = wrap_head(head, model)
    outer = (wrap.deep == 0) & (wrap.eye == 0) & (head.template.numpy()[:, 1] > -0.1)
    off = np.linalg.norm(wrap.position - SIZE * head.template.numpy(), axis=1)[outer]
    assert np.median(off) < 0.0005 and np.percentile(off, 95) < 0.004
    fall = -carried(wrap, model.expressions["jawOpen"], eyes_turn=True)[:, 1]
    lips = (head.region("lips").numpy() > 0.6) & (wrap.deep == 0)
    assert fall[lips & (wrap.jaw > 0.8)].min() > 0.01, "the lower lip falls"
    assert np.abs(fall[lips & (wrap.jaw < 0.2)]).max() < 0.006, "the upper lip stays"
    assert not fall[wrap.eye > 0].any()


def test_people_differ_act_and_have_the_open_heads_points(source, open_people):
    one, again, other = (source.person(name) for name in ("ict-4", "ict-4", "ict-5"))
    np.testing.assert_array_equal(one.rest, again.rest)
    assert np.abs(one.rest - other.rest).max() > 1e-3 and one.attributes.source == "ict"
    rest = one.pose(Pose())
    assert rest.expression is None and rest.rotations is None and rest.head_vertices is not None
    opened = one.pose(Pose({"jawOpen": 1.0}))
    fall = (rest.landmarks - opened.landmarks)[:, 1]
    assert fall[14] > 0.008 and abs(fall[1]) < 0.003, "lower lip and nose"
    left = one.pose(Pose(gaze=((0.3, 0.0), (0.3, 0.0))))
    assert (left.gaze[:, 0] > 0.25).all() and left.landmarks[468, 0] - rest.landmarks[468, 0] > 0.002
    tongue = one.pose(Pose({"tongueOut": 1.0})).head_vertices - rest.head_vertices
    assert tongue[:, 2].max() > 0.005
    with pytest.raises(ValueError, match="no action 'smirk'"):
        one.pose(Pose({"smirk": 1.0}))
    require_training(source)
    bottom = rest.vertices[0][:, 1] < -0.25
    assert bottom.any() and np.isfinite(rest.vertices[0]).all(), "there is a bust"
    assert set(source.shapes.action_names.tolist()) == set(open_people.head.action_names)


def test_registered_shapes_are_kept(source, open_people, kit_root, monkeypatch):
    monkeypatch.setattr("pipelines.studio.ict.ict_source.register_ict", lambda *_: pytest.fail("registered again"))
    again = open_ict_source(kit_root / "cache", open_people, open_kit(kit_root))
    np.testing.assert_array_equal(again.shapes.offsets, source.shapes.offsets)


def test_damaged_data_are_one_line(studio_head, open_people, kit_root, tmp_path):
    kit = open_kit(write_ict_kit(tmp_path / "kit", studio_head.model, drop="identity_q"))
    with pytest.raises(ValueError, match=r"lacks the arrays \['identity_q'\]"):
        open_ict_source(tmp_path, open_people, kit)
    assert not (tmp_path / "heads").exists(), "nothing half-written"
    folder = tmp_path / "checkout" / "FaceXModel"
    folder.mkdir(parents=True)
    with pytest.raises(ValueError, match=r"generic_neutral_mesh\.obj cannot be read .* complete folder with --assets"):
        load_ict_model(tmp_path / "checkout")
    mesh = folder / "generic_neutral_mesh.obj"
    corners = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 1 1 0\n"
    mesh.write_text(f"mtllib ../../secret.mtl\nvt 0 0\nvt 1 0\nvt 0 1\n{corners}f 1/1 2/2 3/3\nf 1 2 4 3\n")
    found = read_obj(mesh)
    assert found.vertices.shape == (4, 3) and found.quads.tolist() == [[0, 1, 2, -1], [0, 1, 3, 2]]
    assert found.quads_uv.tolist() == [[0, 1, 2, -1], [-1] * 4]
    with pytest.raises(ValueError, match=r"identity000\.obj cannot be read"):
        load_ict_model(tmp_path / "checkout")
    for wrong in ("v 0 0 x\nf 1 1 1\n", "v 0 0 0\nf 1 2 3\n", "v 0 0 0\nf 1 1\n"):
        mesh.write_text(wrong)
        with pytest.raises(ValueError, match="is damaged"):
            read_obj(mesh)


@pytest.mark.skipif(not KIT, reason="FFAVATAR_ASSETS names no kit of assets")
def test_the_real_face_is_followed_closely(studio_head):
    head, model = studio_head.model, load_ict_model(open_kit(Path(KIT)))
    wrap = wrap_head(head, model)
    off = np.linalg.norm(np.einsum("vk,vkc->vc", wrap.weights, model.neutral[wrap.corners]) - wrap.position, axis=1)
    for region in ("lips", "eyelids", "ears"):
        outer = (head.region(region).numpy() > 0.5) & (wrap.eye == 0) & (wrap.deep == 0)
        assert np.percentile(off[outer], 95) < 0.0015, region
