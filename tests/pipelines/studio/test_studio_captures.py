"""The step ``render_capture``: geometry, determinism, the published tables."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from mfhq.schema import BLOB_REF, CAMERAS, CAPTURES, IDENTITIES, VIEWS, key_of
from pipelines.conversion.capture_tables import capture_tables
from pipelines.engine.step import run_isolated
from pipelines.media.cameras import Camera
from pipelines.media.image_codec import decode_image
from pipelines.studio.captures.capture_step import (
    PLAN,
    RENDERED,
    plan_captures,
    render_capture_rows,
    render_capture_step,
)

SIZE = 96


@pytest.fixture(scope="module")
def plan():
    return plan_captures(2, 3, 2, SIZE, seed=5)


@pytest.fixture(scope="module")
def rendered(capture_studio, plan):
    return render_capture_rows(capture_studio, plan)


def test_a_step_of_three_rows_and_a_bad_one(capture_studio, plan, tmp_path):
    step = render_capture_step(tmp_path, capture_studio.head.digest)
    bad = plan.slice(0, 1).to_pylist()[0] | {"capture_id": "bad", "n_cameras": -1}
    rows = pa.concat_tables([plan_captures(1, 1, 1, 64), pa.Table.from_pylist([bad], schema=PLAN)])
    parts = list(run_isolated(step, capture_studio, rows))
    status = {row["capture_id"]: row["status"] for part, _ in parts for row in part.to_pylist()}
    assert sorted(status.values()) == ["failed", "ok"] and status["bad"] == "failed"
    assert step.fingerprint() != render_capture_step(tmp_path, "other").fingerprint()
    assert step.fingerprint() != render_capture_step(tmp_path, capture_studio.head.digest, "ict").fingerprint()


def test_the_same_plan_gives_the_same_bytes(capture_studio, plan, rendered):
    one_by_one = pa.concat_tables([render_capture_rows(capture_studio, plan.slice(i, 1)) for i in (1, 0)])
    assert one_by_one.slice(1, 1).equals(rendered.slice(0, 1)) and one_by_one.slice(0, 1).equals(rendered.slice(1, 1))


def test_truth_explains_the_matte_and_the_crop_is_aligned(studio_head, rendered):
    """The head model posed by the truth, projected by the view's K, fills the matte; the head fills the image."""
    for capture in rendered.to_pylist():
        cameras = {c["camera_id"]: c for c in capture["cameras"]}
        truth = {t["frame_index"]: t for t in capture["truth"]}
        for view in capture["views"]:
            timestep = truth[view["frame_index"]]
            vertices, _ = studio_head.pose(
                np.array(capture["shape"])[None],
                np.array(timestep["expression"])[None],
                np.array(timestep["rotations"]).reshape(1, 5, 3),
            )
            place = np.array(view["head_to_world"]).reshape(3, 4)
            assert view["head_to_world"] == timestep["head_to_world"]
            camera = Camera(
                np.array(view["K"]).reshape(3, 3),
                np.array(cameras[view["camera_id"]]["world_to_camera"]).reshape(3, 4),
                SIZE,
                SIZE,
            )
            pixels, depth = camera.project(vertices[0] @ place[:, :3].T + place[:, 3])
            matte = decode_image(view["matte"], grey=True)
            image = decode_image(view["image"])
            assert image.shape == (SIZE, SIZE, 3) and matte.shape == (SIZE, SIZE) and (depth > 0.5).all()
            inside = pixels[(pixels > 1).all(1) & (pixels < SIZE - 1).all(1)]
            x, y = inside.astype(int).T
            grown = np.max([np.roll(matte, s, (0, 1)) for s in ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))], axis=0)
            assert (grown[y, x] > 0).mean() > 0.995
            rows = np.flatnonzero((matte > 127).any(1))
            assert 0.5 < (rows[-1] - rows[0] + 1) / SIZE <= 1.0
            assert len(inside) / len(pixels) > 0.97


def test_a_views_k_is_its_cameras_after_crop_and_resize(rendered):
    for capture in rendered.to_pylist():
        full = {c["camera_id"]: np.array(c["K"]).reshape(3, 3) for c in capture["cameras"]}
        for view in capture["views"]:
            crop = np.array(view["K"]).reshape(3, 3) @ np.linalg.inv(full[view["camera_id"]])
            assert crop[0, 0] == pytest.approx(crop[1, 1])
            np.testing.assert_allclose(crop[[0, 1, 2, 2], [1, 0, 0, 1]], 0, atol=1e-9)


def test_plans_grow_without_moving_anyone():
    small, large = plan_captures(6, 2, 2, 64, seed=1), plan_captures(40, 2, 2, 64, seed=1)
    assert large.slice(0, 6).equals(small)
    assert set(small["split"].to_pylist()) == {"train", "val"} and "test" in large["split"].to_pylist()
    assert len(set(large["capture_id"].to_pylist())) == 40
    assert plan_captures(6, 2, 2, 64, seed=2)["identity_id"][0] != small["identity_id"][0]
    with pytest.raises(ValueError, match="n_cameras is 0"):
        plan_captures(1, 0, 1, 64)


def stored(rendered):
    """The table as the engine stores it: images' bytes replaced by where they lie."""
    rows = rendered.to_pylist()
    for row in rows:
        for view in row["views"] or []:
            view["image"] = {"uri": "a.blobs", "offset": 0, "length": len(view["image"])}
            view["matte"] = {"uri": "a.blobs", "offset": 9, "length": len(view["matte"])}
    kinds = {f.name: f.type for f in RENDERED.field("views").type.value_type}
    view = pa.struct([(n, BLOB_REF if n in ("image", "matte") else t) for n, t in kinds.items()])
    at = RENDERED.get_field_index("views")
    return pa.Table.from_pylist(rows, schema=RENDERED.set(at, RENDERED.field("views").with_type(pa.list_(view))))


def test_published_tables_fit_the_contract(rendered):
    failed = dict.fromkeys(RENDERED.names) | {"capture_id": "x", "status": "failed", "reason": "OSError"}
    table = pa.concat_tables([stored(rendered), pa.Table.from_pylist([failed], schema=stored(rendered).schema)])
    tables = capture_tables(table)
    for name, schema in {"cameras": CAMERAS, "captures": CAPTURES, "views": VIEWS, "identities": IDENTITIES}.items():
        assert tables[name].schema.equals(schema)
        keys = list(zip(*(tables[name][k].to_pylist() for k in key_of(schema)), strict=True))
        assert len(keys) == len(set(keys)) > 0
        for field in schema:
            assert field.nullable or tables[name][field.name].null_count == 0
    assert {n: t.num_rows for n, t in tables.items()} == {"cameras": 6, "captures": 2, "views": 12, "identities": 2}
    assert tables["views"]["image"][0]["uri"].as_py() == "a.blobs"
    with pytest.raises(ValueError, match="images' bytes"):
        capture_tables(rendered)
