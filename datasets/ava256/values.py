"""Decoding and encoding of Ava-256's values: images, segmentations, poses, keypoints, vertices."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from ava256.camera_calibration import is_rotation
from ava256.naming import FULL_HEIGHT, FULL_WIDTH, MILLIMETRE

Image = NDArray[np.uint8]
Points = NDArray[np.float64]
MAX_PIXELS = FULL_HEIGHT * FULL_WIDTH
"""Largest number of pixels in an image."""
FARTHEST = 5.0
"""Largest allowed distance between a head and the world's origin, metres."""


class ValueDamaged(ValueError):
    """Error for bytes that do not hold a valid value.

    ``reason`` is a code: picture_damaged, too_large, pose_invalid or value_damaged.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def decode_avif(data: bytes) -> Image:
    """Decode an AVIF image as RGB (H, W, 3).

    Raises:
        ValueDamaged: The bytes do not decode, or the image has more pixels than a full image.
    """
    return _decode(data, "AVIF", ("RGB",))


def decode_classes(data: bytes) -> Image:
    """Decode a PNG image whose grey levels or palette indices are classes, as (H, W).

    Raises:
        ValueDamaged: The bytes do not decode, or the image has more pixels than a full image.
    """
    return _decode(data, "PNG", ("L", "P"))


def _decode(data: bytes, kind: str, modes: tuple[str, ...]) -> Image:
    """Decode an image of the format ``kind``; if its mode is not in ``modes``, convert it to the first of them."""
    try:
        with PIL.Image.open(io.BytesIO(data), formats=(kind,)) as image:
            if image.width * image.height > MAX_PIXELS:
                message = f"{kind} of {image.width} x {image.height} pixels; a full one has {MAX_PIXELS}"
                raise ValueDamaged("too_large", message)
            return np.asarray(image if image.mode in modes else image.convert(modes[0]), np.uint8)
    except ValueDamaged:
        raise
    except Exception as error:  # Pillow raises many kinds of errors for broken files
        raise ValueDamaged("picture_damaged", f"{len(data)} bytes are no {kind} ({error})") from error


def encode_avif(rgb: Image, quality: int = 85) -> bytes:
    """Encode an image as AVIF with 8 bits and 4:2:0.

    Args:
        rgb: (H, W, 3) RGB.
        quality: Quality from 0 to 100.
    """
    out = io.BytesIO()
    PIL.Image.fromarray(rgb, "RGB").save(out, "AVIF", quality=quality, speed=8, max_threads=1)
    return out.getvalue()


def encode_lossless(values: Image) -> bytes:
    """Encode classes (H, W) or RGB (H, W, 3) as PNG.

    ``encode_png`` of ``pipelines.media.image_codec`` is not used, because packages of data formats do not import
    pipelines.
    """
    out = io.BytesIO()
    PIL.Image.fromarray(values).save(out, "PNG")
    return out.getvalue()


def read_pose(data: bytes) -> Points:
    """Read a head-to-world pose (3, 4), metres.

    Args:
        data: Text of the file: 3 x 4 numbers, translation in millimetres.

    Raises:
        ValueDamaged: The text does not hold 3 x 4 numbers, the first three columns are not a rotation, or the head is
            more than ``FARTHEST`` from the origin (which indicates another unit or matrix).
    """
    try:
        pose = np.loadtxt(io.BytesIO(data), dtype=np.float64).reshape(3, 4)
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueDamaged("pose_invalid", f"no 3 x 4 matrix ({error})") from error
    pose[:, 3] *= MILLIMETRE
    if not np.isfinite(pose).all() or not is_rotation(pose[:, :3]):
        raise ValueDamaged("pose_invalid", "its first three columns are no rotation")
    if np.linalg.norm(pose[:, 3]) > FARTHEST:
        raise ValueDamaged("pose_invalid", f"the head is {np.linalg.norm(pose[:, 3]):.0f} m from the world's origin")
    return pose


def write_pose(head_to_world: Points) -> bytes:
    """Return the text of a pose (3, 4) in metres."""
    pose = head_to_world.copy()
    pose[:, 3] /= MILLIMETRE
    out = io.BytesIO()
    np.savetxt(out, pose, fmt="%.9g")
    return out.getvalue()


def read_keypoints(data: bytes) -> tuple[NDArray[np.int64], Points, Points]:
    """Read the keypoints of a frame.

    Args:
        data: Bytes of the ``.npy`` file.

    Returns:
        Indices (N,), world points (N, 3) in metres, and (N, 2) summed confidence and count of the inliers.

    Raises:
        ValueDamaged: The bytes are not an array with six columns.
    """
    try:
        rows = np.load(io.BytesIO(data), allow_pickle=False).astype(np.float64).reshape(-1, 6)
    except (ValueError, EOFError, OSError) as error:
        raise ValueDamaged("value_damaged", f"no array of six columns ({error})") from error
    return rows[:, 0].astype(np.int64), rows[:, 1:4] * MILLIMETRE, rows[:, 4:]


def write_keypoints(index: NDArray[np.integer], points: Points, inliers: Points) -> bytes:
    """Return the bytes of the ``.npy`` file of keypoints.

    Args:
        index: (N,) indices of the keypoints.
        points: (N, 3) positions in the world, metres.
        inliers: (N, 2) summed confidence and count of the inliers.
    """
    return _npy(np.concatenate([index[:, None], points / MILLIMETRE, inliers], axis=1).astype(np.float32))


def read_vertices(data: bytes) -> Points:
    """Read the vertices (V, 3) of a PLY file (ASCII or binary little-endian), in the head's frame, metres.

    Args:
        data: Bytes of the file.

    Raises:
        ValueDamaged: The bytes are not such a PLY file.
    """
    try:
        head, _, body = data.partition(b"end_header\n")
        lines = head.decode("ascii").split("\n")
        count = next(int(line.split()[2]) for line in lines if line.startswith("element vertex"))
        fields = [line.split()[1:] for line in lines if line.startswith("property") and "list" not in line]
        kinds = {"float": "<f4", "float32": "<f4", "double": "<f8", "float64": "<f8", "uchar": "u1", "int": "<i4"}
        if any("format ascii" in line for line in lines):
            table = np.loadtxt(io.BytesIO(body), max_rows=count, ndmin=2)
            names = [name for _, name in fields]
            return table[:, [names.index(axis) for axis in "xyz"]] * MILLIMETRE
        packed = np.dtype([(name, kinds[kind]) for kind, name in fields])
        rows = np.frombuffer(body, packed, count)
        return np.stack([rows[axis] for axis in "xyz"], 1).astype(np.float64) * MILLIMETRE
    except (ValueError, StopIteration, KeyError, IndexError, UnicodeDecodeError) as error:
        raise ValueDamaged("value_damaged", f"no PLY with vertices ({error})") from error


def write_vertices(vertices: Points) -> bytes:
    """Return the bytes of the PLY file of vertices (V, 3) in metres."""
    head = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n"
        "property float x\nproperty float y\nproperty float z\nend_header\n"
    )
    return head.encode() + (vertices / MILLIMETRE).astype("<f4").tobytes()


def read_mean_vertices(data: bytes) -> Points:
    """Read the mean vertices (V, 3) of ``registration_vertices_mean.npy``, metres.

    Raises:
        ValueDamaged: The bytes are not an array with three columns.
    """
    try:
        return np.load(io.BytesIO(data), allow_pickle=False).astype(np.float64).reshape(-1, 3) * MILLIMETRE
    except (ValueError, EOFError, OSError) as error:
        raise ValueDamaged("value_damaged", f"no array of three columns ({error})") from error


def write_mean_vertices(vertices: Points) -> bytes:
    """Return the bytes of the ``.npy`` file of mean vertices (V, 3) in metres."""
    return _npy((vertices / MILLIMETRE).astype(np.float32))


def _npy(values: NDArray[np.floating]) -> bytes:
    out = io.BytesIO()
    np.save(out, values)
    return out.getvalue()
