"""Ava-256's conversion: what is there is converted, what is not is a row with its reason, and nothing lands outside."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections import Counter

import numpy as np
import pytest

from ava256.naming import LENSES
from pipelines.conversion import ava256_step
from pipelines.conversion.ava256_config import Ava256Config
from pipelines.conversion.ava256_step import plan_ava256
from pipelines.conversion.conversion_plan import CaptureSourceError, MissingItem
from pipelines.media.image_codec import decode_image
from pipelines.publishing.reasons import REASONS

CAMERAS = ("400940", "400941", "400942", "400943")


def outcomes(rows):
    """(camera, frame) → status and reason of each view; camera → those of an item that is not ok."""
    found = {}
    for row in rows:
        camera = row["item_id"].split("/")[1] if "/" in row["item_id"] else ""
        if row["status"] != "ok":
            found[camera] = (row["status"], row["reason"])
            assert row["reason"] in {reason.code for reason in REASONS}
        for view in row["views"]:
            found[camera, view["frame_index"]] = (view["status"], view["reason"])
            assert view["reason"] in {"", *(reason.code for reason in REASONS)}
    return found


def counts(rows):
    return Counter((view["status"], view["reason"]) for row in rows for view in row["views"])


def test_everything_there_is_converted_and_the_absent_frame_is_a_row(ava256_source, convert_ava256):
    rows, plan = convert_ava256(ava256_source, size=96)
    assert not plan.missing and counts(rows) == {("ok", ""): 22, ("rejected", "frame_absent"): 2}
    for row in rows:
        assert row["dataset"] == "ava256" and row["licence"] == "CC-BY-NC-4.0"
        assert (row["cameras"][0]["width"], row["cameras"][0]["height"]) == (2668, 4096)
        assert len(row["cameras"][0]["distortion"]) == 4
        for view in row["views"]:
            if view["status"] == "ok":
                assert decode_image(view["image"]).shape == (96, 96, 3)
                matte = decode_image(view["matte"], grey=True)
                assert matte.shape == (96, 96) and 0.15 < (matte > 127).mean() < 0.8
    sids = {row["identity_id"].removeprefix("ava256-") for row in rows}
    assert len(sids) == 2 and {row["capture_id"].split("--")[-1] for row in rows} == sids


def test_both_rules_of_splitting(ava256_source, convert_ava256):
    rows, _ = convert_ava256(ava256_source)
    by_segment = {(v["segment"], v["split"]) for row in rows for v in row["views"]}
    assert by_segment == {("EXP_neutral_peak", "train"), ("EXP_free_face", "val"), ("EXP_smile", "train")}
    sid = rows[0]["identity_id"].removeprefix("ava256-")
    rows, _ = convert_ava256(ava256_source, held_out_people=(sid,), held_out_segments=())
    for row in rows:
        split = "test" if row["identity_id"].endswith(sid) else "train"
        assert row["split"] == split and {view["split"] for view in row["views"]} == {split}
    assert len(Ava256Config().held_out_people) == 12


def test_settings_choose_frames_cameras_images_and_mattes(ava256_copy, convert_ava256, monkeypatch):
    source, decoder = ava256_copy
    path = decoder / "frame_list.csv"
    segments = [line.split(",") for line in path.read_text().split()[1:]]
    listed = "".join(f"EXP_all,{frame}\n" for _, frame in segments)
    path.write_text("seg_id,frame_id\n" + listed + "EXP_ear,000001\n")
    rows, plan = convert_ava256(source, every=2, cameras=("400941", "400943", "1"))
    assert {view["frame_index"] for row in rows for view in row["views"]} == {int(segments[i][1]) for i in (0, 2)}
    assert [row["item_id"].split("/")[1] for row in rows] == ["400941", "400943"]
    assert plan.missing == (MissingItem(f"{decoder.parent.name}: camera 1", "camera_absent"),)
    monkeypatch.setattr(ava256_step, "ITEM_FRAMES", 2)
    rows, plan = convert_ava256(source, crop="full", size=128, person_classes=(LENSES,))
    assert [len(row["views"]) for row in rows] == [2, 1] * 4 and len({row["item_id"] for row in rows}) == 8
    view = next(v for v in rows[0]["views"] if v["status"] == "ok")
    assert decode_image(view["image"]).shape == (128, 84, 3)
    assert (decode_image(view["matte"], grey=True) > 0).mean() < 0.05


def test_undistorted_cameras_have_no_distortion(ava256_copy, convert_ava256):
    source, _ = ava256_copy
    straight, _ = convert_ava256(source, undistort=True)
    bent, _ = convert_ava256(source)
    assert straight[1]["cameras"][0]["distortion"] == []
    assert straight[1]["views"][0]["image"] != bent[1]["views"][0]["image"]


def test_a_partial_download(ava256_copy, convert_ava256):
    """Images, mattes, poses that were not fetched: the rest is converted, and all of them are named."""
    source, decoder = ava256_copy
    shutil.copy(decoder / "camera_calibration.json", source / "kept")
    (source / "256_ids.csv").write_text("mcd,sid,mct\n20230405,AAN112,1635\n")
    (decoder / "image/cam400940.zip").unlink()
    (decoder / "segmentation_parts/cam400941.zip").unlink()
    rows, plan = convert_ava256(source)
    found = outcomes(rows)
    frames = sorted({key[1] for key in found if isinstance(key, tuple)})
    assert found["400940"] == ("rejected", "camera_absent")
    assert {found["400941", frame][1] for frame in frames} <= {"matte_absent", "frame_absent"}
    assert all(found["400943", frame] == ("ok", "") for frame in frames)
    assert set(plan.missing) == {
        MissingItem("20230405--1635--AAN112", "capture_absent"),
        MissingItem(f"{decoder.parent.name}/decoder/segmentation_parts/cam400941.zip", "matte_absent"),
    }
    used = outcomes(convert_ava256(source, matte_needed=False)[0])
    assert {used["400941", frame] for frame in frames} <= {("ok", "matte_absent"), ("rejected", "frame_absent")}
    (decoder / "head_pose/head_pose.zip").unlink()
    rows, plan = convert_ava256(source)
    assert MissingItem(f"{decoder.parent.name}/decoder/head_pose/head_pose.zip", "pose_absent") in plan.missing
    assert set(counts(rows)) == {("rejected", "pose_absent")}
    (decoder / "kinematic_tracking/registration_vertices_mean.npy").unlink()
    assert outcomes(convert_ava256(source)[0])["400943"] == ("rejected", "mesh_absent")
    (decoder / "frame_list.csv").unlink()
    assert outcomes(convert_ava256(source)[0]) == {"": ("rejected", "capture_incomplete")}


def test_a_file_that_came_later_is_converted_then(ava256_copy, convert_ava256):
    """An item's id holds the sizes and times of its files: what was rejected is a new item once its file is there."""
    source, decoder = ava256_copy
    zip_file = decoder / "image/cam400942.zip"
    kept = zip_file.read_bytes()
    zip_file.unlink()
    before = {row["item_id"]: row["status"] for row in convert_ava256(source)[0]}
    zip_file.write_bytes(kept)
    after = {row["item_id"]: row["status"] for row in convert_ava256(source)[0]}
    new = set(after) - set(before)
    assert len(new) == 1 and "400942" in new.pop() and set(after.values()) == {"ok"}


