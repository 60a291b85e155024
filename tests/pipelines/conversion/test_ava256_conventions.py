"""Conventions are proven, not trusted: points of known places are projected into every converted view."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from ava256.naming import FULL_HEIGHT, FULL_WIDTH, HEAD_POSE
from ava256.reader import Ava256Capture
from pipelines.conversion.ava256_config import head_model_frame
from pipelines.conversion.head_crops import resample
from pipelines.media.cameras import Camera
from pipelines.media.image_codec import decode_image
from pipelines.studio.captures.ava256_layout import DISTORTION, Ava256Spec, plan_capture

BOUND = 0.1
"""Pixels."""


def matrix(values, rows):
    return np.array(values, np.float64).reshape(rows, -1)


def truth_of(decoder):
    """The rig's cameras, and for each frame the head's pose and vertices, as they were rendered."""
    folder = decoder.parent / "truth"
    cameras = {
        row["camera_id"]: Camera(matrix(row["K"], 3), matrix(row["world_to_camera"], 3), row["width"], row["height"])
        for row in pq.read_table(folder / "cameras.parquet").to_pylist()
    }
    timesteps = {row["frame_index"]: row for row in pq.read_table(folder / "moments.parquet").to_pylist()}
    return cameras, timesteps, json.loads((folder / "person.json").read_text())


def reprojection_error(decoder, converted):
    """Largest distance, in pixels of the full image, between where the files' points are projected through the
    converted corpus, and where the renderer put them; infinite where nothing was converted."""
    rows, _ = converted
    cameras, timesteps, _ = truth_of(decoder)
    capture = Ava256Capture(str(decoder), LocalFileSystem())
    to_tracked = head_model_frame(capture.mean_vertices)
    worst, n = 0.0, 0
    for row in rows:
        calibrated = {camera["camera_id"]: camera for camera in row["cameras"]}
        for view in row["views"]:
            if view["status"] != "ok":
                continue
            n += 1
            place, true = matrix(view["head_to_world"], 3), timesteps[view["frame_index"]]
            world_to_camera = matrix(calibrated[view["camera_id"]]["world_to_camera"], 3)
            rendered = cameras[view["camera_id"]]
            K = matrix(view["K"], 3)
            camera = Camera(K, world_to_camera, rendered.width, rendered.height)
            # The mesh: from the file's frame to the head model's, by the view's pose to the world, into the view.
            tracked = capture.vertices(view["frame_index"])
            in_head = (tracked - to_tracked[:, 3]) @ to_tracked[:, :3]
            mesh = camera.project(in_head @ place[:, :3].T + place[:, 3])[0]
            posed, pose = matrix(true["vertices"], len(true["vertices"]) // 3), matrix(true["head_to_world"], 3)
            expected = rendered.project(posed @ pose[:, :3].T + pose[:, 3])[0]
            worst = max(worst, np.abs(mesh[: len(expected)] - expected).max())
            # The keypoints: world points of the file.
            index, points, _ = capture.keypoints(view["frame_index"])
            seen, drawn = camera.project(points)[0], rendered.project(points_of(capture, points, index, true))[0]
            worst = max(worst, np.abs(seen - drawn).max())
    return worst if n else np.inf


def points_of(capture, points, index, timestep):
    """The true world points of keypoints: the posed vertices to which they belong."""
    pose = matrix(timestep["head_to_world"], 3)
    posed = matrix(timestep["vertices"], len(timestep["vertices"]) // 3) @ pose[:, :3].T + pose[:, 3]
    return posed[keypoint_vertices()[index]]


def keypoint_vertices():
    from ffavatar_model.head.open_head import build_open_head
    from pipelines.faces.weight_cache import cache_dir
    from pipelines.studio.captures.ava256_layout import spread_keypoints

    if not _CHOSEN:
        _CHOSEN.append(spread_keypoints(build_open_head(cache_dir()).template.numpy()))
    return _CHOSEN[0]


_CHOSEN: list[np.ndarray] = []


def test_points_fall_where_they_were_rendered(ava256_copy, convert_ava256):
    """crop=full keeps the full image at its size, so that its pixels are the renderer's."""
    source, decoder = ava256_copy
    assert reprojection_error(decoder, convert_ava256(source, crop="full", size=256)) < BOUND


