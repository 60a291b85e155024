"""NeRSemble's files: what is written is read again, what is wrong is refused, and the official kits agree."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from nersemble import benchmark, layout
from nersemble.camera_params import CameraParams, read_camera_params, read_colours, write_camera_params, write_colours
from nersemble.colour import CHEUNG_2004, correct_colours
from nersemble.errors import NersembleError
from nersemble.flame_tracking import (
    FlameTracking,
    euler_xyz_from_rotations,
    read_head_mark,
    read_tracking,
    rotations_from_euler_xyz,
    write_tracking,
)
from nersemble.layout import FULL_HEIGHT, FULL_WIDTH, SERIALS, Layout, find_layout
from nersemble.metadata import read_participants, read_sequences, write_tables
from pipelines.media.video_writer import write_video

FOCAL = 8190.0


def cameras(serials=SERIALS[:4], shared=True, size=(FULL_WIDTH, FULL_HEIGHT)) -> CameraParams:
    """Cameras about a metre in front of the origin that look at it, the world's y down."""
    g = np.random.default_rng(0)
    poses = {}
    for i, serial in enumerate(serials):
        yaw = 0.4 * (i - len(serials) / 2)
        c, s = np.cos(yaw), np.sin(yaw)
        turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        poses[serial] = np.column_stack([turn, [0.01 * g.normal(), 0.01 * g.normal(), 1.0 + 0.1 * g.random()]])
    scale = size[0] / FULL_WIDTH
    K = np.array([[FOCAL * scale, 0, size[0] / 2 + 3], [0, FOCAL * scale, size[1] / 2 - 5], [0, 0, 1]])
    matrices = {s: K if shared else K + np.diag([i, i, 0.0]) for i, s in enumerate(poses)}
    return CameraParams(poses, matrices, (FULL_WIDTH, FULL_HEIGHT) if shared else None, shared)


def tracking(n=5) -> FlameTracking:
    g = np.random.default_rng(1)

    def some(*shape, scale=0.3):
        return g.normal(scale=scale, size=shape).astype(np.float32)

    rotation = some(n, 3)
    return FlameTracking(
        shape=some(1, 300),
        expression=some(n, 100),
        rotation=rotation,
        rotation_matrices=rotations_from_euler_xyz(rotation).astype(np.float32),
        translation=some(n, 3, scale=0.05),
        jaw=some(n, 3),
        frames=np.arange(0, 3 * n, 3),
        scale=np.float32([[1.07]]),
        neck=some(n, 3),
        eyes=some(n, 6),
    )


def refused(action, *named: str) -> None:
    with pytest.raises(NersembleError) as caught:
        action()
    assert all(word in str(caught.value) for word in named), caught.value
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shared", [True, False])
def test_a_calibration_is_read_as_it_was_written(shared, tmp_path):
    made = cameras(shared=shared)
    write_camera_params(tmp_path / "camera_params.json", made)
    read = read_camera_params(tmp_path / "camera_params.json", made.size)
    assert read.shared is shared and set(read.K) == set(made.K)
    for serial in SERIALS[:4]:
        np.testing.assert_array_equal(read.K[serial], made.K[serial])
        np.testing.assert_array_equal(read.world_to_camera[serial], made.world_to_camera[serial])


