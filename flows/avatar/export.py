"""``ffavatar export``: an avatar for 3D Gaussian viewers, at rest or frame by frame, or as a page that moves it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from ffavatar_model.camera import pose_to_camera, virtual_intrinsics
from ffavatar_model.head import subdivide
from ffavatar_model.head.open_head import OPEN_HEAD
from ffavatar_model.head.skinning import multiply_quaternions
from ffavatar_model.io.atomic import write_atomically
from ffavatar_model.io.ply import write_ply
from ffavatar_model.networks.estimator import DrivingParameters
from ffavatar_model.networks.gaussians import CanonicalAvatar
from ffavatar_model.viewer import avatar_page, pack_avatar, pack_track
from flows.avatar.animate import SHOWN_PX, open_animator, watch
from flows.avatar.drivers import open_driver
from flows.avatar.photos import FaceAligner
from flows.avatar.reconstruct import open_avatar_and_head
from infra.console import CallError, say

MOST_EXPRESSIONS = 100
"""FLAME's; the open head has fewer."""


def export_command(
    avatar: Path, out: Path | None, page: Path | None, driver: str | None, checkpoint: Path | None, pack: str | None
) -> None:
    """``ffavatar export``."""
    if (out is None) == (page is None):
        raise CallError("export writes one thing: -o X.ply, --driver VIDEO -o FOLDER, or --html X.html")
    if page is not None:
        if page.suffix != ".html":
            raise CallError(f"--html {page}: a page ends in .html; name it so")
        size = export_page(avatar, page, driver, checkpoint=checkpoint, pack=pack)
        say("{page}: {size:.1f} MB; open it in any browser, it needs no server", page=page, size=size / 1e6)
    elif driver is not None and out is not None:
        n = export_sequence(avatar, driver, out, checkpoint=checkpoint, pack=pack)
        say("{n} frames in {out}: 000000.ply and so on; open them in a 3D Gaussian viewer", n=n, out=out)
    elif out is not None:
        if out.suffix != ".ply":
            raise CallError(f"-o {out}: only .ply can be written; name it so, or give --driver VIDEO and a new folder")
        say("{n} Gaussians in {out}; open it in a 3D Gaussian viewer", n=export_ply(avatar, out), out=out)


def export_ply(avatar: Path, out: Path) -> int:
    """Write an avatar at rest as a ``.ply`` of 3D Gaussians (head axes, metres); returns how many."""
    canonical, header, head = open_avatar_and_head(avatar)
    for _ in range(header.subdivisions):
        head = subdivide(head)
    _write(out, canonical, head.template + canonical.offsets[0], canonical.rotations[0])
    return head.n_vertices


def export_page(
    avatar: Path, out: Path, driver: str | None = None, *, checkpoint: Path | None = None, pack: str | None = None
) -> int:
    """Write one self-contained page that shows and moves an avatar, as ``driver`` does if given; returns its bytes."""
    track = None
    if driver is not None:
        animator, source = open_animator(avatar, checkpoint), open_driver(driver)
        try:
            driven = list(watch(animator, FaceAligner(pack), source))
        finally:
            source.close()
        track = pack_track([each.parameters for each in driven], [each.time_s for each in driven])
    data = avatar_page(packed_avatar(avatar, track), avatar.stem).encode()
    write_atomically(out, data)
    return len(data)


def packed_avatar(avatar: Path, track: dict[str, Any] | None = None) -> bytes:
    """An avatar as the page takes it. Says so where the head model's own licence goes with it."""
    canonical, header, head = open_avatar_and_head(avatar)
    if header.head != OPEN_HEAD:
        say(
            "the page holds the template and the expression directions of head model {head}: pass it on only as that "
            "model's licence allows",
            head=header.head,
        )
    return pack_avatar(canonical, header, head, MOST_EXPRESSIONS, track)


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
    animator = open_animator(avatar, checkpoint)
    source = open_driver(driver)
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        n, origin = 0, None
        for n, driven in enumerate(watch(animator, FaceAligner(pack), source), 1):
            with torch.inference_mode():
                posed = animator.pose(driven.parameters)
            turn, place = _as_seen(driven.parameters)
            origin = place if origin is None else origin
            means, rotations = _moved(posed.means[0, 0], posed.rotations[0, 0], turn, place - origin)
            _write(part / f"{n - 1:06d}.ply", posed.avatar, means, rotations)
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
