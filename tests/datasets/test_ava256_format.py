"""Ava-256's format: what the studio writes has the official paths, members, keys, shapes, dtypes and units."""

from __future__ import annotations

import csv
import io
import json
import zipfile

import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem
from PIL import Image

from ava256 import naming, values
from ava256.camera_calibration import CalibrationError, read_calibration, write_calibration
from ava256.naming import CaptureName
from ava256.reader import Ava256Capture, find_captures, read_listed_captures


@pytest.fixture(scope="module")
def folder(ava256_source):
    return sorted(ava256_source.glob("*--*"))[0] / "decoder"


@pytest.fixture(scope="module")
def capture(folder):
    return Ava256Capture(str(folder), LocalFileSystem())


def members(path):
    with zipfile.ZipFile(path) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        return {info.filename: archive.read(info) for info in archive.infolist()}


def test_paths_and_members_are_the_official_ones(folder, ava256_source):
    name = CaptureName.of_folder(folder.parent.name)
    ids = list(csv.DictReader((ava256_source / "256_ids.csv").read_text().splitlines()))
    assert list(ids[0]) == ["mcd", "sid", "mct"] and name.sid in {row["sid"] for row in ids}
    assert folder.parent.name == f"{name.mcd}--{name.mct}--{name.sid}"
    rows = list(csv.DictReader((folder / "frame_list.csv").read_text().splitlines()))
    assert list(rows[0]) == ["seg_id", "frame_id"] and len(rows) == 3
    assert {row["seg_id"] for row in rows} >= {"EXP_neutral_peak", "EXP_free_face"}
    frames = [int(row["frame_id"]) for row in rows]
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    cameras = [f"4{i:05d}" for i in range(940, 944)]
    assert found == {
        "camera_calibration.json",
        "frame_list.csv",
        "head_pose/head_pose.zip",
        "keypoints_3d/keypoints_3d.zip",
        "kinematic_tracking/registration_vertices.zip",
        "kinematic_tracking/registration_vertices_mean.npy",
        "kinematic_tracking/registration_vertices_variance.txt",
        "uv_image/color.zip",
        "uv_image/color_mean.png",
        "uv_image/color_variance.txt",
        *(f"image/cam{c}.zip" for c in cameras),
        *(f"segmentation_parts/cam{c}.zip" for c in cameras),
    }
    assert set(members(folder / "head_pose/head_pose.zip")) == {f"{f:06d}.txt" for f in frames}
    assert set(members(folder / "keypoints_3d/keypoints_3d.zip")) == {f"{f:06d}.npy" for f in frames}
    assert set(members(folder / "uv_image/color.zip")) == {f"color/{f:06d}.avif" for f in frames}
    listed = {(c, f) for c in cameras for f in frames}
    there = {(c, f) for c in cameras for f in frames if f"cam{c}/{f:06d}.avif" in members(folder / f"image/cam{c}.zip")}
    assert len(listed - there) == 1, "one image is listed and not there"
    for c in cameras:
        parts = members(folder / f"segmentation_parts/cam{c}.zip")
        assert set(parts) == {f"cam{c}/{f:06d}.png" for k, f in there if k == c}


def test_shapes_dtypes_and_units_are_the_official_ones(folder):
    pose = np.loadtxt(io.BytesIO(next(iter(members(folder / "head_pose/head_pose.zip").values()))), dtype=np.float32)
    assert pose.shape == (3, 4) and 20 < np.linalg.norm(pose[:, 3]) < 5000, "millimetres"
    keypoints = np.load(io.BytesIO(next(iter(members(folder / "keypoints_3d/keypoints_3d.zip").values()))))
    assert keypoints.ndim == 2 and keypoints.shape[1] == 6 and 100 < len(keypoints) <= 274
    assert (keypoints[:, 5] >= 2).all() and np.ptp(keypoints[:, 1:4], axis=0).max() > 80
    ply = next(iter(members(folder / "kinematic_tracking/registration_vertices.zip").values()))
    assert ply.startswith(b"ply\n") and b"element vertex 7306\n" in ply
    mean = np.load(folder / "kinematic_tracking/registration_vertices_mean.npy")
    assert mean.shape == (7306, 3) and 200 < np.ptp(mean[:, 1]) < 350
    assert float((folder / "kinematic_tracking/registration_vertices_variance.txt").read_text()) > 0
    assert float((folder / "uv_image/color_variance.txt").read_text()) > 0
    with Image.open(folder / "uv_image/color_mean.png") as image:
        assert image.mode == "RGB" and image.width == image.height
    with Image.open(io.BytesIO(next(iter(members(folder / "image/cam400940.zip").values())))) as image:
        assert image.format == "AVIF" and image.mode == "RGB" and image.size == (167, 256)
    with Image.open(io.BytesIO(next(iter(members(folder / "segmentation_parts/cam400940.zip").values())))) as image:
        assert image.format == "PNG" and image.size == (167, 256)
        assert {0, naming.BODY, naming.CHAIR} <= set(np.unique(image)) <= set(range(11))


