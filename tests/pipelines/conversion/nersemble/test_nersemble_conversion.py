"""NeRSemble recordings rendered with truth → views: conventions, reasons, mattes, colours, splits, resume."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from infra.storage import open_store
from mfhq.catalog import Catalog
from nersemble.benchmark import HELD_OUT_PARTICIPANTS
from nersemble.camera_params import read_camera_params
from nersemble.colour import correct_colours
from nersemble.layout import SERIALS, background_path, calibration_path, colour_path, video_path
from pipelines.conversion.conversion_plan import CaptureSourceError
from pipelines.conversion.head_crops import resample
from pipelines.conversion.nersemble.camera_videos import select_frame_indices
from pipelines.conversion.nersemble.nersemble_config import NersembleConfig
from pipelines.conversion.nersemble.recordings import plan_nersemble, split_of_participant
from pipelines.conversion.triangulation import triangulate
from pipelines.media.cameras import Camera
from pipelines.media.image_codec import decode_image
from pipelines.publishing.reasons import REASONS
from pipelines.studio.captures.nersemble_layout import TRUTH_FILE, random_colour_calibrations

SEQUENCE, SIZE = "EXP-1-head", 160
CONFIG = NersembleConfig(size=SIZE, frames=2)


@pytest.fixture(scope="module")
def tools():
    from pipelines.conversion.nersemble.nersemble_step import load_tools

    return load_tools(CONFIG)


@pytest.fixture(scope="module")
def converted(nersemble_data, tools):
    """The rows of both people, by participant."""
    plan = plan_nersemble(str(nersemble_data.root), CONFIG)
    assert plan.missing == ()
    glasses = {p: "x" if "glasses" in c.figure.attributes.styles else "" for p, c in nersemble_data.captures.items()}
    assert plan.participants == {f"nersemble-{p:03d}": {"wears_glasses": mark} for p, mark in glasses.items()}
    rows = plan.step.fn(tools, plan.items).to_pylist()
    return {int(row["identity_id"][-3:]): row for row in rows}


def copy_of(data, folder: Path, person: int = 19) -> Path:
    shutil.copytree(data.root / f"{person:03d}", folder / f"{person:03d}")
    return folder


def convert_one(root: Path, tools, config=CONFIG):
    plan = plan_nersemble(str(root), config)
    assert plan.items.num_rows == 1
    return plan.step.fn(tools, plan.items).to_pylist()[0], plan


def reasons(row) -> dict[str, Counter]:
    found: dict[str, Counter] = {}
    for view in row["views"]:
        found.setdefault(view["camera_id"], Counter())[view["reason"]] += 1
    return found


def camera_of(row, view) -> Camera:
    """The camera of a view's image."""
    (camera,) = [c for c in row["cameras"] if c["camera_id"] == view["camera_id"]]
    pose = np.array(camera["world_to_camera"]).reshape(3, 4)
    return Camera(np.array(view["K"]).reshape(3, 3), pose, SIZE, SIZE)


def reprojection(row, rendered, points, harm=lambda camera: camera) -> float:
    """Largest distance, in a view's pixels, of points (N, 3) projected through views from where the renderer's cameras
    saw them. A crop keeps the pixels' raster: it is a scale, one for both axes, and a shift of the image."""
    worst = 0.0
    for view in row["views"]:
        if view["status"] != "ok":
            continue
        camera = camera_of(row, view)
        seen, full = rendered[view["camera_id"]].project(points)[0], rendered[view["camera_id"]].K
        scale, shift = camera.K[0, 0] / full[0, 0], camera.K[:2, 2] - camera.K[0, 0] / full[0, 0] * full[:2, 2]
        worst = max(worst, float(np.abs(harm(camera).project(points)[0] - (seen * scale + shift)).max()))
    assert worst > 0, "nothing was converted"
    return worst


