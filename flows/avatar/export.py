"""``ffavatar export``: an avatar as files for 3D Gaussian viewers, or as a page that animates it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from ffavatar_model.atomic_file import write_atomically
from ffavatar_model.camera import pose_to_camera, virtual_intrinsics
from ffavatar_model.head import subdivide
from ffavatar_model.head.open_head import OPEN_HEAD
from ffavatar_model.head.skinning import multiply_quaternions
from ffavatar_model.io.ply import write_ply
from ffavatar_model.networks.estimator import DrivingParameters
from ffavatar_model.networks.gaussians import CanonicalAvatar
from ffavatar_model.viewer import avatar_page, pack_avatar, pack_track
from flows.avatar.animate import IMAGE_PX, open_animator, track_driver
from flows.avatar.drivers import open_driver
from flows.avatar.load_models import open_avatar_and_head
from flows.avatar.photos import FaceAligner
from infra.console import CallError, say

MOST_EXPRESSIONS = 100
"""Upper bound on the expression directions of a page: FLAME's number; the open head has fewer."""


def export_command(
    avatar: Path, out: Path | None, page: Path | None, driver: str | None, checkpoint: Path | None, pack: str | None
) -> None:
    """Run ``ffavatar export``: write a ``.ply``, a folder of them, or a page.

    Args:
        avatar: The avatar's file.
        out: The ``.ply``, or with a driver the folder; None for a page.
        page: The page; None for the others.
        driver: As for ``animate_video``; None for an avatar at rest.
        checkpoint: Checkpoint of the model; by default the one that made the avatar.
        pack: Face pack of the detector.

    Raises:
        CallError: The arguments do not name exactly one output, or its name does not fit.
    """
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
    """Write an avatar at rest as a ``.ply`` of 3D Gaussians (head axes, metres), and return their number."""
    canonical, header, head = open_avatar_and_head(avatar)
    for _ in range(header.subdivisions):
        head = subdivide(head)
    _write(out, canonical, head.template + canonical.offsets[0], canonical.rotations[0])
    return head.n_vertices


def export_page(
    avatar: Path, out: Path, driver: str | None = None, *, checkpoint: Path | None = None, pack: str | None = None
) -> int:
    """Write one self-contained page that shows and animates an avatar.

    Args:
        avatar: The avatar's file.
        out: The page.
        driver: Frames that the page plays, as for ``animate_video``; none by default.
        checkpoint: Checkpoint of the model; by default the one that made the avatar.
        pack: Face pack of the detector.

    Returns:
        The size of the page in bytes.
    """
    track = None
    if driver is not None:
        animator, source = open_animator(avatar, checkpoint), open_driver(driver)
        try:
            frames = list(track_driver(animator, FaceAligner(pack), source))
        finally:
            source.close()
        track = pack_track([frame.parameters for frame in frames], [frame.time_s for frame in frames])
    data = avatar_page(pack_avatar_file(avatar, track), avatar.stem).encode()
    write_atomically(out, data)
    return len(data)


def pack_avatar_file(avatar: Path, track: dict[str, Any] | None = None) -> bytes:
    """Pack an avatar for the page, and print a notice where the head model's own licence applies to the page.

    Args:
        avatar: The avatar's file.
        track: Frames from ``pack_track``, for a page that plays them.

    Returns:
        The block for ``avatar_page``.
    """
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
    """Write an avatar as a video drives it, one file a frame: ``000000.ply`` and so on.

    Axes are those of ``export_ply``. The head turns and moves in them as the driver's does; the origin is the head's
    position in the first frame. The folder appears when it is complete.

    Args:
        avatar: The avatar's file.
        driver: As for ``animate_video``.
        folder: A new folder.
        checkpoint: Checkpoint of the model; by default the one that made the avatar.
        pack: Face pack of the detector.

    Returns:
        The number of frames.

    Raises:
        CallError: The folder is not empty, or the driver is missing, is no video, or shows no face.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CallError(f"-o {folder}: holds something already; name a new folder")
    animator = open_animator(avatar, checkpoint)
    source = open_driver(driver)
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        n, origin = 0, None
        for n, frame in enumerate(track_driver(animator, FaceAligner(pack), source), 1):
            posed = animator.pose(frame.parameters)
            rotation, position = _head_in_view(frame.parameters)
            origin = position if origin is None else origin
            means, rotations = _move(posed.means[0, 0], posed.rotations[0, 0], rotation, position - origin)
            _write(part / f"{n - 1:06d}.ply", posed.avatar, means, rotations)
        part.chmod(0o755)
        part.replace(folder)
        return n
    finally:
        source.close()
        shutil.rmtree(part, ignore_errors=True)


def _write(path: Path, avatar: CanonicalAvatar, means: Tensor, rotations: Tensor) -> None:
    write_ply(path, means, rotations, avatar.scales[0], avatar.opacities[0], avatar.colours[0])


def _head_in_view(parameters: DrivingParameters) -> tuple[Tensor, Tensor]:
    """Return rotation (3, 3) and position (3,) of the head before a camera, in axes like the head's: y up, z to us."""
    K = virtual_intrinsics(IMAGE_PX, parameters.pose)
    head_to_camera = pose_to_camera(parameters.pose[0, 0], K, IMAGE_PX)
    flip = torch.diag(K.new_tensor((1.0, -1.0, -1.0)))
    return flip @ head_to_camera[:, :3], flip @ head_to_camera[:, 3]


def _move(means: Tensor, rotations: Tensor, rotation: Tensor, translation: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate Gaussians, means (P, 3) and rotations (P, 4), about the origin and then translate them."""
    x, y, z, w = Rotation.from_matrix(rotation.double().cpu().numpy()).as_quat()
    quaternion = rotations.new_tensor((w, x, y, z)).expand_as(rotations)
    return means @ rotation.T + translation, multiply_quaternions(quaternion, rotations)
