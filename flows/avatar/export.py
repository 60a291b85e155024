"""Command ``ffavatar export``: write an avatar as files for 3D Gaussian viewers, or as a page that animates it."""

from __future__ import annotations

import shutil
import uuid
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
from flows.avatar.outputs import check_output
from flows.avatar.photos import FaceAligner
from infra.console import CallError, say

MOST_EXPRESSIONS = 100
"""Most expression directions that a page contains: the number of FLAME's; the open head has fewer."""


def export_command(
    avatar: Path,
    out: Path | None,
    page: Path | None,
    driver: str | None,
    checkpoint: Path | None,
    pack: str | None,
    y_up: bool,
) -> None:
    """Run ``ffavatar export``: write a ``.ply``, a folder of them, or a page.

    Args:
        avatar: The avatar's file.
        out: The ``.ply`` file, or with a driver the folder of ``.ply`` files; None to write a page.
        page: The page; None to write ``.ply`` files.
        driver: A video file, a camera's index, or ``-`` for standard input, as in ``animate_video``; None to write the
            avatar at rest.
        checkpoint: Checkpoint of the model; by default the one that made the avatar.
        pack: Face pack of the detector.
        y_up: True to write ``.ply`` files with y up, as in ``export_ply``.

    Raises:
        CallError: The arguments do not name exactly one output, or its name has the wrong suffix.
    """
    if (out is None) == (page is None):
        raise CallError("export writes one thing: -o X.ply, --driver VIDEO -o FOLDER, or --html X.html")
    inputs = [avatar, *([Path(driver)] if driver else []), *([checkpoint] if checkpoint else [])]
    if page is not None:
        check_output("--html", page, inputs, (".html",))
        size = export_page(avatar, page, driver, checkpoint=checkpoint, pack=pack)
        say("{page}: {size:.1f} MB; open it in any browser, it needs no server", page=page, size=size / 1e6)
    elif driver is not None and out is not None:
        n = export_sequence(avatar, driver, out, checkpoint=checkpoint, pack=pack, y_up=y_up)
        say("{n} frames in {out}: 000000.ply and so on; open them in a 3D Gaussian viewer", n=n, out=out)
    elif out is not None:
        check_output("-o", out, inputs, (".ply",))
        n = export_ply(avatar, out, y_up=y_up)
        say("{n} Gaussians in {out}; open it in a 3D Gaussian viewer", n=n, out=out)


def export_ply(avatar: Path, out: Path, *, y_up: bool = False) -> int:
    """Write an avatar at rest as a ``.ply`` file, in metres.

    Args:
        avatar: The avatar's file.
        out: The ``.ply`` file.
        y_up: True for the head's axes: y up, z out of the face. False for the axes of captured scenes, which most
            viewers expect: y down, z into the face.

    Returns:
        The number of Gaussians.
    """
    canonical, header, head = open_avatar_and_head(avatar)
    for _ in range(header.subdivisions):
        head = subdivide(head)
    _write(out, canonical, head.template + canonical.offsets[0], canonical.rotations[0], y_up)
    return head.n_vertices


def export_page(
    avatar: Path, out: Path, driver: str | None = None, *, checkpoint: Path | None = None, pack: str | None = None
) -> int:
    """Write one self-contained page that shows and animates an avatar.

    Args:
        avatar: The avatar's file.
        out: The HTML file to write.
        driver: Driver whose motion the page plays, as in ``animate_video``; None for a page without one.
        checkpoint: Checkpoint of the model; by default the one that made the avatar.
        pack: Face pack of the detector.

    Returns:
        Size of the page, bytes.
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
    """Pack an avatar for the page, and print a notice if the head model's own licence applies to the page.

    Args:
        avatar: The avatar's file.
        track: Frames from ``pack_track`` that the page plays; None for no frames.

    Returns:
        The packed data that ``avatar_page`` takes.
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
    avatar: Path,
    driver: str,
    folder: Path,
    *,
    checkpoint: Path | None = None,
    pack: str | None = None,
    y_up: bool = False,
) -> int:
    """Write an avatar that a video drives, one file per frame: ``000000.ply`` and so on.

    The axes are those of ``export_ply``. The head turns and moves as the driver's head does; the origin is the head's
    position in the first frame. The folder appears under its name when all files are written.

    Args:
        avatar: The avatar's file.
        driver: A video file, a camera's index, or ``-`` for standard input, as in ``animate_video``.
        folder: Folder to write, which must be new or empty.
        checkpoint: Checkpoint of the model; by default the one that made the avatar.
        pack: Face pack of the detector.
        y_up: True for files with y up, as in ``export_ply``.

    Returns:
        The number of frames.

    Raises:
        CallError: ``folder`` is not empty, or the driver is missing, is no video, or shows no face.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CallError(f"-o {folder}: holds something already; name a new folder")
    animator = open_animator(avatar, checkpoint)
    source = open_driver(driver)
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    part.mkdir()  # with the mode that the umask gives, as it is renamed
    try:
        n, origin = 0, None
        for n, frame in enumerate(track_driver(animator, FaceAligner(pack), source), 1):
            posed = animator.pose(frame.parameters)
            rotation, position = _head_in_view(frame.parameters)
            origin = position if origin is None else origin
            means, rotations = _move(posed.means[0, 0], posed.rotations[0, 0], rotation, position - origin)
            _write(part / f"{n - 1:06d}.ply", posed.avatar, means, rotations, y_up)
        part.replace(folder)
        return n
    finally:
        source.close()
        shutil.rmtree(part, ignore_errors=True)


def _write(path: Path, avatar: CanonicalAvatar, means: Tensor, rotations: Tensor, y_up: bool) -> None:
    if not y_up:
        means, rotations = _move(means, rotations, torch.diag(means.new_tensor((1.0, -1.0, -1.0))), means.new_zeros(3))
    write_ply(path, means, rotations, avatar.scales[0], avatar.opacities[0], avatar.colours[0])


def _head_in_view(parameters: DrivingParameters) -> tuple[Tensor, Tensor]:
    """Return the head's rotation (3, 3) and position (3,) relative to the camera; y is up, z is towards the camera."""
    K = virtual_intrinsics(IMAGE_PX, parameters.pose)
    head_to_camera = pose_to_camera(parameters.pose[0, 0], K, IMAGE_PX)
    flip = torch.diag(K.new_tensor((1.0, -1.0, -1.0)))
    return flip @ head_to_camera[:, :3], flip @ head_to_camera[:, 3]


def _move(means: Tensor, rotations: Tensor, rotation: Tensor, translation: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate P Gaussians (means (P, 3), quaternions (P, 4), w first) about the origin, then translate them."""
    x, y, z, w = Rotation.from_matrix(rotation.double().cpu().numpy()).as_quat()
    quaternion = rotations.new_tensor((w, x, y, z)).expand_as(rotations)
    return means @ rotation.T + translation, multiply_quaternions(quaternion, rotations)