def test_known_points_lie_where_every_cameras_calibration_says(nersemble_data):
    """The head's true vertices: seen by the renderer's cameras, found again through the files."""
    truth = pq.read_table(nersemble_data.root / TRUTH_FILE).to_pylist()
    for person, capture in nersemble_data.captures.items():
        row = next(r for r in truth if r["participant"] == person)
        place = np.array(row["head_to_world"]).reshape(3, 4)
        points = np.array(row["vertices"]).reshape(-1, 3)[::40] @ place[:, :3].T + place[:, 3]
        pixels = np.stack([c.project(points)[0] for c in capture.cameras.values()])
        path = calibration_path(nersemble_data.root / f"{person:03d}")

        def worst(path: Path) -> float:
            calibration = read_camera_params(path)
            read = [
                Camera(calibration.intrinsics(s, c.width, c.height), calibration.world_to_camera[s], c.width, c.height)
                for s, c in capture.cameras.items()  # noqa: B023
            ]
            found = triangulate(read, pixels)  # noqa: B023
            known = [np.abs(c.project(points)[0] - p).max() for c, p in zip(read, pixels, strict=True)]  # noqa: B023
            return max(*known, float(found.error_px.max()), 1e3 * float(np.abs(found.points - points).max()))  # noqa: B023

        assert worst(path) < 0.1
        content = json.loads(path.read_text())
        wrong = path.with_name("wrong.json")
        for harm in (
            lambda m: np.linalg.inv(m),
            lambda m: np.diag([1, -1, -1, 1]) @ m,
            lambda m: np.block([[m[:3, :3], m[:3, 3:] * 2], [np.zeros((1, 3)), np.ones((1, 1))]]),
        ):
            changed = {s: harm(np.array(m)).tolist() for s, m in content["world_2_cam"].items()}
            wrong.write_text(json.dumps({**content, "world_2_cam": changed}))
            assert worst(wrong) > 0.1
        wrong.unlink()


def test_known_points_lie_where_every_converted_view_says(nersemble_data, converted):
    """The head's true vertices, through each view's K and its camera, against the renderer's pixels and the crop."""
    truth = pq.read_table(nersemble_data.root / TRUTH_FILE).to_pylist()
    for person, capture in nersemble_data.captures.items():
        (first, *_) = (r for r in truth if r["participant"] == person)
        place = np.array(first["head_to_world"]).reshape(3, 4)
        points = np.array(first["vertices"]).reshape(-1, 3)[::40] @ place[:, :3].T + place[:, 3]
        row = converted[person]
        assert reprojection(row, capture.cameras, points) < 0.1
        for harm in (
            lambda c: Camera(c.K, np.column_stack([c.world_to_camera[:, :3].T, c.centre]), SIZE, SIZE),
            lambda c: Camera(c.K, np.diag([1, -1, -1]) @ c.world_to_camera, SIZE, SIZE),
            lambda c: Camera(c.K, c.world_to_camera * [1, 1, 1, 1000], SIZE, SIZE),
            lambda c: Camera(c.K + np.diag([0.05 * c.K[0, 0], 0, 0]), c.world_to_camera, SIZE, SIZE),
        ):
            assert reprojection(row, capture.cameras, points, harm) > 0.1


