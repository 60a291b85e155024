"""Indices of face-mesh points on movable parts of a face (MediaPipe's topology, Apache-2.0; 468 points)."""

from __future__ import annotations

import torch
from torch import Tensor

LIPS = (
    61,
    146,
    91,
    181,
    84,
    17,
    314,
    405,
    321,
    375,
    291,
    409,
    270,
    269,
    267,
    0,
    37,
    39,
    40,
    185,
    78,
    95,
    88,
    178,
    87,
    14,
    317,
    402,
    318,
    324,
    308,
    415,
    310,
    311,
    312,
    13,
    82,
    81,
    80,
    191,
)
"""Points of the outer and inner contours of the lips."""
RIGHT_LIDS = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_LIDS = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
RIGHT_BROW = (70, 63, 105, 66, 107, 46, 53, 52, 65, 55)
LEFT_BROW = (300, 293, 334, 296, 336, 276, 283, 282, 295, 285)
PARTS = {
    "lips": LIPS,
    "right_lids": RIGHT_LIDS,
    "left_lids": LEFT_LIDS,
    "right_brow": RIGHT_BROW,
    "left_brow": LEFT_BROW,
}
RIGID = (10, 151, 251, 284, 168, 6, 197, 195, 5, 4, 133, 362, 263, 33, 21, 54)
"""Points that move only with the skull: on the forehead, the ridge of the nose and the corners of the eyes."""
INNER_LIPS = ((13, 14), (82, 87), (312, 317))
"""Pairs of points (upper, lower) on both sides of the gap between the lips."""
LID_GAPS = ((159, 145), (386, 374))
"""Pairs of points (upper, lower) on the lids of the right and of the left eye."""


def landmark_rows(points: tuple[int, ...], landmark_index: Tensor) -> Tensor:
    """Find the rows of face-mesh points among a head's landmarks.

    Args:
        points: Indices of face-mesh points.
        landmark_index: (L,) index of each landmark of the head among the face-mesh points.

    Returns:
        (K,) rows of the landmarks, in the order of ``points``; points that are no landmark of the head are left out.
    """
    row_of = {int(point): row for row, point in enumerate(landmark_index.tolist())}
    return torch.tensor([row_of[p] for p in points if p in row_of], dtype=torch.int64, device=landmark_index.device)
