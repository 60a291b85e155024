"""Quality of the image of a face, computed from pixels without a network. The presets hold the thresholds."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.faces.align import arcface_transform

Image = npt.NDArray[np.uint8]

SIDE = 112
"""Side of the aligned face on which sharpness and exposure are measured, pixels."""

DARK, BRIGHT = 8, 247
"""Grey levels at or beyond which a pixel counts as clipped. Limited-range video seldom reaches 0 and 255."""

BLOCK = 8
"""Side of a block of the video codecs' transform grid, pixels."""


def aligned_grey(image: Image, landmarks5: npt.ArrayLike) -> Image:
    """Align a face for ``sharpness`` and ``exposure``.

    The sampling is bilinear without averaging, as in the input of recognisers. A large face therefore keeps its fine
    detail, and a small face is enlarged and stays unsharp.

    Args:
        image: (H, W, 3) RGB.
        landmarks5: (5, 2) eyes, nose and mouth corners, pixels of the image.

    Returns:
        (112, 112) grey image.
    """
    face = cv2.warpAffine(image, arcface_transform(landmarks5, SIDE), (SIDE, SIDE))
    return np.asarray(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), np.uint8)


def sharpness(grey: Image) -> float:
    """Return the variance of the Laplacian (4 neighbours) of an aligned grey face, in grey levels squared.

    Only the inner three quarters of the width and height count, so that the surroundings do not determine the result.

    Args:
        grey: (S, S), as ``aligned_grey`` returns it.
    """
    edge = grey.shape[0] // 8
    laplacian = cv2.Laplacian(grey, cv2.CV_64F)[edge:-edge, edge:-edge]
    return float(laplacian.var())


def exposure(grey: Image) -> float:
    """Return the mean luminance of an aligned grey face minus its share of clipped pixels, 0 to 1.

    As in ``sharpness``, only the inner three quarters count.

    Args:
        grey: (S, S), as ``aligned_grey`` returns it.
    """
    edge = grey.shape[0] // 8
    inner = grey[edge:-edge, edge:-edge]
    clipped = float(((inner <= DARK) | (inner >= BRIGHT)).mean())
    return max(0.0, float(inner.mean()) / 255 - clipped)


def completeness(box: npt.ArrayLike, width: int, height: int) -> float:
    """Return the share of a box that lies inside the frame, 0 to 1; 0 for an empty box.

    Args:
        box: (4,) left, upper, right, lower edge, pixels.
        width: Width of the frame, pixels.
        height: Height of the frame, pixels.
    """
    x0, y0, x1, y1 = np.asarray(box, np.float64)
    area = max(0.0, x1 - x0) * max(0.0, y1 - y0)
    inside = max(0.0, min(x1, width) - max(x0, 0.0)) * max(0.0, min(y1, height) - max(y0, 0.0))
    return float(inside / area) if area > 0 else 0.0


def compression(frame: Image, box: npt.ArrayLike) -> float:
    """Measure the blockiness of a face's box in the decoded frame; 0 means no visible blocks.

    The blockiness is the mean brightness step between neighbouring pixels across a line of the 8-pixel grid, divided by
    the mean step inside the blocks, minus one; rows and columns are averaged together. Noise can make it slightly
    negative.

    Args:
        frame: (H, W, 3) RGB, not resized, because the grid is that of the codec.
        box: (4,) left, upper, right, lower edge, pixels.

    Returns:
        The blockiness; 0 if the box is less than two blocks wide or high.
    """
    height, width = frame.shape[:2]
    x0, y0, x1, y1 = np.asarray(box, np.float64)
    left, top = max(0, int(x0)), max(0, int(y0))
    right, bottom = min(width, int(np.ceil(x1))), min(height, int(np.ceil(y1)))
    if right - left < 2 * BLOCK or bottom - top < 2 * BLOCK:
        return 0.0
    grey = cv2.cvtColor(np.ascontiguousarray(frame[top:bottom, left:right]), cv2.COLOR_RGB2GRAY).astype(np.float64)
    on_grid, off_grid = [], []
    for axis, start in ((0, top), (1, left)):
        steps = np.abs(np.diff(grey, axis=axis)).mean(axis=1 - axis)
        across = (start + 1 + np.arange(len(steps))) % BLOCK == 0
        on_grid.append(steps[across])
        off_grid.append(steps[~across])
    inside = float(np.concatenate(off_grid).mean())
    return float(np.concatenate(on_grid).mean()) / inside - 1 if inside > 0 else 0.0


def occlusion(mesh468: npt.ArrayLike, matte: Image) -> float:
    """Return the share of a face that its matte does not cover, 0 to 1.

    The face is the convex hull of its mesh; the part outside the crop is ignored.

    Args:
        mesh468: (468, 2 or 3) pixels of the crop.
        matte: (H, W), 255 is the person.

    Returns:
        The share; 1 if the whole face lies outside the crop.
    """
    outline = cv2.convexHull(np.array(mesh468, np.float32)[:, :2].copy())
    face = np.zeros(matte.shape, np.uint8)
    cv2.fillConvexPoly(face, np.round(outline).astype(np.int32), 255)
    inside = face > 0
    return 1.0 - float(matte[inside].mean()) / 255 if inside.any() else 1.0
