"""``ffavatar export``: an avatar for 3D Gaussian viewers, at rest or frame by frame."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from ffavatar_model.animator import Animator, neutral
from ffavatar_model.camera import pose_to_camera, virtual_intrinsics
from ffavatar_model.estimator import DrivingParameters
from ffavatar_model.gaussians import CanonicalAvatar
from ffavatar_model.head.skinning import multiply_quaternions
from ffavatar_model.ply import write_ply
from flows.animation import SHOWN_PX, watch
from flows.avatars import open_avatar
from flows.console import CallError, say
from flows.drivers import open_driver
from flows.portraits import PortraitMaker


def export_command(
    avatar: Path, out: Path, driver: str | None, checkpoint: Path | None, pack: str | None
) -> None:
    """``ffavatar export``."""
    if driver is not None:
        n = export_sequence(avatar, driver, out, checkpoint=checkpoint, pack=pack)
        say("{n} frames in {out}: 000000.ply and so on; open them in a 3D Gaussian viewer", n=n, out=out)
        return
    if out.suffix != ".ply":
        raise CallError(f"-o {out}: only .ply can be written; name it so, or give --driver VIDEO and a new folder")
    n = export_ply(avatar, out, checkpoint=checkpoint)
    say("{n} Gaussians in {out}; open it in a 3D Gaussian viewer", n=n, out=out)


def export_ply(avatar: Path, out: Path, *, checkpoint: Path | None = None) -> int:
    """Write an avatar at rest as a ``.ply`` of 3D Gaussians (head axes, metres); returns how many."""
    canonical, _, model = open_avatar(avatar, checkpoint)
    with torch.inference_mode():
        rest = model.animate(canonical, neutral(model))
    _write(out, canonical, rest.means[0, 0], rest.rotations[0, 0])
    return rest.means.shape[2]


def export_sequence(
    avatar: Path, driver: str, folder: Path, *, checkpoint: Path | None = None, pack: str | None = None
) -> int:
    """Write an avatar as a video drives it, ``000000.ply`` and so on, one a frame; returns how many.

    Axes are those of ``export_ply``, with the head turning and moving in them as the driver's does; where it is in the
    first frame is the origin. The folder appears when it is whole.

    Raises:
        CallError: the folder holds something already, or the driver is missing, is no video, or shows no face.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CallError(f"-o {folder}: holds something already; name a new folder")
    canonical, _, model = open_avatar(avatar, checkpoint)
    animator = Animator(model, canonical, size=SHOWN_PX)
    source = open_driver(driver)
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        n, origin = 0, None
        for n, driven in enumerate(watch(animator, PortraitMaker(pack), source), 1):
            with torch.inference_mode():
                posed = animator.pose(driven.parameters)
            turn, place = _as_seen(driven.parameters)
            origin = place if origin is None else origin
            means, rotations = _moved(posed.means[0, 0], posed.rotations[0, 0], turn, place - origin)
            _write(part / f"{n - 1:06d}.ply", canonical, means, rotations)
        part.chmod(0o755)
        part.replace(folder)
        return n
    finally:
        source.close()
        shutil.rmtree(part, ignore_errors=True)


def _write(path: Path, avatar: CanonicalAvatar, means: Tensor, rotations: Tensor) -> None:
    write_ply(path, means, rotations, avatar.scales[0], avatar.opacities[0], avatar.colours[0])


def _as_seen(parameters: DrivingParameters) -> tuple[Tensor, Tensor]:
    """Rotation (3, 3) and place (3,) of the head before a camera, in axes that look like the head's: y up, z to us."""
    K = virtual_intrinsics(SHOWN_PX, parameters.pose)
    head_to_camera = pose_to_camera(parameters.pose[0, 0], K, SHOWN_PX)
    flip = torch.diag(K.new_tensor((1.0, -1.0, -1.0)))
    return flip @ head_to_camera[:, :3], flip @ head_to_camera[:, 3]


def _moved(means: Tensor, rotations: Tensor, turn: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Gaussians, means (P, 3) and rotations (P, 4), turned about the origin and then shifted."""
    x, y, z, w = Rotation.from_matrix(turn.double().cpu().numpy()).as_quat()
    quaternion = rotations.new_tensor((w, x, y, z)).expand_as(rotations)
    return means @ turn.T + shift, multiply_quaternions(quaternion, rotations)
