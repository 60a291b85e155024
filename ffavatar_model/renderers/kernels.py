"""Loops of the compiled blender, compiled by numba; ``compiled`` calls them. Importing this module imports numba.

Loops over a tile's pixels use unsigned indices and no branches, because LLVM vectorizes only such loops. (A signed
index could be negative, and numba would then have to count from the end of the array.)
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from ffavatar_model.renderers.blending import ALPHA_MAX, TRANSMITTANCE_MIN
from ffavatar_model.renderers.projection import ALPHA_MIN

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[Any]

TILE = 8
"""Pixels along a tile's edge."""
_MOST, _LEAST, _DARK = np.float32(ALPHA_MAX), np.float32(ALPHA_MIN), np.float32(TRANSMITTANCE_MIN)
_HALF, _ONE, _ZERO = np.float32(0.5), np.float32(1), np.float32(0)
_LOWEST = np.float32(np.log(ALPHA_MIN) - 0.1)
_SLACK = np.float32(1e-3)
"""Margin added to a box's half extent, pixels, so that a pixel centre on its edge counts as inside."""
_CHECK_EVERY = 8
"""Number of Gaussians after which a loop checks if all pixels of the tile are opaque."""

_compiled = numba.njit(nogil=True, cache=True, fastmath=True, error_model="numpy")


@numba.njit(inline="always")
def _exp(x: np.float32) -> np.float32:
    """Compute exp(x) of a float32 between -6 and 1, with a relative error of about 1e-6, in vectorizable operations.

    It is the Taylor polynomial of exp(x / 8), squared three times.
    """
    r = x * np.float32(0.125)
    p = np.float32(1 / 5040)
    p = p * r + np.float32(1 / 720)
    p = p * r + np.float32(1 / 120)
    p = p * r + np.float32(1 / 24)
    p = p * r + np.float32(1 / 6)
    p = p * r + _HALF
    p = p * r + _ONE
    p = p * r + _ONE
    p = p * p
    p = p * p
    return p * p


@numba.njit(inline="always")
def _alpha(log_alpha: np.float32) -> np.float32:
    """Return a Gaussian's alpha at a pixel, at most ``ALPHA_MAX``; values below ``ALPHA_MIN`` become 0."""
    alpha = min(_exp(max(log_alpha, _LOWEST)), _MOST)
    return alpha if alpha >= _LEAST else _ZERO


@_compiled
def bin_tiles(shape: Floats, reach: Floats, order: Ints, width: int, height: int) -> tuple[Ints, Ints, Ints]:
    """List the Gaussians of each tile, nearest first.

    Args:
        shape: (N, 6) mean x, y, conic xx, xy, yy, log opacity.
        reach: (N, 2) half extent of each Gaussian's box, pixels; 0 for Gaussians that are not drawn.
        order: (N,) indices of Gaussians, nearest first.
        width: Width of the image, pixels.
        height: Height of the image, pixels.

    Returns:
        Offsets (tiles + 1,) of each tile's list in members; members (entries,), indices of Gaussians; and rows (N, 2),
        the first and the last row of pixels that each Gaussian's box covers.
    """
    columns, lines = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
    n = len(order)
    box = np.empty((n, 4), np.int32)
    rows = np.zeros((n, 2), np.int32)
    offsets = np.zeros(columns * lines + 1, np.int64)
    for i in range(n):
        x, y = shape[i, 0], shape[i, 1]
        rx, ry = reach[i, 0], reach[i, 1]
        box[i, 0] = 1
        box[i, 1] = 0
        if not (rx > _ZERO and ry > _ZERO):
            continue
        rx, ry = rx + _SLACK, ry + _SLACK
        x0, x1 = max(np.ceil(x - rx - _HALF), _ZERO), min(np.floor(x + rx - _HALF), np.float32(width - 1))
        y0, y1 = max(np.ceil(y - ry - _HALF), _ZERO), min(np.floor(y + ry - _HALF), np.float32(height - 1))
        if x1 < x0 or y1 < y0:
            continue
        rows[i, 0], rows[i, 1] = int(y0), int(y1)
        box[i, 0], box[i, 1] = int(x0) // TILE, int(x1) // TILE
        box[i, 2], box[i, 3] = int(y0) // TILE, int(y1) // TILE
        for line in range(box[i, 2], box[i, 3] + 1):
            for column in range(box[i, 0], box[i, 1] + 1):
                offsets[line * columns + column + 1] += 1
    for t in range(columns * lines):
        offsets[t + 1] += offsets[t]
    members = np.empty(offsets[-1], np.int32)
    filled = offsets[:-1].copy()
    for k in range(n):
        i = order[k]
        if box[i, 1] < box[i, 0]:
            continue
        for line in range(box[i, 2], box[i, 3] + 1):
            for column in range(box[i, 0], box[i, 1] + 1):
                t = line * columns + column
                members[filled[t]] = i
                filled[t] += 1
    return offsets, members, rows


