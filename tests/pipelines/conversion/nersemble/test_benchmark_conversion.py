"""The benchmark's own folders → views: its tracking and its mattes are used, and nobody in them is trained on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest

from nersemble.benchmark import MONO, MONO_TRAIN, NVS
from nersemble.camera_params import read_camera_params
from nersemble.errors import NersembleError
from nersemble.flame_tracking import MAX_BYTES, read_tracking, write_tracking
from nersemble.layout import calibration_path, tracking_path
from pipelines.conversion.nersemble.nersemble_config import NersembleConfig
from pipelines.conversion.nersemble.recordings import plan_nersemble
from pipelines.faces.weight_cache import cache_dir
from pipelines.media.cameras import Camera
from pipelines.media.image_codec import decode_image
from pipelines.studio.captures.capture_studio import open_capture_studio
from pipelines.studio.captures.nersemble_benchmark_layout import SCALE, BenchmarkSpec, write_benchmark
from pipelines.studio.captures.nersemble_layout import TRUTH_FILE

SIZE, N_CAMERAS = 128, 4
CONFIG = NersembleConfig(size=SIZE, frames=1)
SMALL = replace(NVS, width=220, height=320)
TRAINED = ("EXP-1-head",)
SPEC = BenchmarkSpec(tasks=(MONO, SMALL), frames=1, cameras=N_CAMERAS, train_sequences=TRAINED, test_sequences=())

MONO_CAPTURE = "nersemble-mono_flame_avatar-393-EXP-1-head"


class Converted(NamedTuple):
    """A folder, its truth's rows by (participant, sequence), and what was made of it by capture."""

    root: object
    truth: dict
    rows: dict
    missing: tuple


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> Converted:
    root = tmp_path_factory.mktemp("benchmark")
    assert len(list(write_benchmark(open_capture_studio(cache_dir()), root, SPEC))) == 2
    person = root / MONO.name / "393"
    shutil.copytree(tracking_path(person, "EXP-1-head").parent, tracking_path(person, "FREE").parent)
    plan = plan_nersemble(str(root), CONFIG)
    rows = {row["capture_id"]: row for row in plan.step.fn(plan.step.load(), plan.items).to_pylist()}
    truth = {(row["participant"], row["sequence"]): row for row in pq.read_table(root / TRUTH_FILE).to_pylist()}
    return Converted(root, truth, rows, plan.missing)


def test_both_tasks_are_converted_and_held_out(converted):
    mono, nvs = (converted.rows[name] for name in (MONO_CAPTURE, "nersemble-nvs-388-GLASSES"))
    assert len(converted.rows) == 2, "a test sequence has no images"
    assert {v["camera_id"] for v in mono["views"]} == {MONO_TRAIN} and len(nvs["views"]) == N_CAMERAS
    for row in (mono, nvs):
        assert row["split"] == "test" and {(v["status"], v["split"]) for v in row["views"]} == {("ok", "test")}
    assert {a.reason for a in converted.missing} == {"camera_absent"}
    assert sum("393/sequences/EXP-" in a.name for a in converted.missing) == 6, "the other training sequences are named"


def test_known_points_lie_where_every_view_says_and_the_images_show_them(converted):
    """Through K and pose of each view: below 0.1 px of where the calibration file's camera has them in the whole
    image. The head's outline by the matte agrees."""
    for row, task in zip(converted.rows.values(), (MONO, SMALL), strict=True):
        participant, sequence = int(row["identity_id"][-3:]), row["views"][0]["segment"]
        true = converted.truth[participant, sequence]
        place = np.array(true["head_to_world"]).reshape(3, 4)
        points = SCALE * (np.array(true["vertices"]).reshape(-1, 3) @ place[:, :3].T + place[:, 3])
        calibration = read_camera_params(calibration_path(converted.root / task.name / f"{participant}"), None)
        for view in row["views"]:
            (found,) = [c for c in row["cameras"] if c["camera_id"] == view["camera_id"]]
            pose, K = np.array(found["world_to_camera"]).reshape(3, 4), np.array(view["K"]).reshape(3, 3)
            full = calibration.K[view["camera_id"]]
            whole = Camera(full, calibration.world_to_camera[view["camera_id"]], task.width, task.height)
            scale = K[0, 0] / full[0, 0]
            expected = whole.project(points)[0] * scale + K[:2, 2] - scale * full[:2, 2]
            seen = Camera(K, pose, SIZE, SIZE).project(points)[0]
            assert np.abs(seen - expected).max() < 0.1
            inside = seen[(seen > 1).all(1) & (seen < SIZE - 1).all(1)].astype(int)
            matte = decode_image(view["matte"], grey=True)
            assert len(inside) > 500 and (matte[inside[:, 1], inside[:, 0]] > 100).mean() > 0.98


def test_the_tracking_says_where_the_head_is(converted):
    row = converted.rows[MONO_CAPTURE]
    true = np.array(converted.truth[393, "EXP-1-head"]["head_to_world"]).reshape(3, 4)
    found = np.array(row["views"][0]["head_to_world"]).reshape(3, 4)
    np.testing.assert_allclose(found, true * [1, 1, 1, SCALE], atol=1e-5)


def test_a_head_with_another_origin_is_found_and_a_tracking_file_that_is_none_fails(converted, tmp_path):
    root = tmp_path / "own"
    shutil.copytree(converted.root / MONO.name, root / MONO.name)
    path = tracking_path(root / MONO.name / "393", "EXP-1-head")
    tracking, origin = read_tracking(path), np.array([0.01, 0.09, -0.02])
    turn = tracking.head_to_world()[..., :3]
    write_tracking(path, replace(tracking, translation=tracking.translation - (turn @ origin).astype(np.float32)))
    plan = plan_nersemble(str(root), CONFIG)
    tools = plan.step.load()
    (row,) = plan.step.fn(tools, plan.items).to_pylist()
    true = np.array(converted.truth[393, "EXP-1-head"]["head_to_world"]).reshape(3, 4) * [1, 1, 1, SCALE]
    found = np.array(row["views"][0]["head_to_world"]).reshape(3, 4)
    np.testing.assert_allclose(found[:, :3], true[:, :3], atol=1e-5)
    turned = np.array(row["cameras"][0]["world_to_camera"]).reshape(3, 4)[:, :3]
    x, y, z = turned @ (found - true)[:, 3]
    assert max(abs(x), abs(y)) < 0.01
    assert abs(z) < 0.07, "one view tells size from distance by the mean head alone"

    bomb = replace(tracking, expression=np.zeros((MAX_BYTES // 400, 100), np.float32))
    np.savez_compressed(path, **{name: getattr(bomb, name) for name in vars(bomb)})
    assert path.stat().st_size < MAX_BYTES // 100
    with pytest.raises(NersembleError, match="bytes unpacked"):
        read_tracking(path)
    plan = plan_nersemble(str(root), CONFIG)
    (row,) = plan.step.fn(tools, plan.items).to_pylist()
    assert (row["status"], row["reason"]) == ("failed", "value_damaged")