def edit_calibration(decoder, change):
    path = decoder / "camera_calibration.json"
    found = json.loads(path.read_text())
    for entry in found["KRT"]:
        K, T = change(np.array(entry["K"]), np.array(entry["T"]))
        entry["K"], entry["T"] = K.tolist(), T.tolist()
    path.write_text(json.dumps(found))


def edit_poses(decoder, change):
    path = decoder / HEAD_POSE
    with zipfile.ZipFile(path) as archive:
        poses = {name: np.loadtxt(io.BytesIO(archive.read(name))) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, pose in poses.items():
            text = io.BytesIO()
            np.savetxt(text, change(pose))
            archive.writestr(name, text.getvalue())


def inverted(pose):
    return np.concatenate([pose[:, :3].T, -pose[:, :3].T @ pose[:, 3:]], axis=1)


def flipped(T, axes):
    """World to camera with some of the camera's axes turned round (the file holds the transpose)."""
    return T @ np.diag([*axes, 1])


def scaled(T, by):
    """The translation (the last row of the file's T) times a factor."""
    return np.concatenate([T[:3], [[*by * T[3, :3], 1]]])


SMALL = np.array([[1 / 16, 1, 1], [1, 1 / 16, 1], [1 / 16, 1 / 16, 1]])
SWAP = [1, 0, 2]
MUTATIONS = {
    "K transposed": lambda d: edit_calibration(d, lambda K, T: (K.T, T)),
    "K for the small image": lambda d: edit_calibration(d, lambda K, T: (K * SMALL, T)),
    "K's x and y swapped": lambda d: edit_calibration(d, lambda K, T: (K[SWAP][:, SWAP], T)),
    "T transposed": lambda d: edit_calibration(d, lambda K, T: (K, T.T)),
    "OpenGL axes": lambda d: edit_calibration(d, lambda K, T: (K, flipped(T, (1, -1, -1)))),
    "x turned round": lambda d: edit_calibration(d, lambda K, T: (K, flipped(T, (-1, 1, 1)))),
    "camera to world": lambda d: edit_calibration(d, lambda K, T: (K, np.linalg.inv(T))),
    "T in metres": lambda d: edit_calibration(d, lambda K, T: (K, scaled(T, 1e-3))),
    "poses in metres": lambda d: edit_poses(d, lambda pose: pose * [1, 1, 1, 1e-3]),
    "poses inverted": lambda d: edit_poses(d, inverted),
    "poses' rotation transposed": lambda d: edit_poses(d, lambda pose: np.concatenate([pose[:, :3].T, pose[:, 3:]], 1)),
    "poses' axes turned": lambda d: edit_poses(d, lambda pose: pose @ np.diag([1, -1, -1, 1])),
}


def test_a_change_that_changes_nothing_stays_within_the_bound(ava256_copy, convert_ava256):
    """The mutations' own machinery does no harm: what follows is seen for what it is."""
    source, decoder = ava256_copy
    edit_calibration(decoder, lambda K, T: (K, scaled(flipped(T, (1, 1, 1)), 1.0)))
    edit_poses(decoder, lambda pose: inverted(inverted(pose)))
    assert reprojection_error(decoder, convert_ava256(source, crop="full", size=256)) < BOUND


@pytest.mark.parametrize("mutation", list(MUTATIONS))
def test_a_wrong_convention_is_seen(mutation, ava256_copy, convert_ava256):
    """Each mistake in the files leaves the bound, or is refused as no camera or no pose."""
    source, decoder = ava256_copy
    MUTATIONS[mutation](decoder)
    assert reprojection_error(decoder, convert_ava256(source, crop="full", size=256)) > 3 * BOUND


def silhouettes(studio, decoder, view, camera_row, size):
    """The converted matte, and the silhouette of the true mesh seen by the converted view's camera (floats)."""
    _, timesteps, person = truth_of(decoder)
    camera = Camera(matrix(view["K"], 3), matrix(camera_row["world_to_camera"], 3), size, size)
    capture = plan_capture(studio, person["identity_id"], Ava256Spec(n_cameras=4, frames=3, height=256))
    (timestep,) = [t for t in capture.timesteps if t.frame_index == view["frame_index"]]
    np.testing.assert_allclose(timestep.head_to_world, matrix(timesteps[view["frame_index"]]["head_to_world"], 3))
    (true,) = capture.render_views(timestep, {"": camera})
    return decode_image(view["matte"], grey=True) / 255.0, true.alpha.astype(np.float64)


def test_the_crops_camera_sees_the_person_where_the_matte_is(capture_studio, ava256_copy, convert_ava256):
    """A head-centred crop's K and pose, with the true mesh, give the matte that was cut out of the files' images."""
    source, decoder = ava256_copy
    size = 128
    rows, _ = convert_ava256(source, size=size)
    offsets = []
    for row in rows[:3]:
        view = next(view for view in row["views"] if view["status"] == "ok")
        matte, true = silhouettes(capture_studio, decoder, view, row["cameras"][0], size)
        assert np.minimum(matte, true).sum() / np.maximum(matte, true).sum() > 0.95
        y, x = np.mgrid[0:size, 0:size]
        offsets += [(matte * x).sum() / matte.sum() - (true * x).sum() / true.sum()]
        offsets += [(matte * y).sum() / matte.sum() - (true * y).sum() / true.sum()]
    assert np.abs(offsets).max() < 0.1


def test_the_head_model_lies_in_the_mesh_as_rendered(ava256_source, convert_ava256):
    """Axes exactly, the origin within the spread that noses have (nothing in the files says where the eyes are)."""
    rows, _ = convert_ava256(ava256_source)
    shifts = []
    for decoder in sorted(ava256_source.glob("*--*/decoder")):
        _, timesteps, _ = truth_of(decoder)
        view = next(v for row in rows if decoder.parent.name in row["item_id"] for v in row["views"] if v["K"])
        place, true = matrix(view["head_to_world"], 3), matrix(timesteps[view["frame_index"]]["head_to_world"], 3)
        np.testing.assert_allclose(place[:, :3], true[:, :3], atol=1e-6)
        shifts.append(np.linalg.norm(place[:, 3] - true[:, 3]))
    assert max(shifts) < 0.025


def test_distortion_is_measured_and_can_be_taken_out():
    """With plausible coefficients, on the official 1024 x 667: a tenth of a pixel at the head, more in the corners."""
    import cv2

    K = np.array([[10355.0, 0, 1413], [0, 10348, 1783], [0, 0, 1]])
    small = np.diag([667 / FULL_WIDTH, 1024 / FULL_HEIGHT, 1]) @ K
    y, x = np.mgrid[0:1024:64, 0:667:64].astype(np.float64)
    rays = np.stack([(x - small[0, 2]) / small[0, 0], (y - small[1, 2]) / small[1, 1], np.ones_like(x)], -1)
    seen = cv2.projectPoints(rays.reshape(-1, 3), np.zeros(3), np.zeros(3), small, DISTORTION)[0]
    off = np.linalg.norm(seen.reshape(*x.shape, 2) - np.stack([x, y], -1), axis=-1)
    head = np.hypot(x - 667 / 2, y - 1024 / 2) < 200
    assert 0.05 < off[head].mean() < 0.2 and off[head].max() < 0.7 and 2 < off.max() < 6
    # A chequered image that the lens bends, and the same one taken straight again.
    camera = Camera(small, np.eye(3, 4), 667, 1024)
    chequered = np.kron(np.indices((64, 42)).sum(0) % 2, np.ones((16, 16)))[:1024, :667].astype(np.uint8) * 200
    straight = cv2.GaussianBlur(chequered, (0, 0), 4)
    grid = np.stack(np.meshgrid(np.arange(667), np.arange(1024)), -1).reshape(-1, 1, 2).astype(np.float64)
    half = small - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    back = cv2.undistortPoints(grid, half, DISTORTION, P=half).reshape(1024, 667, 2).astype(np.float32)
    bent = cv2.remap(straight, back, None, cv2.INTER_LINEAR)
    again = resample(bent, camera, camera, distortion=DISTORTION)
    left, taken = (np.abs(p.astype(float) - straight)[8:-8, 8:-8].mean() for p in (bent, again))
    assert taken < 0.25 * left