def test_intrinsics_follow_the_size_of_a_scaled_copy():
    full, own = cameras(), cameras(shared=False, size=(550, 802))
    half = full.intrinsics(SERIALS[0], 1100, 1604)
    np.testing.assert_allclose(half, np.diag([0.5, 0.5, 1]) @ full.K[SERIALS[0]])
    np.testing.assert_array_equal(own.intrinsics(SERIALS[1], 550, 802), own.K[SERIALS[1]])
    refused(lambda: full.intrinsics(SERIALS[0], 512, 512), SERIALS[0], "512 x 512", "2200 x 3208")
    refused(lambda: own.intrinsics(SERIALS[0], 1100, 1604), "centre")
    refused(lambda: full.intrinsics("1", 1100, 1604), "camera 1 ")


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (lambda c: c["intrinsics"].__setitem__(2, [1100, 1600, 1]), "intrinsics"),
        (lambda c: c.update(intrinsics=np.array(c["intrinsics"]).T.tolist()), "upper triangular"),
        (lambda c: c["world_2_cam"].update({SERIALS[0]: np.eye(3).tolist()}), "shape"),
        (
            lambda c: [m[i].__setitem__(3, m[i][3] * 1000) for m in c["world_2_cam"].values() for i in (0, 1, 2)],
            "metres",
        ),
        (lambda c: c["world_2_cam"][SERIALS[0]][0].__setitem__(0, 2.0), "rigid"),
        (lambda c: c["world_2_cam"].update({SERIALS[0]: np.array(c["world_2_cam"][SERIALS[0]]).T.tolist()}), "rigid"),
        (lambda c: c.pop("intrinsics"), "KeyError"),
    ],
)
def test_a_calibration_that_is_none_is_refused(harm, named, tmp_path):
    path = tmp_path / "camera_params.json"
    write_camera_params(path, cameras())
    content = json.loads(path.read_text())
    harm(content)
    path.write_text(json.dumps(content))
    refused(lambda: read_camera_params(path), str(path), named)
    path.write_text("{")
    refused(lambda: read_camera_params(path), str(path))
    path.unlink()
    refused(lambda: read_camera_params(path), "missing")


def test_colours_are_corrected_in_linear_light():
    grey = np.full((1, 3), 128, np.uint8)
    twice = correct_colours(grey, 2 * np.eye(3))
    linear = ((128 / 255 + 0.055) / 1.055) ** 2.4
    assert twice[0, 0] == round((1.055 * (2 * linear) ** (1 / 2.4) - 0.055) * 255)  # not 255, as doubling levels gives
    image = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    np.testing.assert_array_equal(correct_colours(image, np.eye(3)), image)
    refused(lambda: correct_colours(image, np.zeros((3, 6))), "6 terms")
    refused(lambda: correct_colours(image, np.zeros((4, 3))), "(4, 3)")


def test_a_tracking_file_is_read_as_it_was_written_and_says_whose_it_is(tmp_path):
    made, path = tracking(), tmp_path / "tracking.npz"
    write_tracking(path, made)
    read = read_tracking(path)
    for f in fields(FlameTracking):
        np.testing.assert_array_equal(getattr(read, f.name), getattr(made, f.name))
    assert read_head_mark(path) is None and len(read) == 5
    write_tracking(path, made, {"name": "open", "digest": "abc"})
    assert read_head_mark(path) == {"name": "open", "digest": "abc"}
    np.testing.assert_array_equal(read_tracking(path).eyes, made.eyes)
    joints = made.joint_rotations()
    assert joints.shape == (5, 5, 3) and not joints[:, 0].any()
    np.testing.assert_array_equal(joints[:, 4], made.eyes[:, 3:])
    write_tracking(path, replace(made, eyes=made.eyes[:, :3]))
    refused(lambda: read_tracking(path), "eyes", "(5, 6)")
    refused(lambda: read_tracking(tmp_path / "none.npz"), "missing")
    path.write_bytes(b"PK nothing")
    refused(lambda: read_tracking(path), str(path))


def test_euler_angles_are_x_then_y_then_z_about_the_turned_axes():
    from scipy.spatial.transform import Rotation

    angles = np.random.default_rng(0).normal(scale=0.5, size=(9, 3))
    np.testing.assert_allclose(
        rotations_from_euler_xyz(angles), Rotation.from_euler("XYZ", angles).as_matrix(), atol=1e-12
    )
    np.testing.assert_allclose(euler_xyz_from_rotations(rotations_from_euler_xyz(angles)), angles, atol=1e-12)
    assert not np.allclose(rotations_from_euler_xyz(angles), Rotation.from_euler("xyz", angles).as_matrix(), atol=1e-2)