def edit(path, change):
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def drop_camera(path):
    found = json.loads(path.read_text())
    path.write_text(json.dumps({"KRT": found["KRT"][1:]}))


def bend_camera(path):
    found = json.loads(path.read_text())
    found["KRT"][0]["K"][0][0] = -1
    path.write_text(json.dumps(found))


def put(name, data):
    """Replace a member of a zip by bytes, or by what a function makes of it."""
    return lambda path: edit(path, lambda m: m.update({name: data(m[name]) if callable(data) else data}))


def drop(name):
    return lambda path: edit(path, lambda m: m.pop(name))


IMAGE, PARTS, POSES = "image/cam400940.zip", "segmentation_parts/cam400940.zip", "head_pose/head_pose.zip"
CAMERAS_FILE, MEAN = "camera_calibration.json", "kinematic_tracking/registration_vertices_mean.npy"
AVIF, PNG, POSE = "cam400940/001008.avif", "cam400940/001008.png", "001008.txt"
ONE, CAMERA, ALL = ("400940", 1008), "400940", ""
"""What is harmed: one view, a camera, the capture."""
BAD = {
    "truncated zip": (IMAGE, truncate, CAMERA, "failed", "archive_damaged"),
    "zip that climbs out": (IMAGE, put("../../evil.txt", b"evil"), CAMERA, "failed", "unsafe_member"),
    "zip bomb": (IMAGE, put(AVIF, b"\0" * (49 << 20)), ONE, "failed", "too_large"),
    "a calibration without the camera": (CAMERAS_FILE, drop_camera, CAMERA, "rejected", "camera_uncalibrated"),
    "a calibration of no camera": (CAMERAS_FILE, bend_camera, CAMERA, "rejected", "calibration_invalid"),
    "no calibration": (CAMERAS_FILE, lambda path: path.write_text("{"), ALL, "failed", "capture_damaged"),
    "no list": ("frame_list.csv", lambda path: path.write_text("a,b\n1,2\n"), ALL, "failed", "capture_damaged"),
    "frame listed and absent": (IMAGE, drop(AVIF), ONE, "rejected", "frame_absent"),
    "AVIF that does not decode": (IMAGE, put(AVIF, lambda data: data[:300]), ONE, "failed", "picture_damaged"),
    "AVIF of another shape": (IMAGE, put(AVIF, lambda data: square()), ONE, "failed", "size_unexpected"),
    "segmentation that does not decode": (PARTS, put(PNG, b"x"), ONE, "failed", "picture_damaged"),
    "truncated segmentations": (PARTS, truncate, ONE, "failed", "archive_damaged"),
    "pose of no head": (POSES, put(POSE, b"1 2 3"), ONE, "failed", "pose_invalid"),
    "frame without a pose": (POSES, drop(POSE), ONE, "rejected", "pose_absent"),
    "head elsewhere": (POSES, put(POSE, lambda data: moved(data)), ONE, "rejected", "head_out_of_picture"),
    "mesh of no numbers": (MEAN, lambda path: path.write_bytes(b"x"), CAMERA, "failed", "value_damaged"),
}


