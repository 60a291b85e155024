from __future__ import annotations

import numpy as np
import pytest

from pipelines.faces.align import crop_transform, warp_crop
from pipelines.faces.analysis import FaceAnalyzer
from pipelines.faces.canonical_face import CANONICAL_FACE, MIRRORED_POINT
from pipelines.faces.mesh_detector import MeshDetector
from pipelines.faces.pose import FRONTAL, euler_angles, head_pose, rotation_from_angles

ANGLES = [(0, 0, 0), (35, 0, 0), (0, 20, 0), (0, 0, 15), (-50, 10, -30), (80, -35, 40), (12, 60, -100)]


def mesh_of(rotation: np.ndarray, scale: float = 90.0) -> np.ndarray:
    """A mesh (468, 3) in pixels: the frontal face, turned; the points that pose does not use are far off."""
    mesh = np.full((468, 3), 1e4)
    mesh[list(CANONICAL_FACE)] = FRONTAL @ rotation.T * scale + [256, 200, 3]
    return mesh


@pytest.mark.parametrize("angles", ANGLES)
def test_angles_come_back(angles: tuple[float, float, float]) -> None:
    assert euler_angles(rotation_from_angles(*angles)) == pytest.approx(angles, abs=1e-9)
    assert head_pose(mesh_of(rotation_from_angles(*angles))) == pytest.approx(angles, abs=1e-6)


def test_what_the_signs_mean() -> None:
    """Offsets of the nose's tip (4) and of the eye on the image's right (263) from the point between the eyes (168)."""

    def seen(yaw: float, pitch: float, roll: float) -> np.ndarray:
        mesh = mesh_of(rotation_from_angles(yaw, pitch, roll))
        return mesh - mesh[168]

    still = seen(0, 0, 0)
    assert seen(30, 0, 0)[4, 0] > still[4, 0] + 10  # positive yaw: the nose goes to the image's right
    assert seen(0, 20, 0)[4, 1] < still[4, 1] - 5  # positive pitch: the nose goes up (y is down)
    assert seen(0, 0, 20)[263, 1] > still[263, 1] + 10  # positive roll is clockwise: the right eye goes down
    assert still[4, 2] < still[263, 2]  # the nose is nearer than the eyes


def test_the_frontal_face_is_symmetric() -> None:
    index = {point: row for row, point in enumerate(CANONICAL_FACE)}
    middle = set(CANONICAL_FACE) - set(MIRRORED_POINT) - set(MIRRORED_POINT.values())
    for left, right in [*MIRRORED_POINT.items(), *((p, p) for p in middle)]:
        np.testing.assert_allclose(FRONTAL[index[left]], FRONTAL[index[right]] * [-1, 1, 1], atol=2e-3)


@pytest.mark.parametrize("turn", [0.0, 25.0, -60.0])
def test_the_roll_that_a_crop_took_away_comes_back(turn: float) -> None:
    c, s = 2 * np.cos(np.radians(turn)), 2 * np.sin(np.radians(turn))
    to_crop = np.array([[c, s, 40], [-s, c, -7]])  # turns the frame anticlockwise by `turn`, twice as large
    assert head_pose(mesh_of(rotation_from_angles(0, 0, 5)), to_crop) == pytest.approx((0, 0, 5 + turn), abs=1e-6)


def test_a_mirrored_photograph_turns_yaw_and_roll_about(
    analyzer: FaceAnalyzer, mesh_detector: MeshDetector, six_people: np.ndarray
) -> None:
    def poses(image: np.ndarray) -> dict[int, tuple[float, float, float]]:
        found = {}
        for detection in analyzer.detect(image):
            transform = crop_transform(detection.landmarks5, 256)
            mesh, _ = mesh_detector.detect(warp_crop(image, transform, 256))
            found[int(detection.landmarks5[:, 0].mean())] = head_pose(mesh, transform)
        return dict(sorted(found.items()))

    there = list(poses(six_people).values())
    back = list(poses(np.ascontiguousarray(six_people[:, ::-1])).values())[::-1]
    assert len(there) == 6
    difference = np.array(there) - np.array(back) * [-1, 1, -1]
    assert np.median(np.abs(difference)) < 3 and np.abs(difference).max() < 15
    # by eye: the man in the middle looks far to the left, the woman on the right of the top tilts to the left
    yaws = [pose[0] for pose in there]
    assert min(yaws) < -35 and max(yaws) < 10


def test_the_astronaut_looks_into_the_camera(
    mesh_detector: MeshDetector, astronaut_crop: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    crop, transform, _ = astronaut_crop
    assert np.abs(head_pose(mesh_detector.detect(crop)[0], transform)).max() < 10


def test_bad_meshes_are_named() -> None:
    with pytest.raises(ValueError, match=r"mesh of shape \(5, 2\)"):
        head_pose(np.zeros((5, 2)))
    with pytest.raises(ValueError, match="coincide"):
        head_pose(np.zeros((468, 3)))