def test_layouts_are_told_apart(tmp_path):
    folders = {
        Layout.V2: "v2/018/calibration",
        Layout.V1: "v1/018",
        Layout.BENCHMARK: "b/nvs/388/calibration",
    }
    for folder in folders.values():
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "camera_params.json").write_text("{}")
    assert {wanted: find_layout(tmp_path / folder.split("/")[0]) for wanted, folder in folders.items()} == {
        wanted: wanted for wanted in folders
    }
    refused(lambda: find_layout(tmp_path), "018/calibration")
    refused(lambda: find_layout(tmp_path / "none"), "no such folder")


def test_tables_of_people_and_sequences(tmp_path):
    assert read_participants(tmp_path) == {} == read_sequences(tmp_path)
    write_tables(tmp_path, {18: {"gender": "f", "age": "30"}, 19: {"gender": "m"}}, {18: ["FREE", "GLASSES"], 19: []})
    assert read_participants(tmp_path) == {18: {"gender": "f", "age": "30"}, 19: {"gender": "m", "age": ""}}
    assert read_sequences(tmp_path) == {18: ("GLASSES", "FREE"), 19: ()}
    (tmp_path / "metadata_participants.csv").write_text("name\nx\n")
    refused(lambda: read_participants(tmp_path), "ID")


def test_the_benchmarks_metadata(tmp_path):
    lengths = {recording: 2 + i for i, recording in enumerate(benchmark.MONO.recordings)}
    benchmark.write_metadata(tmp_path, benchmark.MONO, lengths)
    assert benchmark.read_frame_counts(tmp_path, benchmark.MONO) == lengths
    refused(lambda: benchmark.read_frame_counts(tmp_path, benchmark.NVS), "nvs/metadata.json")
    assert len(list(benchmark.MONO.videos())) == 80 and len(list(benchmark.NVS.videos())) == 15
    assert next(benchmark.NVS.videos()).member == "388/GLASSES/cam_222200046.mp4"
    assert len(benchmark.HELD_OUT_PARTICIPANTS) == 30


def test_the_kits_know_the_same_names(kit):
    known = kit("constants")
    assert tuple(known["serials"]) == SERIALS
    assert known["sequences"] == [layout.BACKGROUND, *layout.SEQUENCES]
    assert dict(known["nvs"]) == benchmark.NVS_SEQUENCES
    assert (tuple(known["nvs_held_out"]), tuple(known["nvs_train"])) == (benchmark.NVS_HELD_OUT, benchmark.NVS_TRAIN)
    assert tuple(known["mono"]) == benchmark.MONO_PARTICIPANTS
    assert tuple(known["mono_train"]) == benchmark.MONO_TRAIN_SEQUENCES
    assert tuple(known["mono_test"]) == benchmark.MONO_TEST_SEQUENCES
    assert (known["mono_serial"], tuple(known["mono_held_out"])) == (benchmark.MONO_TRAIN, benchmark.MONO_HELD_OUT)
    assert tuple(known["svfr"]) == benchmark.SVFR_PARTICIPANTS
    person, sequence, serial = Path("018"), "FREE", SERIALS[0]
    ours = {
        "calibration": layout.calibration_path(person),
        "color_calibration": layout.colour_path(person),
        "images": layout.video_path(person, sequence, serial),
        "backgrounds": layout.background_path(person, serial),
        "alpha_maps": layout.alpha_path(person, sequence, serial),
        "flame2023_tracking_v2": layout.tracking_path(person, sequence),
    }
    assets = [known["assets"], known["benchmark_assets"]["nvs"], known["benchmark_assets"]["mono_flame_avatar"]]
    checked = 0
    for group in (templates for kind in assets for templates in kind.values() if isinstance(templates, dict)):
        for name in set(group) & set(ours):
            assert group[name].format(p_id=18, seq_name=sequence, serial=serial) == str(ours[name])
            checked += 1
    assert checked >= 9


