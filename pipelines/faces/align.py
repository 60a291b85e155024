"""Alignment of faces: a square crop in which every head has the same layout, and the transforms between images."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

MAX_UPSCALE = 1.5
"""Largest factor by which a crop enlarges the frame; a smaller face gets a smaller crop."""

EYE_SPAN = 0.22
"""Distance of the eyes in a frontal face, as a share of the crop's side; hair and chin then fit into it."""

MOUTH_DROP = 0.254
"""Distance from the middle of the eyes to that of the mouth, as a share of the crop's side: 1.155 ``EYE_SPAN``."""

EYE_LEVEL = 0.53
"""Distance of the eyes from the crop's top, as a share of the crop's side."""

TURN_SHIFT = 1.5
"""Factor of the shift that brings a turned head back to the middle of the crop.

The shift is this factor times the offset of the nose from the middle of eyes and mouth. The tip of the nose lies about
10 cm in front of the head's centre and the eyes lie 7 cm in front of it, so the exact factor would be 7 / 3. A smaller
one is used because the nose is the least certain of the five points.
"""

MAX_SHIFT = 0.15
"""Largest shift of a turned head in either direction, as a share of the crop's side."""

ARCFACE_112 = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float64
)
"""(5, 2) landmark positions that ArcFace models expect in a 112-pixel image (insightface's ``arcface_dst``)."""

Matrix = npt.NDArray[np.float64]


def crop_transform(landmarks5: npt.ArrayLike, size: int = 512, margin: float = 0.0) -> Matrix:
    """Compute the similarity from the frame to a square crop that holds the complete head.

    In a frontal face the eyes lie at (0.39, 0.53) and (0.61, 0.53) of the crop, the mouth at (0.5, 0.78). The size of
    the face is the larger of two estimates: one from the distance between the eyes, which shrinks when the head turns,
    and one from the distance between eyes and mouth, which shrinks when the head nods. The rotation of the crop follows
    both lines. A turned head is moved to the middle of the crop. As a result, a face in profile does not fill the crop
    or tip over, and the back of the head stays inside.

    Args:
        landmarks5: (5, 2) eyes, nose and mouth corners, pixels of the frame. Pixel centres have integer coordinates,
            as in OpenCV.
        size: Side of the crop, pixels.
        margin: Extra margin on each of the four sides, as a share of the side without margin.

    Returns:
        (2, 3) similarity from pixels of the frame to pixels of the crop.

    Raises:
        ValueError: The five points coincide.
    """
    points = _as_five_points(landmarks5)
    # Plain floats, because arrays of two elements would take ten times as long.
    (left_x, left_y), (right_x, right_y), (nose_x, nose_y), (x3, y3), (x4, y4) = points.tolist()
    eyes_x, eyes_y, mouth_x, mouth_y = (left_x + right_x) / 2, (left_y + right_y) / 2, (x3 + x4) / 2, (y3 + y4) / 2
    across_x, across_y, down_x, down_y = right_x - left_x, right_y - left_y, mouth_x - eyes_x, mouth_y - eyes_y
    # The crop's x axis is the sum of `across` and of `down` turned by 90 degrees, so the longer one counts more.
    along_x, along_y = across_x + down_y, across_y - down_x
    side = max(math.hypot(across_x, across_y) / EYE_SPAN, math.hypot(down_x, down_y) / MOUTH_DROP) * (1 + 2 * margin)
    length = math.hypot(along_x, along_y)
    if not (math.isfinite(side) and side > 1e-6 and length > 1e-6):
        raise ValueError(f"landmarks {points.round(2).tolist()}: five points of a face are needed, these coincide")
    cosine, sine = along_x / length * (size / side), along_y / length * (size / side)
    centre_x, centre_y = (eyes_x + mouth_x) / 2, (eyes_y + mouth_y) / 2
    nose = (cosine * (nose_x - centre_x) + sine * (nose_y - centre_y)) / size
    shift = min(MAX_SHIFT, max(-MAX_SHIFT, TURN_SHIFT * nose))
    level = 0.5 + (EYE_LEVEL + MOUTH_DROP / 2 - 0.5) / (1 + 2 * margin)
    x, y = (0.5 + shift) * size - 0.5, level * size - 0.5
    return np.array(
        [
            [cosine, sine, x - (cosine * centre_x + sine * centre_y)],
            [-sine, cosine, y - (cosine * centre_y - sine * centre_x)],
        ]
    )


def crop_size(
    landmarks5: npt.ArrayLike, max_size: int = 512, max_upscale: float = MAX_UPSCALE, multiple: int = 32
) -> int:
    """Choose the side of a face's crop.

    Args:
        landmarks5: (5, 2) eyes, nose and mouth corners, pixels of the frame.
        max_size: Side of the crop if the face is large enough, pixels.
        max_upscale: Largest factor by which the crop may enlarge the frame.
        multiple: A side below ``max_size`` is rounded down to a multiple of this number, and is at least this number.

    Returns:
        The side, pixels.
    """
    scale = scale_of(crop_transform(landmarks5, max_size))
    if scale <= max_upscale:
        return max_size
    return max(multiple, math.floor(max_size * max_upscale / scale / multiple) * multiple)


