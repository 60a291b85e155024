"""The aligned crop: one layout of the head in a square picture, whoever and however large it is in the frame."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

MAX_UPSCALE = 1.5
"""A crop is made smaller rather than enlarged beyond this factor."""

EYE_SPAN = 0.22
"""Distance of the eyes in the crop, of its side, in a frontal face: hair and chin are inside."""

MOUTH_DROP = 0.254
"""Distance from between the eyes to between the mouth corners, of the crop's side: 1.155 eye distances."""

EYE_LEVEL = 0.53
"""Height of the eyes in the crop, from its top, of its side."""

TURN_SHIFT = 1.5
"""How far a turned head moves back to the middle: this many times the nose's offset from the middle of eyes and mouth.

The nose's tip lies about 10 cm before the head's centre and the eyes 7 cm, so the centre is 7 / 3 of that offset
behind the eyes; less is taken, as the nose is the least certain of the five points.
"""

MAX_SHIFT = 0.15
"""The farthest that a turned head moves, of the crop's side."""

ARCFACE_112 = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float64
)
"""Where ArcFace models want the five landmarks in a 112-pixel picture (insightface's ``arcface_dst``)."""

Matrix = npt.NDArray[np.float64]


def crop_transform(landmarks5: npt.ArrayLike, size: int = 512, margin: float = 0.0) -> Matrix:
    """Similarity (2, 3) from frame pixels to pixels of a ``size`` square crop that holds the whole head.

    In a frontal face the eyes lie at (0.39, 0.53) and (0.61, 0.53) of the crop, the mouth at (0.5, 0.78). The scale
    is the larger face of two: that by the distance of the eyes (which shrinks in a turn) and that by the distance from
    eyes to mouth (which shrinks in a nod); rotation comes from both, and a turned head is moved to the middle, so a
    profile neither fills the crop, nor tips over, nor loses the back of the head. Pixel centres are at whole
    numbers, as in OpenCV. ``margin`` adds that share of the side all around.
    Raises ValueError where the five points fall together.
    """
    points = _five(landmarks5)
    # in plain numbers: arrays of two would take ten times as long
    (left_x, left_y), (right_x, right_y), (nose_x, nose_y), (x3, y3), (x4, y4) = points.tolist()
    eyes_x, eyes_y, mouth_x, mouth_y = (left_x + right_x) / 2, (left_y + right_y) / 2, (x3 + x4) / 2, (y3 + y4) / 2
    across_x, across_y, down_x, down_y = right_x - left_x, right_y - left_y, mouth_x - eyes_x, mouth_y - eyes_y
    # Both axes vote on the crop's x axis, each with its length: `down` turned by 90 degrees points along x.
    along_x, along_y = across_x + down_y, across_y - down_x
    side = max(math.hypot(across_x, across_y) / EYE_SPAN, math.hypot(down_x, down_y) / MOUTH_DROP) * (1 + 2 * margin)
    length = math.hypot(along_x, along_y)
    if not (math.isfinite(side) and side > 1e-6 and length > 1e-6):
        raise ValueError(f"landmarks {points.round(2).tolist()}: five points of a face are needed, these fall together")
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
    landmarks5: npt.ArrayLike, wanted: int = 512, max_upscale: float = MAX_UPSCALE, multiple: int = 32
) -> int:
    """Side of the crop: ``wanted``, or the next lower ``multiple`` that enlarges the frame by at most ``max_upscale``.

    Never under one ``multiple``.
    """
    scale = scale_of(crop_transform(landmarks5, wanted))
    if scale <= max_upscale:
        return wanted
    return max(multiple, math.floor(wanted * max_upscale / scale / multiple) * multiple)


def arcface_transform(landmarks5: npt.ArrayLike, size: int = 112) -> Matrix:
    """Similarity (2, 3), least squares, from picture pixels to ArcFace's aligned face of ``size`` pixels."""
    points = _five(landmarks5)
    # As complex numbers a similarity is target = a * point + b; the least squares a is a quotient of two sums.
    z, w = ([complex(x, y) for x, y in p.tolist()] for p in (points, ARCFACE_112 * (size / 112)))
    middle, wanted = sum(z) / 5, sum(w) / 5
    spread = sum(abs(p - middle) ** 2 for p in z)
    if not spread > 1e-9:
        raise ValueError(f"landmarks {points.round(2).tolist()}: five points of a face are needed, these fall together")
    a = sum((p - middle).conjugate() * (t - wanted) for p, t in zip(z, w, strict=True)) / spread
    b = wanted - a * middle
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def warp_crop(frame: npt.NDArray[np.uint8], transform: Matrix, size: int) -> npt.NDArray[np.uint8]:
    """The square crop of a frame ((H, W, 3) or (H, W)) under a frame → crop transform; black outside the frame.

    A frame that shrinks is averaged, not sampled: it is halved (area) until less than a factor of two is left.
    Only the part that the crop shows is worked on.
    """
    part, matrix = _part_shown(frame, np.asarray(transform, np.float64), size)
    while scale_of(matrix) < 0.5 and min(part.shape[:2]) > 1:
        height, width = part.shape[:2]
        half = (max(1, width // 2), max(1, height // 2))
        factor = np.array([width / half[0], height / half[1]])
        part = np.asarray(cv2.resize(part, half, interpolation=cv2.INTER_AREA), np.uint8)
        # full = (half + 0.5) * factor - 0.5: pixel centres, not corners, are at whole numbers
        matrix[:, 2] += matrix[:, :2] @ (0.5 * factor - 0.5)
        matrix[:, :2] *= factor
    return np.asarray(cv2.warpAffine(part, matrix, (size, size), flags=cv2.INTER_LINEAR), np.uint8)


def transform_points(transform: Matrix, points: npt.ArrayLike) -> Matrix:
    """Points (..., 2) under a (2, 3) transform."""
    return np.asarray(points, np.float64) @ transform[:, :2].T + transform[:, 2]


def invert(transform: Matrix) -> Matrix:
    """The (2, 3) transform that leads back: crop → frame."""
    return np.asarray(cv2.invertAffineTransform(np.asarray(transform, np.float64)), np.float64)


def scale_of(transform: Matrix) -> float:
    """Crop pixels per frame pixel of a similarity."""
    a, b, _, c, d, _ = np.asarray(transform, np.float64).ravel().tolist()
    return math.sqrt(abs(a * d - b * c))


def _five(landmarks5: npt.ArrayLike) -> Matrix:
    return np.asarray(landmarks5, np.float64).reshape(5, 2)


def _part_shown(
    frame: npt.NDArray[np.uint8], transform: Matrix, size: int, reserve: int = 4
) -> tuple[npt.NDArray[np.uint8], Matrix]:
    """The rectangle of the frame that the crop shows, ``reserve`` pixels more all around, and its transform.

    Its corners lie at multiples of 64, so that halving pairs the same pixels whatever is cut away.
    """
    corners = transform_points(invert(transform), [[-1, -1], [size, -1], [size, size], [-1, size]])
    limit = np.array(frame.shape[1::-1])
    low = np.clip(np.floor(corners.min(axis=0)).astype(int) - reserve, 0, limit - 1) // 64 * 64
    high = np.clip(-(-(np.ceil(corners.max(axis=0)).astype(int) + reserve) // 64 * 64), low + 1, limit)
    moved = transform.copy()
    moved[:, 2] += transform[:, :2] @ low
    return np.ascontiguousarray(frame[low[1] : high[1], low[0] : high[0]]), moved
