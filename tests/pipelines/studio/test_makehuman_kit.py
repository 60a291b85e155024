"""MakeHuman's own folder of assets as a kit: bindings, hidden vertices, skins, and what is missing or climbs out."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from pipelines.faces.weight_cache import cache_dir
from pipelines.studio.looks.dressed_people import open_people
from pipelines.studio.people.figure import Pose
from pipelines.studio.people.makehuman_files import read_proxy_file
from pipelines.studio.people.makehuman_kit import TILES, open_makehuman_kit
from pipelines.studio.people.open_base import N_BODY, OpenBase, load_open_base
from pipelines.studio.people.proxies import read_proxy
from tests.support.makehuman_folder import write_makehuman_folder


@pytest.fixture(scope="module")
def base(studio_head) -> OpenBase:
    return load_open_base(cache_dir(), studio_head.model)


@pytest.fixture(scope="module")
def folder(studio_head, base, tmp_path_factory) -> Path:
    lids = base.head_vertex[np.argsort(-studio_head.model.region("eyelids").numpy())[:4]]
    helpers = np.arange(N_BODY, len(base.template))
    eye = base.template[lids[0]]
    near = helpers[np.argsort(np.linalg.norm(base.template[helpers] - eye, axis=1))[:4]]
    top = base.head_vertex[np.argsort(-studio_head.model.template.numpy()[:, 1])[:4]]
    bound = {"eyelashes01": near.tolist(), "": top.tolist()}
    return write_makehuman_folder(tmp_path_factory.mktemp("makehuman") / "base", bound)


def test_a_proxys_file_is_read(folder):
    proxy = read_proxy_file(folder / "clothes" / "female_casualsuit01" / "female_casualsuit01.mhclo")
    assert proxy.obj_file == "female_casualsuit01.obj" and proxy.material == "female_casualsuit01.mhmat"
    assert proxy.arrays["delete_vertex"].tolist() == [3, 7, 8, 9]
    np.testing.assert_array_equal(proxy.arrays["scale_vertex"], [[5399, 11998], [791, 881], [962, 5320]])
    np.testing.assert_allclose(proxy.arrays["bind_weight"], [[0.5, 0.25, 0.25]] * 3 + [[1, 0, 0]])
    assert len(set(proxy.arrays["bind_index"][3].tolist())) == 1, "the last is bound to one vertex"


def test_helpers_are_left_for_the_skin_at_the_same_place(studio_head, base, folder):
    kit = open_makehuman_kit(folder, base, studio_head.model.triangles.numpy())
    arrays = kit.arrays("lashes/eyelashes01.npz")
    assert arrays["bind_index"].max() >= N_BODY > arrays["body_index"].max()
    places = []
    for chosen in ("bind", "body"):
        only = {n: v for n, v in arrays.items() if chosen == "body" or not n.startswith("body")}
        places.append(read_proxy(only, "lashes").binding.fit(base.template))
    np.testing.assert_allclose(places[0], places[1], atol=1e-5)
    assert "body_index" not in kit.arrays("brows/eyebrow001.npz")
    assert kit.has("eyes/high_poly.npz") and not kit.has("eyes/low_poly.npz")


def test_a_person_wears_them_and_the_lashes_follow_the_lid(studio_head, folder):
    source = open_people("open", cache_dir(), lambda _: studio_head.model, folder.parent)
    person = source.person("open-2")
    names = [surface.name for surface in person.surfaces]
    assert {"skin", "brows", "lashes", "eyes", "clothes"} <= set(names)
    rest, shut = person.pose(Pose()), person.pose(Pose({"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}))
    lashes = names.index("lashes")
    assert np.linalg.norm(shut.vertices[lashes] - rest.vertices[lashes], axis=1).max() > 5e-4


def test_skins_are_put_together_as_in_a_packed_kit(studio_head, base, folder):
    kit = open_makehuman_kit(folder, base, studio_head.model.triangles.numpy())
    row = kit.table("skins/skins.json")["skins"][0]
    assert row["file"] == "skins/textures/young_lightskinned_female_diffuse.png" and row["sex_word"] == "female"
    skin = kit.image(row["file"])
    (left, _, right, _), (x, y) = TILES[0]
    red = skin[y + 10, x : x + right - left, 0].astype(float)
    np.testing.assert_allclose(red, np.arange(left, right) / 2048 * 64 * 4, atol=8)


def test_what_is_missing_or_climbs_out_is_one_line(studio_head, base, folder, tmp_path):
    triangles = studio_head.model.triangles.numpy()
    part = shutil.copytree(folder, tmp_path / "part")
    shutil.rmtree(part / "hair")
    shutil.rmtree(part / "eyes" / "materials")
    with pytest.raises(ValueError, match=r"lacks hair, eyes/materials: name a complete folder with --assets"):
        open_makehuman_kit(part, base, triangles)
    bad = shutil.copytree(folder, tmp_path / "bad")
    proxy = bad / "hair" / "short01" / "short01.mhclo"
    proxy.write_text(proxy.read_text().replace("obj_file short01.obj", "obj_file ../../../secret.obj"))
    kit = open_makehuman_kit(bad, base, triangles)
    with pytest.raises(ValueError, match="leaves the folder"):
        kit.arrays("hair/short01.npz")
    (bad / "hair" / "bob01" / "bob01.obj").write_text("v 0 0 0\nf 1/1 1/1 9/9\n")
    with pytest.raises(ValueError, match=r"bob01\.obj is damaged"):
        kit.arrays("hair/bob01.npz")
    proxy.write_text("name short01\nobj_file short01.obj\n")
    with pytest.raises(ValueError, match=r"proxy .*short01\.mhclo is damaged"):
        kit.arrays("hair/short01.npz")
    (bad / "skins" / "textures" / "young_lightskinned_male_diffuse.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"young_lightskinned_male_diffuse\.png is no image"):
        kit.image("skins/textures/young_lightskinned_male_diffuse.png")