def test_the_kit_corrects_colours_as_we_do(kit, tmp_path):
    """Every number of terms; the kit cuts fractions off, so its level is ours or one less."""
    g = np.random.default_rng(2)
    pixels = g.integers(0, 256, (400, 3), np.uint8)
    matrices = {}
    for terms in CHEUNG_2004:
        matrix = 0.15 * g.normal(size=(3, terms))
        matrix[:, :3] += np.eye(3)
        matrices[str(terms)] = matrix
    np.savez(tmp_path / "colours.npz", pixels=pixels, **matrices)
    theirs = kit("colours", tmp_path / "colours.npz")
    for terms, matrix in matrices.items():
        off = correct_colours(pixels, matrix).astype(int) - np.array(theirs[terms])
        inside = np.abs(off) <= 1
        assert inside.mean() > 0.995 and (off[inside] >= 0).mean() > 0.98, terms


def test_the_kit_reads_what_we_write(kit, tmp_path):
    root, serials = tmp_path / "data", SERIALS[:4]
    person, calibration = root / "018", cameras(serials)
    write_camera_params(layout.calibration_path(person), calibration)
    g = np.random.default_rng(3)
    colours = {s: np.concatenate([np.eye(3), 0.05 * g.normal(size=(3, 7))], 1) for s in serials}
    write_colours(layout.colour_path(person), colours)
    frames = [np.kron(g.integers(0, 256, (8, 6, 3), np.uint8), np.ones((16, 16, 1), np.uint8)) for _ in range(3)]
    for serial in serials:
        write_video(layout.video_path(person, "FREE", serial), frames, layout.FPS)
    write_tables(root, {18: {}}, {18: ["FREE"]})
    seen = kit("data_set", root, 18, "FREE", serials[1], 2, 1)
    assert seen["participants"] == [18] and seen["sequences"] == ["FREE"] == layout.list_sequences(person)
    assert seen["cameras"] == sorted(layout.list_serials(person, "FREE")) and seen["timesteps"] == 3
    ours = read_camera_params(layout.calibration_path(person))
    for serial in serials:
        np.testing.assert_allclose(np.array(seen["world_2_cam"][serial])[:3], ours.world_to_camera[serial])
        np.testing.assert_allclose(seen["intrinsics"], ours.K[serial])
        np.testing.assert_allclose(seen["colours"][serial], read_colours(layout.colour_path(person))[serial])
    corrected = correct_colours(np.array(seen["plain"], np.uint8), ours_matrix := colours[serials[1]])
    assert ours_matrix.shape == (3, 10)
    off = corrected.astype(int) - np.array(seen["corrected"])
    assert np.abs(off).mean() < 1 and np.percentile(np.abs(off), 99) <= 1


def test_the_kit_reads_the_benchmarks_data_as_we_do(kit, tmp_path):
    root, serials = tmp_path, (benchmark.MONO_TRAIN, *benchmark.MONO_HELD_OUT)
    person, made = root / "mono_flame_avatar" / "393", tracking()
    write_camera_params(layout.calibration_path(person), cameras(serials, shared=False, size=(512, 746)))
    write_tracking(layout.tracking_path(person, "FREE"), made, {"name": "open", "digest": "abc"})
    frames = [np.full((64, 64, 3), 40 * i, np.uint8) for i in range(5)]
    write_video(layout.video_path(person, "FREE", benchmark.MONO_TRAIN), frames, benchmark.MONO.fps)
    seen = kit("benchmark_data", root, 393, "FREE", benchmark.MONO_TRAIN, 3)
    ours = read_camera_params(layout.calibration_path(person), None)
    for serial in serials:
        np.testing.assert_allclose(seen["intrinsics"][serial], ours.K[serial])
        np.testing.assert_allclose(np.array(seen["world_2_cam"][serial])[:3], ours.world_to_camera[serial])
    for f in fields(FlameTracking):
        np.testing.assert_array_equal(np.float32(seen["tracking"][f.name]), np.float32(getattr(made, f.name)))
    assert abs(np.mean(seen["picture"]) - 120) < 2
    place = read_tracking(layout.tracking_path(person, "FREE")).head_to_world()[3]
    np.testing.assert_allclose(np.array(seen["points"]) @ place[:, :3].T + place[:, 3], seen["moved"], atol=1e-5)
    for wrong in (place[:, :3].T, place[:, :3] / made.scale[0, 0]):
        assert np.abs(np.array(seen["points"]) @ wrong.T + place[:, 3] - seen["moved"]).max() > 1e-3