def test_the_reader_says_what_the_published_loader_says(folder, capture):
    """The loader's documented reading, in a few lines of its own: K^T, (T[:4, :3])^T, -R^T t, px / factor."""
    for entry in json.loads((folder / "camera_calibration.json").read_text())["KRT"]:
        assert set(entry) == {"cameraId", "projectionModel", "distortionModel", "K", "distortion", "T"}
        assert len(entry["distortion"]) == 4
        intrin, extrin = np.array(entry["K"]).T, np.array(entry["T"])[:4, :3].T
        ours = capture.calibration[entry["cameraId"]]
        np.testing.assert_allclose(ours.K, intrin)
        np.testing.assert_allclose(ours.world_to_camera, extrin * [1, 1, 1, 1e-3])
        centre = -ours.world_to_camera[:, :3].T @ ours.world_to_camera[:, 3]
        np.testing.assert_allclose(1e3 * centre, -extrin[:3, :3].T @ extrin[:3, 3])
        frame = capture.frames[0].frame
        rows = np.load(io.BytesIO(members(folder / "keypoints_3d/keypoints_3d.zip")[f"{frame:06d}.npy"]))
        theirs = intrin @ extrin @ np.append(rows[:, 1:4], np.ones((len(rows), 1)), axis=1).T
        index, points, inliers = capture.keypoints(frame)
        pixels = ours.sized(667, 1024) @ (ours.world_to_camera[:, :3] @ points.T + ours.world_to_camera[:, 3:])
        np.testing.assert_allclose(pixels[:2] / pixels[2], theirs[:2] / theirs[2] / 4, atol=1e-3)
        np.testing.assert_array_equal(index, rows[:, 0])
        np.testing.assert_array_equal(inliers, rows[:, 4:])


def test_what_is_listed_and_absent_is_none(capture):
    absent = [(c, f.frame) for c in capture.calibration for f in capture.frames if capture.image(c, f.frame) is None]
    assert len(absent) == 1
    assert capture.parts(*absent[0]) is None
    assert capture.head_to_world(7) is None and capture.keypoints(7) is None and capture.vertices(7) is None
    assert capture.image("400940", capture.frames[1].frame).shape == (256, 167, 3)


def test_captures_are_found_by_name_in_the_folder_or_as_the_folder(ava256_source, tmp_path):
    files = LocalFileSystem()
    found = find_captures(str(ava256_source), files)
    assert sorted(found) == sorted(read_listed_captures(str(ava256_source), files)) and len(found) == 2
    name, folder = next(iter(found.items()))
    assert find_captures(str(ava256_source / name.folder), files) == {name: folder}
    (tmp_path / f"m--{name.folder}--GHS" / "decoder").mkdir(parents=True)
    (tmp_path / "20230405--1635--AAN112").mkdir()
    (tmp_path / "notes" / "decoder").mkdir(parents=True)
    assert list(find_captures(str(tmp_path), files)) == [name]
    assert read_listed_captures(str(tmp_path), files) == []


@pytest.mark.parametrize(("kind", "at"), [("f4", 0), ("f8", 3)])
def test_plys_of_other_writers_are_read(kind, at):
    points = np.arange(12, dtype=np.float64).reshape(4, 3)
    name = {"f4": "float32", "f8": "double"}[kind]
    extra = "property uchar red\n" if at else ""
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex 4\nproperty {name} x\nproperty {name} y\n{extra}"
    head += f"property {name} z\nend_header\n"
    fields = [("x", "<" + kind), ("y", "<" + kind), *([("red", "u1")] if at else []), ("z", "<" + kind)]
    rows = np.zeros(4, np.dtype(fields))
    for i, axis in enumerate("xyz"):
        rows[axis] = points[:, i]
    np.testing.assert_allclose(values.read_vertices(head.encode() + rows.tobytes()), points / 1000)
    text = "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
    found = values.read_vertices((text + "1 2 3\n4 5 6\n").encode())
    np.testing.assert_allclose(found, [[1e-3, 2e-3, 3e-3], [4e-3, 5e-3, 6e-3]])


def test_a_calibration_goes_out_and_comes_back(capture):
    again = read_calibration(write_calibration(capture.calibration))
    for name, camera in capture.calibration.items():
        np.testing.assert_allclose(again[name].K, camera.K)
        np.testing.assert_allclose(again[name].world_to_camera, camera.world_to_camera, atol=1e-12)


def _edit(data, **changes):
    entries = json.loads(data)["KRT"][:1]
    entries[0] |= changes
    return json.dumps({"KRT": entries}).encode()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"K": [[9, 0, 5], [0, 9, 5], [0, 0, 1]]}, "transposed"),
        ({"K": [[-9, 0, 0], [0, 9, 0], [5, 5, 1]]}, "focal lengths -9"),
        ({"K": [1, 2]}, "lacks a K of 3 x 3"),
        ({"T": np.diag([2.0, 1, 1, 1]).tolist()}, "no rotation"),
        ({"T": np.diag([-1.0, 1, 1, 1]).tolist()}, "no rotation"),
        ({"T": np.full((4, 4), np.nan).tolist()}, "not finite"),
    ],
)
def test_a_camera_that_is_none_is_named_and_the_others_stay(folder, changes, message):
    found = list(read_calibration(_edit((folder / "camera_calibration.json").read_bytes(), **changes)).values())
    assert isinstance(found[0], CalibrationError) and message in str(found[0])


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"KRT": [{"K": 1}]}', b"\xff\xfe"])
def test_what_is_no_calibration_is_refused(data):
    with pytest.raises(CalibrationError, match="no calibration with a list 'KRT'"):
        read_calibration(data)