def arcface_transform(landmarks5: npt.ArrayLike, size: int = 112) -> Matrix:
    """Compute the least-squares similarity from an image to ArcFace's aligned face.

    Args:
        landmarks5: (5, 2) eyes, nose and mouth corners, pixels of the image.
        size: Side of the aligned face, pixels.

    Returns:
        (2, 3) similarity from pixels of the image to pixels of the aligned face.

    Raises:
        ValueError: The five points coincide.
    """
    points = _as_five_points(landmarks5)
    # In complex numbers a similarity is target = a * point + b, and the least-squares a is a quotient of two sums.
    z, w = ([complex(x, y) for x, y in p.tolist()] for p in (points, ARCFACE_112 * (size / 112)))
    middle, target_middle = sum(z) / 5, sum(w) / 5
    spread = sum(abs(p - middle) ** 2 for p in z)
    if not spread > 1e-9:
        raise ValueError(f"landmarks {points.round(2).tolist()}: five points of a face are needed, these coincide")
    a = sum((p - middle).conjugate() * (t - target_middle) for p, t in zip(z, w, strict=True)) / spread
    b = target_middle - a * middle
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def warp_crop(frame: npt.NDArray[np.uint8], transform: Matrix, size: int) -> npt.NDArray[np.uint8]:
    """Cut a square crop out of a frame; the crop is black outside the frame.

    To avoid aliasing, a frame that is larger than the crop's scale is first halved by averaging, until the crop shrinks
    it by a factor of two at most. Only the part of the frame that the crop shows is processed.

    Args:
        frame: (H, W, 3) or (H, W).
        transform: (2, 3) similarity from pixels of the frame to pixels of the crop.
        size: Side of the crop, pixels.

    Returns:
        The crop, (size, size, 3) or (size, size).
    """
    part, matrix = _cut_visible_part(frame, np.asarray(transform, np.float64), size)
    while scale_of(matrix) < 0.5 and min(part.shape[:2]) > 1:
        height, width = part.shape[:2]
        half = (max(1, width // 2), max(1, height // 2))
        factor = np.array([width / half[0], height / half[1]])
        part = np.asarray(cv2.resize(part, half, interpolation=cv2.INTER_AREA), np.uint8)
        # full = (half + 0.5) * factor - 0.5, because pixel centres have integer coordinates
        matrix[:, 2] += matrix[:, :2] @ (0.5 * factor - 0.5)
        matrix[:, :2] *= factor
    return np.asarray(cv2.warpAffine(part, matrix, (size, size), flags=cv2.INTER_LINEAR), np.uint8)


def transform_points(transform: Matrix, points: npt.ArrayLike) -> Matrix:
    """Apply a transform to points.

    Args:
        transform: (2, 3).
        points: (..., 2).
    """
    return np.asarray(points, np.float64) @ transform[:, :2].T + transform[:, 2]


def invert_transform(transform: Matrix) -> Matrix:
    """Return the inverse (2, 3) of a transform (2, 3): crop → frame if the transform is frame → crop."""
    return np.asarray(cv2.invertAffineTransform(np.asarray(transform, np.float64)), np.float64)


def scale_of(transform: Matrix) -> float:
    """Return the scale of a similarity (2, 3): crop pixels per frame pixel."""
    a, b, _, c, d, _ = np.asarray(transform, np.float64).ravel().tolist()
    return math.sqrt(abs(a * d - b * c))


def _as_five_points(landmarks5: npt.ArrayLike) -> Matrix:
    return np.asarray(landmarks5, np.float64).reshape(5, 2)


def _cut_visible_part(
    frame: npt.NDArray[np.uint8], transform: Matrix, size: int, reserve: int = 4
) -> tuple[npt.NDArray[np.uint8], Matrix]:
    """Cut the part of a frame that the crop shows, with ``reserve`` pixels around it.

    The part begins at multiples of 64 pixels, so that halving it averages the same pixels as halving the full frame.

    Returns:
        The part, and the transform (2, 3) from pixels of the part to pixels of the crop.
    """
    corners = transform_points(invert_transform(transform), [[-1, -1], [size, -1], [size, size], [-1, size]])
    limit = np.array(frame.shape[1::-1])
    low = np.clip(np.floor(corners.min(axis=0)).astype(int) - reserve, 0, limit - 1) // 64 * 64
    high = np.clip(-(-(np.ceil(corners.max(axis=0)).astype(int) + reserve) // 64 * 64), low + 1, limit)
    shifted = transform.copy()
    shifted[:, 2] += transform[:, :2] @ low
    return np.ascontiguousarray(frame[low[1] : high[1], low[0] : high[0]]), shifted