@_compiled
def blend_tiles(
    part: int, parts: int, shape: Floats, feature: Floats, offsets: Ints, members: Ints, rows: Ints, out: Floats
) -> None:
    """Blend the tiles of one part of an image.

    Args:
        part: Number of the part, from 0.
        parts: Number of parts into which the image's tiles are divided.
        shape: (N, 6) mean x, y, conic xx, xy, yy, log opacity.
        feature: (N, C) values to blend.
        offsets: (tiles + 1,) from ``bin_tiles``.
        members: (entries,) from ``bin_tiles``.
        rows: (N, 2) from ``bin_tiles``.
        out: (H, W, C) zeros; the blended values are written here.
    """
    height, width, channels = out.shape
    columns = (width + TILE - 1) // TILE
    light = np.empty(TILE * TILE, np.float32)
    weight = np.empty(TILE * TILE, np.float32)
    blended = np.empty((channels, TILE * TILE), np.float32)
    for t in range(len(offsets) - 1):
        line, column = t // columns, t % columns
        if (line + column) % parts != part or offsets[t] == offsets[t + 1]:
            continue
        top, left = line * TILE, column * TILE
        light[:] = _ONE
        blended[:] = _ZERO
        for k in range(offsets[t], offsets[t + 1]):
            i = members[k]
            begin = np.uint64(max(rows[i, 0] - top, 0) * TILE)
            end = np.uint64((min(rows[i, 1] - top, TILE - 1) + 1) * TILE)
            x, y = shape[i, 0] - np.float32(left) - _HALF, shape[i, 1] - np.float32(top) - _HALF
            a, b, c, o = shape[i, 2], shape[i, 3], shape[i, 4], shape[i, 5]
            for p in range(begin, end):
                dx, dy = np.float32(np.int32(p) % TILE) - x, np.float32(np.int32(p) // TILE) - y
                alpha = _alpha(o - _HALF * (a * dx * dx + c * dy * dy) - b * dx * dy)
                before = light[p]
                after = before * (_ONE - alpha)
                light[p] = after
                weight[p] = alpha * before if after > _DARK else _ZERO
            for ch in range(channels):
                f = feature[i, ch]
                for p in range(begin, end):
                    blended[ch, p] += weight[p] * f
            if (k - offsets[t]) % _CHECK_EVERY == _CHECK_EVERY - 1 and light.max() <= _DARK:
                break
        for v in range(min(TILE, height - top)):
            for u in range(min(TILE, width - left)):
                for ch in range(channels):
                    out[top + v, left + u, ch] = blended[ch, v * TILE + u]


@_compiled
def blend_tiles_backward(
    part: int,
    parts: int,
    shape: Floats,
    feature: Floats,
    offsets: Ints,
    members: Ints,
    rows: Ints,
    out: Floats,
    grads: Floats,
    sums: Floats,
) -> None:
    """Compute the gradients from the tiles of one part of an image, and add them to ``sums``.

    Args:
        part: Number of the part, from 0.
        parts: Number of parts into which the image's tiles are divided.
        shape: (N, 6) mean x, y, conic xx, xy, yy, log opacity.
        feature: (N, C) values that were blended.
        offsets: (tiles + 1,) from ``bin_tiles``.
        members: (entries,) from ``bin_tiles``.
        rows: (N, 2) from ``bin_tiles``.
        out: (H, W, C) result of ``blend_tiles``.
        grads: (H, W, C) gradients of the loss with respect to ``out``.
        sums: (N, 6 + C) gradients with respect to shape and feature; this part's are added to it.
    """
    height, width, channels = out.shape
    columns = (width + TILE - 1) // TILE
    light = np.empty(TILE * TILE, np.float32)
    weight = np.empty(TILE * TILE, np.float32)
    gain = np.empty(TILE * TILE, np.float32)
    behind = np.empty(TILE * TILE, np.float32)
    grad = np.empty((channels, TILE * TILE), np.float32)
    for t in range(len(offsets) - 1):
        line, column = t // columns, t % columns
        if (line + column) % parts != part or offsets[t] == offsets[t + 1]:
            continue
        top, left = line * TILE, column * TILE
        light[:] = _ONE
        behind[:] = _ZERO
        grad[:] = _ZERO
        for v in range(min(TILE, height - top)):
            for u in range(min(TILE, width - left)):
                for ch in range(channels):
                    grad[ch, v * TILE + u] = grads[top + v, left + u, ch]
                    behind[v * TILE + u] += grads[top + v, left + u, ch] * out[top + v, left + u, ch]
        for k in range(offsets[t], offsets[t + 1]):
            i = members[k]
            begin = np.uint64(max(rows[i, 0] - top, 0) * TILE)
            end = np.uint64((min(rows[i, 1] - top, TILE - 1) + 1) * TILE)
            x, y = shape[i, 0] - np.float32(left) - _HALF, shape[i, 1] - np.float32(top) - _HALF
            a, b, c, o = shape[i, 2], shape[i, 3], shape[i, 4], shape[i, 5]
            for p in range(begin, end):
                gain[p] = _ZERO
            for ch in range(channels):
                f = feature[i, ch]
                for p in range(begin, end):
                    gain[p] += grad[ch, p] * f
            s0, sx, sy, sxx, sxy, syy = _ZERO, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO
            for p in range(begin, end):
                dx, dy = np.float32(np.int32(p) % TILE) - x, np.float32(np.int32(p) // TILE) - y
                alpha = _alpha(o - _HALF * (a * dx * dx + c * dy * dy) - b * dx * dy)
                before = light[p]
                after = before * (_ONE - alpha)
                light[p] = after
                alpha = alpha if after > _DARK else _ZERO
                w = alpha * before
                weight[p] = w
                rest = behind[p] - w * gain[p]
                behind[p] = rest
                slope = w * gain[p] - rest * alpha / (_ONE - alpha)
                slope = slope if alpha < _MOST else _ZERO
                s0 += slope
                sx += slope * dx
                sy += slope * dy
                sxx += slope * dx * dx
                sxy += slope * dx * dy
                syy += slope * dy * dy
            sums[i, 0] += a * sx + b * sy
            sums[i, 1] += b * sx + c * sy
            sums[i, 2] -= _HALF * sxx
            sums[i, 3] -= sxy
            sums[i, 4] -= _HALF * syy
            sums[i, 5] += s0
            for ch in range(channels):
                s = _ZERO
                for p in range(begin, end):
                    s += weight[p] * grad[ch, p]
                sums[i, 6 + ch] += s
            if (k - offsets[t]) % _CHECK_EVERY == _CHECK_EVERY - 1 and light.max() <= _DARK:
                break