def square():
    from ava256.values import encode_avif

    return encode_avif(np.zeros((64, 64, 3), np.uint8))


def moved(text):
    lines = [line.split() for line in text.decode().strip().split("\n")]
    return "\n".join(" ".join([*line[:3], str(float(line[3]) + 900)]) for line in lines).encode()


@pytest.mark.parametrize("bad", list(BAD))
def test_bad_input_is_a_row_and_harms_nothing_else(bad, ava256_copy, convert_ava256, tmp_path):
    source, decoder = ava256_copy
    path, harm, where, status, reason = BAD[bad]
    before = outcomes(convert_ava256(source)[0])
    harm(decoder / path)
    files = {str(p) for p in tmp_path.rglob("*")}
    after = outcomes(convert_ava256(source)[0])
    assert after[where] == (status, reason)
    for (camera, frame), good in before.items():
        of_all = where == ALL or (path in (MEAN, POSES) and frame == 1008) or path == MEAN
        of_camera = camera == CAMERA and (where == CAMERA or frame == 1008 or bad.startswith("truncated"))
        assert of_all or of_camera or after[camera, frame] == good, (camera, frame)
    assert where == ALL or path == MEAN or ("ok", "") in after.values()
    assert {str(p) for p in tmp_path.rglob("*")} == files and not os.path.lexists(tmp_path.parent / "evil.txt")


@pytest.mark.parametrize("what", ["nowhere", "empty"])
def test_a_source_without_captures_is_refused(what, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CaptureSourceError, match=what):
        plan_ava256(str(tmp_path / what), Ava256Config())
