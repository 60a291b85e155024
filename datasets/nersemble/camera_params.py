"""Reading and writing of ``camera_params.json`` and ``color_calibration.json``.

Cameras have OpenCV axes; extrinsics map the world to the camera, in metres. There is one intrinsic matrix for all
cameras or one per camera.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nersemble.errors import NersembleError
from nersemble.layout import FULL_HEIGHT, FULL_WIDTH

Array = NDArray[np.float64]

NEAREST, FARTHEST = 0.1, 10.0
"""Range of plausible distances between cameras and the head, metres; values in other units lie outside of it.

The check uses the cameras' own middle and allows a quarter of ``NEAREST``.
"""


@dataclass(frozen=True)
class CameraParams:
    """The cameras of one participant that have both a pose and a K."""

    world_to_camera: Mapping[str, Array]
    """Serial number → transform (3, 4) from the world to the camera, OpenCV axes, metres."""
    K: Mapping[str, Array]
    """Serial number → intrinsics (3, 3), in pixels of an image of ``size``, or of the camera's video if it is None."""
    size: tuple[int, int] | None
    """(width, height) of the image to which K belongs: the full image in the data set, None in the benchmark."""
    shared: bool
    """True if all cameras share one K, as in the data set."""

    def intrinsics(self, serial: str, width: int, height: int) -> Array:
        """Return the intrinsics of a camera's video, which may be a scaled copy of the full image.

        Args:
            serial: Serial number of the camera.
            width: Width of the video, pixels.
            height: Height of the video, pixels.

        Returns:
            K (3, 3), in pixels of the video.

        Raises:
            NersembleError: There is no such camera, the video has another aspect ratio than the image to which K
                belongs, or the centre of K is far from the middle of a full image.
        """
        if serial not in self.K:
            raise NersembleError(f"camera {serial} is not in the calibration; it has {sorted(self.K)}")
        K = self.K[serial]
        if self.size is not None:
            sx, sy = width / self.size[0], height / self.size[1]
            # A copy loses up to one pixel per side if a factor does not divide the size, and another one for 4:2:0.
            if abs(width - sy * self.size[0]) > 2 and abs(height - sx * self.size[1]) > 2:
                full = f"{self.size[0]} x {self.size[1]}"
                raise NersembleError(f"camera {serial}: video of {width} x {height} px is no scaled copy of {full}")
            K = np.diag([sx, sy, 1.0]) @ K
        # In a full image, the centre of K is near the middle; in a crop (the benchmark's 512 x 512) it can be anywhere.
        full_shape = abs(width / height - FULL_WIDTH / FULL_HEIGHT) < 0.01
        if full_shape and not (0.3 * width < K[0, 2] < 0.7 * width and 0.3 * height < K[1, 2] < 0.7 * height):
            centre = f"({K[0, 2]:.0f}, {K[1, 2]:.0f})"
            raise NersembleError(f"camera {serial}: K's centre {centre} is not in the middle of {width} x {height} px")
        return K


def read_camera_params(path: Path, full_size: tuple[int, int] | None = (FULL_WIDTH, FULL_HEIGHT)) -> CameraParams:
    """Read and check a ``camera_params.json``.

    Args:
        path: The file.
        full_size: (width, height) of the image to which K belongs; None for the benchmark's files.

    Raises:
        NersembleError: The file is missing or not JSON, or its values are not OpenCV cameras in metres: a K is not
            upper triangular (it is transposed), a rotation is improper, or the median distance of the cameras from
            their middle is not between 0.025 m and 10 m (which indicates another unit).
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        poses = {str(serial): np.asarray(m, np.float64) for serial, m in content["world_2_cam"].items()}
        intrinsics = content["intrinsics"]
        shared = not isinstance(intrinsics, dict)
        matrices = {
            serial: np.asarray(intrinsics if shared else m, np.float64)
            for serial, m in (poses if shared else intrinsics).items()
        }
    except FileNotFoundError:
        raise NersembleError(
            f"{path}: the calibration is missing; download it with the kit's asset 'calibration'"
        ) from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise NersembleError(f"{path}: no camera calibration ({type(error).__name__}: {error})") from error
    for serial, pose in poses.items():
        _check_pose(path, serial, pose)
    for serial, K in matrices.items():
        _check_intrinsics(path, serial, K)
    _check_units(path, poses)
    complete = [serial for serial in poses if serial in matrices]
    return CameraParams({s: poses[s][:3] for s in complete}, {s: matrices[s] for s in complete}, full_size, shared)


def write_camera_params(path: Path, params: CameraParams) -> None:
    """Write a ``camera_params.json`` in the official form; the folder is made if it does not exist.

    Args:
        path: The file.
        params: The cameras.
    """
    row = np.array([[0.0, 0.0, 0.0, 1.0]])
    matrices = {serial: K.tolist() for serial, K in params.K.items()}
    content = {
        "world_2_cam": {s: np.concatenate([m, row]).tolist() for s, m in params.world_to_camera.items()},
        "intrinsics": next(iter(matrices.values())) if params.shared else matrices,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def read_colours(path: Path) -> dict[str, Array]:
    """Read a ``color_calibration.json``, which users download separately.

    Args:
        path: The file.

    Returns:
        Serial number → matrix (3, T) for ``nersemble.colour``; empty if the file is missing.

    Raises:
        NersembleError: The file is not a colour calibration.
    """
    if not path.is_file():
        return {}
    try:
        return {str(s): np.asarray(m, np.float64) for s, m in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise NersembleError(f"{path}: no colour calibration ({type(error).__name__}: {error})") from error


def write_colours(path: Path, matrices: Mapping[str, Array]) -> None:
    """Write a ``color_calibration.json``; the folder is made if it does not exist.

    Args:
        path: The file.
        matrices: Serial number → matrix (3, T).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({serial: np.asarray(m).tolist() for serial, m in matrices.items()}), encoding="utf-8")


def _check_pose(path: Path, serial: str, pose: Array) -> None:
    if pose.shape != (4, 4):
        raise NersembleError(f"{path}: world_2_cam of {serial} has shape {pose.shape}; (4, 4) is needed")
    rotation = pose[:3, :3]
    proper = np.abs(rotation @ rotation.T - np.eye(3)).max() < 1e-3 and np.linalg.det(rotation) > 0
    if not proper or np.abs(pose[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise NersembleError(f"{path}: world_2_cam of {serial} is no rigid transform: {pose.round(3).tolist()}")


def _check_intrinsics(path: Path, serial: str, K: Array) -> None:
    if K.shape != (3, 3) or np.abs(K[[1, 2, 2], [0, 0, 1]]).max() > 1e-6 or abs(K[2, 2] - 1) > 1e-6 or K[0, 0] <= 0:
        raise NersembleError(f"{path}: intrinsics of {serial} are no K (upper triangular, 1 at the end): {K.tolist()}")


def _check_units(path: Path, poses: Mapping[str, Array]) -> None:
    centres = np.array([-m[:3, :3].T @ m[:3, 3] for m in poses.values()])
    if len(centres) < 2:
        return
    spread = float(np.median(np.linalg.norm(centres - centres.mean(0), axis=1)))
    if not NEAREST / 4 < spread < FARTHEST:
        raise NersembleError(f"{path}: cameras {spread:.4g} from their middle; metres are expected, 0.03 to 10 of them")