def test_a_view_shows_what_its_K_and_its_camera_say(nersemble_data, converted):
    """The true mesh, rendered by the view's own camera, lies on the converted image: off by less than 0.1 px."""
    row, capture = converted[19], nersemble_data.captures[19]
    assert row["status"] == "ok" and {v["reason"] for v in row["views"]} == {""}
    offsets = []
    for view in row["views"]:
        timestep = capture.timesteps[view["frame_index"]]
        camera = camera_of(row, view)
        (seen,) = capture.render_views(timestep, {"": camera})
        image = decode_image(view["image"])
        inside = cv2.erode((seen.alpha > 0.99).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        off, blurred = [], [cv2.GaussianBlur(p.astype(np.float32), (0, 0), 1.5).mean(-1) for p in (image, seen.rgb)]
        gy, gx = np.gradient(blurred[1])
        # The shift that explains the difference best, by least squares on the gradients inside the head.
        a = np.column_stack([gx[inside], gy[inside], np.ones(inside.sum()), blurred[1][inside]])
        off = np.linalg.lstsq(a, (blurred[0] - blurred[1])[inside], rcond=None)[0][:2]
        offsets.append(off)
    offsets = np.array(offsets)
    assert np.abs(offsets).max() < 0.35 and np.abs(offsets.mean(0)).max() < 0.1, offsets


def test_the_head_is_found_without_tracking(nersemble_data, converted):
    """The detector's own noise: millimetres and degrees, bounded; the crop is centred on the head."""
    for person, row in converted.items():
        for view in row["views"]:
            timestep = nersemble_data.captures[person].timesteps[view["frame_index"]]
            found, true = np.array(view["head_to_world"]).reshape(3, 4), timestep.head_to_world
            assert np.linalg.norm(found[:, 3] - true[:, 3]) < 0.012
            turn = np.degrees(np.arccos(np.clip((np.trace(found[:, :3].T @ true[:, :3]) - 1) / 2, -1, 1)))
            assert turn < 12
            between_the_eyes = camera_of(row, view).project(true[:, 3][None])[0][0]
            assert np.abs(between_the_eyes - SIZE / 2).max() < 0.3 * SIZE


def test_colours_and_mattes_are_those_of_the_rendered_person(nersemble_data, converted):
    row, capture = converted[19], nersemble_data.captures[19]
    view = row["views"][0]
    full = capture.cameras[view["camera_id"]]
    (seen,) = [
        v for v in capture.render_views(capture.timesteps[view["frame_index"]]) if v.camera_id == view["camera_id"]
    ]
    true = resample(seen.rgb, full, camera_of(row, view)).astype(int)
    image = decode_image(view["image"]).astype(int)
    assert np.abs(image - true).mean() < 4
    raw = correct_colours(
        true.astype(np.uint8), random_colour_calibrations(19, [view["camera_id"]])[view["camera_id"]][:, :3]
    )
    assert np.abs(raw.astype(int) - true).mean() > 8, "without the correction it would be far off"
    alpha = resample((seen.alpha * 255).astype(np.uint8), full, camera_of(row, view)) > 127
    matte = decode_image(view["matte"], grey=True) > 127
    assert (alpha & matte).sum() / (alpha | matte).sum() > 0.93


def test_people_of_the_benchmark_are_never_trained_on(converted):
    assert converted[60]["split"] == "test" and {v["split"] for v in converted[60]["views"]} == {"test"}
    assert {split_of_participant(p, 20) for p in HELD_OUT_PARTICIPANTS} == {"test"}
    others = Counter(split_of_participant(p, 20) for p in range(500) if p not in HELD_OUT_PARTICIPANTS)
    assert set(others) == {"train", "val"} and 8 <= others["val"] <= 45
    assert Counter(split_of_participant(p, 0) for p in range(500) if p not in HELD_OUT_PARTICIPANTS) == {"train": 470}


def test_what_is_missing_or_broken_is_a_row_and_the_rest_is_converted(nersemble_data, tools, tmp_path):
    root = copy_of(nersemble_data, tmp_path)
    person, names = root / "019", list(nersemble_data.captures[19].cameras)
    good, _, short, broken, gone = (video_path(person, SEQUENCE, name) for name in names)
    from pipelines.media.decoder import ProcessDecoder
    from pipelines.media.video_writer import write_video

    frames = [frame.rgb for frame in ProcessDecoder().frames(short)]
    write_video(short, frames[:1], 73)
    broken.write_bytes(broken.read_bytes()[: 2 * broken.stat().st_size // 3])  # the index stays, the frames go
    gone.unlink()
    stranger = video_path(person, SEQUENCE, "999")
    shutil.copy(good, stranger)
    row, plan = convert_one(root, tools)
    here = f"019/sequences/{SEQUENCE}/images"
    assert {(a.name, a.reason) for a in plan.missing} == {
        (f"{here}/cam_{names[4]}.mp4", "camera_absent"),
        (f"{here}/cam_999.mp4", "camera_uncalibrated"),
    }
    found = reasons(row)
    assert set(found) == set(names[:4]) == {c["camera_id"] for c in row["cameras"]} and row["status"] == "ok"
    assert found[names[0]] == found[names[1]] == {"": 2} and found[names[2]] == {"": 1, "video_ends_early": 1}
    assert set(found[names[3]]) & {"video_damaged", "video_ends_early"}

    broken.write_bytes(b"no video at all")
    row, _ = convert_one(root, tools)
    assert reasons(row)[names[3]] == {"not_a_video": 2}
    assert {v["status"] for v in row["views"] if v["camera_id"] == names[3]} == {"failed"}
    assert {c["camera_id"] for c in row["cameras"]} == set(names[:4])
    write_video(broken, [np.zeros((64, 64, 3), np.uint8)] * 2, 73)
    assert reasons(convert_one(root, tools)[0])[names[3]] == {"size_unexpected": 2}


def test_a_camera_that_the_calibration_lacks_harms_no_other(nersemble_data, tools, tmp_path):
    root = copy_of(nersemble_data, tmp_path)
    path = calibration_path(root / "019")
    content = json.loads(path.read_text())
    left_out = next(iter(nersemble_data.captures[19].cameras))
    del content["world_2_cam"][left_out]
    path.write_text(json.dumps(content))
    row, plan = convert_one(root, tools)
    assert [a.reason for a in plan.missing] == ["camera_uncalibrated"] and left_out in plan.missing[0].name
    assert left_out not in reasons(row) and len(reasons(row)) == 4
    path.write_text("{}")
    with pytest.raises(CaptureSourceError, match="calibration_invalid"):
        plan_nersemble(str(root), CONFIG)


def test_numbers_that_cannot_be_read_fail_their_own_sequence_alone(nersemble_data, tools, tmp_path):
    """Colours that are none. A bomb for an image of the empty room, and a name that climbs out, are passed over."""
    root, names = copy_of(nersemble_data, tmp_path / "data"), list(nersemble_data.captures[19].cameras)
    shutil.copytree(nersemble_data.root / "060", root / "060")
    colour_path(root / "019").write_text("{")
    room = background_path(root / "060", names[0])
    data = bytearray(room.read_bytes())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = b"\xff\xff\xff\xff"  # 65,535 x 65,535 pixels
    room.write_bytes(data)
    (root / "metadata_sequences.csv").write_text("ID,../../../060/sequences/EXP-1-head,EXP-2-eyes\n19,x,x\n")
    plan = plan_nersemble(str(root), CONFIG)
    assert {"EXP-2-eyes" in a.name and a.reason for a in plan.missing} == {"camera_absent"}
    assert set(plan.items["sequence"].to_pylist()) == {SEQUENCE}
    bad, good = sorted(plan.step.fn(tools, plan.items).to_pylist(), key=lambda row: row["identity_id"])
    assert (bad["status"], bad["reason"], bad["views"]) == ("failed", "value_damaged", [])
    assert good["status"] == "ok" and {v["reason"] for v in good["views"]} == {""}
    assert {row["reason"] for row in (bad, good)} <= {"", *(reason.code for reason in REASONS)}
    assert {p.name for p in tmp_path.iterdir()} == {"data"}


def test_without_the_empty_room_and_colours_it_still_converts(nersemble_data, tools, tmp_path):
    root = copy_of(nersemble_data, tmp_path)
    shutil.rmtree(background_path(root / "019", SERIALS[0]).parent)
    colour_path(root / "019").unlink()
    row, _ = convert_one(root, tools, NersembleConfig(size=SIZE, frames=1, crop="full"))
    assert {v["reason"] for v in row["views"]} == {""} and len(row["views"]) == 5
    assert max(decode_image(row["views"][0]["image"]).shape) == SIZE


def test_wrong_sources_say_what_they_lack(tmp_path, nersemble_data):
    for source, named in (
        ("s3://bucket/data", "local"),
        (str(tmp_path), "camera_params"),
        (str(tmp_path / "x"), "no such"),
    ):
        with pytest.raises(CaptureSourceError, match=named):
            plan_nersemble(source, CONFIG)
    with pytest.raises(CaptureSourceError, match="requested"):
        plan_nersemble(str(nersemble_data.root), NersembleConfig(participants=(5,)))
    (tmp_path / "018").mkdir()
    (tmp_path / "018" / "camera_params.json").write_text("{}")
    with pytest.raises(CaptureSourceError, match="v1"):
        plan_nersemble(str(tmp_path), CONFIG)
    with pytest.raises(ValueError, match="head_views=1"):
        NersembleConfig(head_views=1)


def test_frames_are_chosen_evenly_and_all_of_them_on_request():
    assert select_frame_indices(100, 1, 4) == [0, 25, 50, 75] and select_frame_indices(3, 1, 4) == [0, 1, 2]
    assert select_frame_indices(100, 30, 0) == [0, 30, 60, 90] and select_frame_indices(0, 1, 4) == []


@pytest.mark.ray
def test_killed_with_signal_9_and_called_again_gives_the_digest_of_one_run(
    nersemble_data, tmp_path, settings, ray_session, prefect_server
):
    """Killed while the second person's part is being committed; both times the flow of ``ffavatar convert``."""
    from flows.convert import convert

    script, source = Path(__file__).parents[3] / "support" / "interrupted_conversion.py", str(nersemble_data.root)
    arguments = ["nersemble", source, str(tmp_path / "resumed"), "2", '{"size": 96, "frames": 1}']
    killed = subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr[-2000:]
    made = {}
    for name in ("whole", "resumed"):
        made[name] = convert(
            dataset="nersemble",
            source=source,
            corpus=str(tmp_path / name),
            overrides=["size=96", "frames=1"],
            home=str(settings.home),
        )
        assert not made[name]["failed"] and made[name]["rows"]["views"] == 10
    assert made["whole"]["digest"] == made["resumed"]["digest"]
    snapshot = Catalog(open_store(str(tmp_path / "resumed"))).open()
    tried = snapshot.query("SELECT count(*) AS n FROM attempts WHERE step = 'convert_nersemble' GROUP BY run_id")
    assert sorted(row["n"] for row in tried.to_pylist()) == [1, 2], "one kept, one lost in the kill and done again"
    splits = snapshot.query("SELECT DISTINCT identity_id, split FROM views ORDER BY 1").to_pylist()
    assert [row["split"] for row in splits] == [split_of_participant(19, 20), "test"]
    said = snapshot.query("SELECT identity_id FROM participants WHERE name = 'wears_glasses'").to_pylist()
    wearing = [p for p, capture in nersemble_data.captures.items() if "glasses" in capture.figure.attributes.styles]
    assert [row["identity_id"] for row in said] == [f"nersemble-{p:03d}" for p in wearing]


def test_a_long_sequence_is_several_items_of_the_same_views(nersemble_data, converted, tools, monkeypatch):
    """So that memory does not grow with the number of frames; also where all frames are asked for."""
    monkeypatch.setattr("pipelines.conversion.nersemble.recordings.ITEM_TIMESTEPS", 1)
    for config in (CONFIG, NersembleConfig(size=SIZE, frames=0)):
        plan = plan_nersemble(str(nersemble_data.root), replace(config, participants=(19,)))
        assert plan.items["first"].to_pylist() == [0, 1] and plan.items["count"].to_pylist() == [1, None]
        rows = plan.step.fn(tools, plan.items).to_pylist()
        for row in rows:
            assert row["cameras"] == converted[19]["cameras"]
        found = {v["view_id"]: v for row in rows for v in row["views"]}
        assert len(found) == 10 and found == {v["view_id"]: v for v in converted[19]["views"]}
